//! The network card (virtio 1.2, section 5.1) on a named tap. After a restore it asks the driver to announce itself, so
//! that the new kiosk's network learns where the guest is.

mod state;
pub mod tap;

pub use state::NetState;

use super::virtio::{Broken, Device, Io};
use std::io::{Read as _, Write as _};
use tap::Tap;

const F_CSUM: u64 = 1 << 0;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_MAC: u64 = 1 << 5;
const F_HOST_TSO4: u64 = 1 << 11;
const F_HOST_TSO6: u64 = 1 << 12;
const F_STATUS: u64 = 1 << 16;
const F_CTRL_VQ: u64 = 1 << 17;
const F_GUEST_ANNOUNCE: u64 = 1 << 21;

const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;
const CTRL_ANNOUNCE: u8 = 3;
const CTRL_OK: u8 = 0;
const CTRL_ERROR: u8 = 1;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL: usize = 2;

/// A frame with its virtio header: 64 KiB of payload, Ethernet header, VLAN tag, `virtio_net_hdr_v1`.
const FRAME_MAX: usize = 65_536 + 18 + tap::HEADER;

/// The device.
pub struct Net {
    tap: Option<Tap>,
    mac: [u8; 6],
    announce: bool,
    /// A received frame that waits for a buffer.
    waiting: Vec<u8>,
    frame: Box<[u8]>,
}

impl Net {
    /// A card with this address; without a tap the link is down.
    pub fn new(mac: [u8; 6], tap: Option<Tap>) -> Self {
        let frame = vec![0; FRAME_MAX].into_boxed_slice();
        Self { tap, mac, announce: false, waiting: Vec::new(), frame }
    }

    /// A card as it was saved.
    pub fn restored(mac: [u8; 6], tap: Option<Tap>, state: NetState) -> Self {
        Self { announce: state.announce, ..Self::new(mac, tap) }
    }

    /// The tap, to be waited for.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// Asks the driver to announce its addresses; the configuration changes with it.
    pub fn ask_to_announce(&mut self) {
        self.announce = true;
    }

    fn status(&self) -> u16 {
        let link = if self.tap.is_some() { LINK_UP } else { 0 };
        link | if self.announce { ANNOUNCE } else { 0 }
    }

    /// Moves frames from the tap into the guest's buffers, until either has no more.
    ///
    /// # Errors
    /// Buffers outside guest memory.
    pub fn receive(&mut self, io: &mut Io) -> Result<(), Broken> {
        if self.tap.is_none() || !io.ready(RECEIVE) {
            return Ok(());
        }
        let memory = io.memory;
        while self.fetch() {
            let Some(chain) = io.next(RECEIVE)? else { break };
            let head = chain.head_index();
            let mut writer = chain.writer(memory)?;
            let mut used = 0;
            // A buffer that is too small costs the frame, as on a real card.
            if writer.available_bytes() >= self.waiting.len() {
                writer.write_all(&self.waiting).map_err(|e| Broken(e.to_string()))?;
                used = self.waiting.len();
                self.waiting.clear();
            } else {
                tracing::debug!("a received frame of {} bytes was dropped", self.waiting.len());
                self.waiting.clear();
            }
            io.used(RECEIVE, head, used)?;
        }
        io.signal(RECEIVE)
    }

    /// Makes sure that a frame waits, if there is one.
    fn fetch(&mut self) -> bool {
        if self.waiting.is_empty()
            && let Some(tap) = &self.tap
            && let Some(length) = tap.receive(&mut self.frame)
        {
            self.waiting.extend_from_slice(&self.frame[..length]);
            // `num_buffers` of the header: one, as without merged buffers.
            self.waiting[10..tap::HEADER].copy_from_slice(&1u16.to_le_bytes());
        }
        !self.waiting.is_empty()
    }

    fn transmit(&mut self, io: &mut Io) -> Result<(), Broken> {
        let memory = io.memory;
        while let Some(chain) = io.next(TRANSMIT)? {
            let head = chain.head_index();
            let mut reader = chain.reader(memory)?;
            let length = reader.available_bytes();
            if (tap::HEADER..=FRAME_MAX).contains(&length) {
                reader.read_exact(&mut self.frame[..length]).map_err(|e| Broken(e.to_string()))?;
                if let Some(tap) = &self.tap {
                    tap.send(&self.frame[..length]);
                }
            }
            io.used(TRANSMIT, head, 0)?;
        }
        io.signal(TRANSMIT)
    }

    fn control(&mut self, io: &mut Io) -> Result<(), Broken> {
        let memory = io.memory;
        while let Some(chain) = io.next(CONTROL)? {
            let head = chain.head_index();
            let mut reader = chain.clone().reader(memory)?;
            let mut command = [0; 2];
            let understood = reader.read_exact(&mut command).is_ok() && command == [CTRL_ANNOUNCE, 0];
            if understood {
                self.announce = false;
            }
            let answer = if understood { CTRL_OK } else { CTRL_ERROR };
            let mut writer = chain.writer(memory)?;
            writer.write_all(&[answer]).map_err(|e| Broken(e.to_string()))?;
            io.used(CONTROL, head, 1)?;
        }
        io.signal(CONTROL)
    }
}

impl Device for Net {
    const TYPE: u32 = 1;
    const QUEUES: &'static [u16] = &[256, 256, 64];
    type State = NetState;

    fn features(&self) -> u64 {
        F_CSUM | F_GUEST_CSUM | F_MAC | F_HOST_TSO4 | F_HOST_TSO6 | F_STATUS | F_CTRL_VQ | F_GUEST_ANNOUNCE
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.mac);
        config[6..8].copy_from_slice(&self.status().to_le_bytes());
        // One pair of queues.
        config[8] = 1;
        for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn start(&mut self, io: &mut Io, _restored: bool) -> Result<(), Broken> {
        if let Some(tap) = &self.tap {
            tap.set_offloads(io.features & F_GUEST_CSUM != 0);
        }
        self.receive(io)
    }

    fn stop(&mut self, _io: &mut Io) -> Result<(), Broken> {
        // A frame on the way is lost, as frames may be.
        self.waiting.clear();
        Ok(())
    }

    fn reset(&mut self, _io: &mut Io) {
        self.announce = false;
        self.waiting.clear();
    }

    fn serve(&mut self, queue: usize, io: &mut Io) -> Result<(), Broken> {
        match queue {
            RECEIVE => self.receive(io),
            TRANSMIT => self.transmit(io),
            _ => self.control(io),
        }
    }

    fn save(&self) -> NetState {
        NetState { announce: self.announce }
    }
}

#[cfg(test)]
mod tests;
