//! A manifest, as text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minipod_fuzz::manifest::check(data));
