//! An image archive, as `minipod image load` is given one.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| minipod_fuzz::archive::check(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    minipod_fuzz::tar_sums::mend(&mut data[..size]);
    size
});
