//! Saved state of the transport and its queues: untrusted until checked.

use crate::{
    bounded,
    error::{Error, Result},
    memory::Memory,
};
use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};

/// Most queues that any device here has.
const QUEUES_MAX: usize = 3;

/// A queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// Entries that the driver chose.
    pub size: u16,
    /// Whether the driver set it up.
    pub ready: bool,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring.
    pub available: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
    /// Next available entry to serve.
    pub next_available: u16,
    /// Next used entry to fill.
    pub next_used: u16,
}

impl QueueState {
    /// Of a queue.
    pub fn of(queue: &Queue) -> Self {
        Self {
            size: queue.size(),
            ready: queue.ready(),
            descriptors: queue.desc_table(),
            available: queue.avail_ring(),
            used: queue.used_ring(),
            next_available: queue.next_avail(),
            next_used: queue.next_used(),
        }
    }

    /// The queue, if the state is one that a queue of at most `max` entries can have; one that is `served` must lie in this
    /// memory. Of one that is not yet, a driver may have written anything: the transport looks when it starts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, max: u16, event_idx: bool, served: bool, memory: &Memory) -> Result<Queue> {
        let bad = |what: &str| Error::State(format!("a virtio queue {what}"));
        if self.size == 0 || !self.size.is_power_of_two() || self.size > max {
            return Err(bad(&format!("has {} entries of {max}", self.size)));
        }
        let state = virtio_queue::QueueState {
            max_size: max,
            next_avail: self.next_available,
            next_used: self.next_used,
            event_idx_enabled: event_idx,
            size: self.size,
            ready: self.ready,
            desc_table: self.descriptors,
            avail_ring: self.available,
            used_ring: self.used,
        };
        let queue = Queue::try_from(state).map_err(|e| bad(&format!("is malformed: {e}")))?;
        if served && self.ready && !queue.is_valid(memory) {
            return Err(bad("lies outside guest memory"));
        }
        Ok(queue)
    }

    /// The runs of guest memory that the device side writes: the used ring.
    pub fn written(&self) -> Option<(u64, u64)> {
        self.ready.then(|| (self.used, 6 + 8 * u64::from(self.size)))
    }
}

/// A device with its transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransportState<S> {
    /// Device status register.
    pub status: u32,
    /// Features that the driver accepted.
    pub driver_features: u64,
    /// Which half of the device's features shows.
    pub device_features_select: u32,
    /// Which half of the driver's features is written.
    pub driver_features_select: u32,
    /// Which queue the queue registers show.
    pub queue_select: u32,
    /// Interrupt causes that the driver has not acknowledged.
    pub interrupt_causes: u32,
    /// Counts configuration changes.
    pub config_generation: u32,
    /// The queues.
    #[serde(deserialize_with = "bounded::list::<_, _, { QUEUES_MAX }>")]
    pub queues: Vec<QueueState>,
    /// What the device itself keeps.
    pub device: S,
}
