//! Saved state of power management.

use serde::{Deserialize, Serialize};

/// Events that the guest has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerState {
    /// Bits of the event register; unknown ones are ignored.
    pub events: u8,
}
