//! See `entries::chunk_body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::entries::chunk_body(data));
