//! See `vmm_entries::net`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::vmm_entries::net(data));
