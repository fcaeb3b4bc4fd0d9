//! The disk, `vda` (virtio 1.2, section 5.2): a vhost-user front end. Another process serves the queue; this one
//! forwards the configuration, hands over memory, rings and descriptors, and keeps the log of pages that it writes.

mod backend;
mod state;

pub use backend::Backend;
pub use state::BlockState;

use super::virtio::{Broken, Device, Io};

const F_SIZE_MAX: u64 = 1 << 1;
const F_SEG_MAX: u64 = 1 << 2;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;
const F_INDIRECT_DESC: u64 = super::virtio::F_INDIRECT_DESC;
const F_EVENT_IDX: u64 = super::virtio::F_EVENT_IDX;

/// Block features that pass through from the backend to the guest. Read-only and multiple queues do not.
const PASSED: u64 = F_SIZE_MAX
    | F_SEG_MAX
    | F_BLK_SIZE
    | F_FLUSH
    | F_TOPOLOGY
    | F_DISCARD
    | F_WRITE_ZEROES
    | F_INDIRECT_DESC
    | F_EVENT_IDX;

/// The device.
pub struct Block {
    backend: Option<Backend>,
    config: Vec<u8>,
    features: u64,
}

impl Block {
    /// A disk that this backend serves; without one, a disk of no size.
    pub fn new(backend: Option<Backend>) -> Self {
        let (features, config) =
            backend.as_ref().map_or_else(Default::default, |b| (b.features(), b.config()));
        Self { backend, config, features: features & PASSED }
    }

    /// The backend.
    pub fn backend(&self) -> Option<&Backend> {
        self.backend.as_ref()
    }
}

impl Device for Block {
    const TYPE: u32 = 2;
    const QUEUES: &'static [u16] = &[128];
    const OFFLOADED: bool = true;
    type State = BlockState;

    fn features(&self) -> u64 {
        self.features
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        for (to, from) in data.iter_mut().zip(self.config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn start(&mut self, io: &mut Io, _restored: bool) -> Result<(), Broken> {
        match &mut self.backend {
            Some(backend) => backend.start(io).map_err(|e| Broken(e.to_string())),
            None => Ok(()),
        }
    }

    fn stop(&mut self, io: &mut Io) -> Result<(), Broken> {
        match &mut self.backend {
            Some(backend) => backend.stop(io).map_err(|e| Broken(e.to_string())),
            None => Ok(()),
        }
    }

    fn reset(&mut self, io: &mut Io) {
        if let Some(backend) = &mut self.backend
            && let Err(e) = backend.stop(io)
        {
            tracing::warn!("the disk did not stop at the guest's reset: {e}");
        }
    }

    fn serve(&mut self, _queue: usize, _io: &mut Io) -> Result<(), Broken> {
        Ok(())
    }

    fn save(&self) -> BlockState {
        BlockState { config: self.config.clone() }
    }
}

#[cfg(test)]
mod tests;
