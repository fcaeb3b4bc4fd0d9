//! The client engine: fetches pieces of a parcel, keeps sealed copies and changed pieces, serves a guest's disk and
//! memory, and commits what changed. `cached` runs it on a kiosk; `waystation` uses it on an administrator's machine.

pub mod budget;
pub mod commit;
pub mod control;
pub mod daemon;
pub mod disk;
pub mod fetch;
pub mod guest;
pub mod harden;
pub mod keyring;
pub mod memory;
pub mod open;
mod ram;
pub mod remote;
pub mod status;
pub mod store;
pub mod tenure;
