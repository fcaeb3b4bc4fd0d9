//! Saved state of the entropy device.

use serde::{Deserialize, Serialize};

/// Nothing beside the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngState {}
