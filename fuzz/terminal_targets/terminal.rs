//! See `terminal_entries::terminal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| waystation_fuzz::terminal_entries::terminal(data));
