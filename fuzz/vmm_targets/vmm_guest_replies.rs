//! See `vmm_entries::guest_replies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::vmm_entries::guest_replies(data));
