//! Where port and memory accesses of the guest go.

use super::{i8042::I8042, power::Power, rtc::Rtc, serial::Serial};
use crate::layout::{self, Slot};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the guest asks of the machine by touching a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Power off.
    PowerOff,
    /// Start again.
    Reset,
}

/// A device behind a window of guest physical addresses.
pub trait Window: Send + Sync {
    /// Reads `data.len()` bytes at `offset`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// The bus.
pub struct Bus {
    /// COM1, the guest's log.
    pub com1: Mutex<Serial>,
    /// COM2, the wall clock.
    pub com2: Mutex<Serial>,
    /// Real-time clock.
    pub rtc: Mutex<Rtc>,
    /// Power management.
    pub power: Mutex<Power>,
    /// The virtio devices, by [`Slot`].
    pub windows: [Arc<dyn Window>; Slot::ALL.len()],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Offset of `port` in a block of `len` ports, if it is inside.
fn within(port: u16, base: u16, len: u16) -> Option<u8> {
    port.checked_sub(base).filter(|offset| *offset < len).map(|offset| offset as u8)
}

impl Bus {
    /// The guest reads a port. Nothing there: all ones, as on a PC.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(offset) = within(port, layout::COM1, 8) {
            data[0] = lock(&self.com1).read(offset);
        } else if let Some(offset) = within(port, layout::COM2, 8) {
            data[0] = lock(&self.com2).read(offset);
        } else if let Some(offset) = within(port, layout::RTC, 2) {
            data[0] = lock(&self.rtc).read(offset);
        } else if let Some(offset) = within(port, layout::PM, 4) {
            data[0] = lock(&self.power).read(offset);
        } else if let Some(offset) = within(port, layout::I8042, 5) {
            data[0] = I8042::read(offset);
        }
    }

    /// The guest writes a port.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<Request> {
        let value = *data.first()?;
        crate::planted::here("vcpu");
        if let Some(offset) = within(port, layout::COM1, 8) {
            lock(&self.com1).write(offset, value);
        } else if let Some(offset) = within(port, layout::COM2, 8) {
            lock(&self.com2).write(offset, value);
        } else if let Some(offset) = within(port, layout::RTC, 2) {
            lock(&self.rtc).write(offset, value);
        } else if let Some(offset) = within(port, layout::PM, 4) {
            return lock(&self.power).write(offset, value);
        } else if let Some(offset) = within(port, layout::I8042, 5) {
            return I8042::write(offset, value);
        }
        None
    }

    fn window(&self, address: u64) -> Option<(&dyn Window, u64)> {
        let offset = address.checked_sub(layout::MMIO_BASE)?;
        let window = self.windows.get((offset / layout::MMIO_SIZE) as usize)?;
        Some((window.as_ref(), offset % layout::MMIO_SIZE))
    }

    /// The guest reads memory that is not RAM. Nothing there: all ones.
    pub fn mmio_read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((window, offset)) = self.window(address) {
            window.read(offset, data);
        }
    }

    /// The guest writes memory that is not RAM.
    pub fn mmio_write(&self, address: u64, data: &[u8]) {
        if let Some((window, offset)) = self.window(address) {
            window.write(offset, data);
        }
    }
}
