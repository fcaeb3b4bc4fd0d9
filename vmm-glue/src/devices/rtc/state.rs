//! Saved state of the real-time clock.

use serde::{Deserialize, Serialize};

/// Registers and CMOS bytes; every value is one that a guest may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtcState {
    /// The register that the data port shows.
    pub index: u8,
    /// Number format.
    pub status_b: u8,
    /// The CMOS bytes; those beyond the chip's 128 are ignored, those missing are 0.
    pub cmos: Vec<u8>,
}
