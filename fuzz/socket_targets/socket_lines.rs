//! See `socket_entries::lines`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::socket_entries::lines(data));
