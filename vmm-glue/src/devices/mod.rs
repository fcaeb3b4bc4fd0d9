//! The devices. Every folder has the same rooms: `mod.rs` the device, `state.rs` its saved state, `tests.rs` its tests.

pub mod block;
pub mod bus;
pub mod console;
pub mod i8042;
pub mod irq;
pub mod net;
pub mod power;
pub mod rng;
pub mod rtc;
pub mod serial;
pub mod virtio;
