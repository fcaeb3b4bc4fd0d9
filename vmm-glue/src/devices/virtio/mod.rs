//! What the virtio devices share: the virtio-mmio transport (virtio 1.2, section 4.2), queues and their saved state.

mod device;
mod state;
mod transport;

pub use device::{Broken, Device, Interrupt, Io};
pub use state::{QueueState, TransportState};
pub use transport::Transport;

/// Device status: the driver works.
pub const DRIVER_OK: u32 = 4;
/// Device status: the driver has accepted the features.
pub const FEATURES_OK: u32 = 8;
/// Device status: the device gave up, the driver must reset it.
pub const NEEDS_RESET: u32 = 64;

/// Feature: virtio 1.
pub const F_VERSION_1: u64 = 1 << 32;
/// Feature: indirect descriptors.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// Feature: used and available event indexes.
pub const F_EVENT_IDX: u64 = 1 << 29;

/// Interrupt status: a queue was used.
pub const INT_QUEUE: u32 = 1;
/// Interrupt status: the configuration changed.
pub const INT_CONFIG: u32 = 2;

#[cfg(test)]
pub(crate) mod tests;
