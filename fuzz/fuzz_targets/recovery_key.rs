//! See `entries::recovery_key`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::entries::recovery_key(data));
