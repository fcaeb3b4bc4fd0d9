//! See `vmm_entries::state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::vmm_entries::state(data));
