//! What a suspended machine *is*: chunk sealing, keyring leaves, memory packs, version records, key slots,
//! the hardware tag, and the types that the parts of Waystation send each other.
//!
//! This crate does no I/O, reads no clock and starts no thread; randomness is handed in by the caller.
//! Formats are described in `docs/formats.md`.

pub mod changes;
pub mod chunk;
mod envelope;
pub mod id;
pub mod kernel;
pub mod keymap;
pub mod keyring;
pub mod pages;
mod parse;
pub mod record;
pub mod secret;
pub mod slot;
pub mod tag;
pub mod wire;

/// The largest object that is ever stored or sent as one: chunk, keyring leaf or version record, in bytes.
pub const MAX_OBJECT: usize = 1 << 20;
