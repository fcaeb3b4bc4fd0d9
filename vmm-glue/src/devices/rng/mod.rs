//! Entropy: the kiosk's random bytes for the guest (virtio 1.2, section 5.4). It keeps nothing.

mod state;

pub use state::RngState;

use super::virtio::{Broken, Device, Io};
use std::io::Write as _;

/// Most bytes that one request is given; less than asked for is allowed.
const MOST: usize = 4096;

/// The device.
#[derive(Default)]
pub struct Rng;

impl Device for Rng {
    const TYPE: u32 = 4;
    const QUEUES: &'static [u16] = &[64];
    type State = RngState;

    fn features(&self) -> u64 {
        0
    }

    fn read_config(&self, _offset: usize, _data: &mut [u8]) {}

    fn start(&mut self, _io: &mut Io, _restored: bool) -> Result<(), Broken> {
        Ok(())
    }

    fn stop(&mut self, _io: &mut Io) -> Result<(), Broken> {
        Ok(())
    }

    fn reset(&mut self, _io: &mut Io) {}

    fn serve(&mut self, queue: usize, io: &mut Io) -> Result<(), Broken> {
        let memory = io.memory;
        while let Some(chain) = io.next(queue)? {
            let head = chain.head_index();
            let mut writer = chain.writer(memory)?;
            let mut bytes = vec![0; writer.available_bytes().min(MOST)];
            getrandom::fill(&mut bytes).map_err(|e| Broken(format!("no random bytes: {e}")))?;
            writer.write_all(&bytes).map_err(|e| Broken(e.to_string()))?;
            io.used(queue, head, bytes.len())?;
        }
        io.signal(queue)
    }

    fn save(&self) -> RngState {
        RngState {}
    }
}

#[cfg(test)]
mod tests;
