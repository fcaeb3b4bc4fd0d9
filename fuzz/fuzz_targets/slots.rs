//! See `entries::slots`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::entries::slots(data));
