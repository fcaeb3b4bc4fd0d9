//! Saved state of the disk.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bytes of the configuration that decide what the guest believes of its disk: the capacity.
const CAPACITY: std::ops::Range<usize> = 0..8;

/// What is kept beside the transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockState {
    /// The configuration space that the guest saw.
    #[serde(with = "hex::serde")]
    pub config: Vec<u8>,
}

impl BlockState {
    /// Refuses a backend whose disk is not the one that was saved.
    ///
    /// # Errors
    /// The two capacities.
    pub fn check(&self, config: &[u8]) -> Result<()> {
        let capacity =
            |c: &[u8]| c.get(CAPACITY).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let (then, now) = (capacity(&self.config), capacity(config));
        if then != now {
            return Err(Error::State(format!("its disk had {then} sectors and the disk here has {now}")));
        }
        Ok(())
    }
}
