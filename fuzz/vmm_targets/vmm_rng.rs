//! See `vmm_entries::rng`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::vmm_entries::rng(data));
