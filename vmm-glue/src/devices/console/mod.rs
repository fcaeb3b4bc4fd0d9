//! The console, `hvc0` (virtio 1.2, section 5.3): two queues, a size that follows the terminal, and a screen that is kept
//! so that whoever connects, also after a restore, sees what the guest had written.

pub mod screen;
pub mod socket;
mod state;

pub use state::ConsoleState;

use super::virtio::{Broken, Device, Io};
use screen::Screen;
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};

const F_SIZE: u64 = 1;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Most bytes typed and not yet read by the guest.
pub const TYPED_MAX: usize = 64 * 1024;
/// Most bytes taken from one buffer of the guest; Linux sends 32 KiB at most.
const BUFFER_MAX: usize = 1 << 16;

/// The device.
pub struct Console {
    screen: Screen,
    typed: VecDeque<u8>,
    written: Vec<u8>,
}

impl Console {
    /// An empty screen of this size.
    pub fn new(cols: u16, rows: u16) -> Self {
        Self { screen: Screen::new(cols, rows), typed: VecDeque::new(), written: Vec::new() }
    }

    /// A console as it was saved.
    ///
    /// # Errors
    /// A state that no console can have.
    pub fn restored(state: &ConsoleState) -> crate::error::Result<Self> {
        let (screen, typed) = state.check()?;
        Ok(Self { screen, typed, written: Vec::new() })
    }

    /// The terminal that shows it has a new size.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.screen.resize(cols, rows);
    }

    /// Types bytes into the guest; how many there was room for.
    pub fn type_in(&mut self, bytes: &[u8]) -> usize {
        let room = bytes.len().min(self.room());
        self.typed.extend(&bytes[..room]);
        room
    }

    /// How many more bytes can be typed.
    pub fn room(&self) -> usize {
        TYPED_MAX - self.typed.len()
    }

    /// What the guest wrote since the last call.
    pub fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    /// The escape sequences that draw the screen on an empty terminal.
    pub fn redraw(&self) -> Vec<u8> {
        self.screen.drawing()
    }

    /// Hands typed bytes to the guest's buffers.
    ///
    /// # Errors
    /// Buffers outside guest memory.
    pub fn deliver(&mut self, io: &mut Io) -> Result<(), Broken> {
        if self.typed.is_empty() || !io.ready(RECEIVE) {
            return Ok(());
        }
        let memory = io.memory;
        while !self.typed.is_empty() {
            let Some(chain) = io.next(RECEIVE)? else { break };
            let head = chain.head_index();
            let mut writer = chain.writer(memory)?;
            let count = writer.available_bytes().min(self.typed.len());
            let bytes: Vec<u8> = self.typed.drain(..count).collect();
            writer.write_all(&bytes).map_err(|e| Broken(e.to_string()))?;
            io.used(RECEIVE, head, count)?;
        }
        io.signal(RECEIVE)
    }

    fn collect(&mut self, io: &mut Io) -> Result<(), Broken> {
        let memory = io.memory;
        crate::planted::here("console");
        while let Some(chain) = io.next(TRANSMIT)? {
            let head = chain.head_index();
            let mut reader = chain.reader(memory)?;
            let mut bytes = vec![0; reader.available_bytes().min(BUFFER_MAX)];
            reader.read_exact(&mut bytes).map_err(|e| Broken(e.to_string()))?;
            io.used(TRANSMIT, head, 0)?;
            self.screen.write(&bytes);
            self.written.extend(bytes);
        }
        io.signal(TRANSMIT)
    }
}

impl Device for Console {
    const TYPE: u32 = 3;
    const QUEUES: &'static [u16] = &[64, 64];
    type State = ConsoleState;

    fn features(&self) -> u64 {
        F_SIZE
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let (cols, rows) = self.screen.size();
        let mut config = [0; 12];
        config[..2].copy_from_slice(&cols.to_le_bytes());
        config[2..4].copy_from_slice(&rows.to_le_bytes());
        // One port.
        config[4] = 1;
        for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
            *to = *from;
        }
    }

    fn start(&mut self, _io: &mut Io, _restored: bool) -> Result<(), Broken> {
        Ok(())
    }

    fn stop(&mut self, _io: &mut Io) -> Result<(), Broken> {
        Ok(())
    }

    fn reset(&mut self, _io: &mut Io) {
        self.typed.clear();
    }

    fn serve(&mut self, queue: usize, io: &mut Io) -> Result<(), Broken> {
        match queue {
            RECEIVE => self.deliver(io),
            _ => self.collect(io),
        }
    }

    fn save(&self) -> ConsoleState {
        ConsoleState::of(&self.screen, &self.typed)
    }
}

#[cfg(test)]
mod tests;
