//! A log file in CRI format, and what is written to one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| minipod_fuzz::cri_log::check(data));
