//! What a suspended machine *is*: chunk sealing, keyring leaves, memory packs, version records, key slots,
//! the hardware tag, and the types that the parts of Waystation send each other.
//!
//! This crate does no I/O, reads no clock and starts no thread; randomness is handed in by the caller.
//! Formats are described in `docs/formats.md`.

pub mod id;
pub mod tag;
pub mod wire;
