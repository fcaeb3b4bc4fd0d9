//! See `vmm_entries::disk_replies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::vmm_entries::disk_replies(data));
