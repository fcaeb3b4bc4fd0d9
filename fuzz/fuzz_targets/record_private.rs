//! See `entries::record_private`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::entries::record_private(data));
