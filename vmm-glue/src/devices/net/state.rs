//! Saved state of the network card.

use serde::{Deserialize, Serialize};

/// What is kept beside the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetState {
    /// The driver was asked to announce itself and has not said that it did.
    pub announce: bool,
}
