//! A 16550 serial port. COM1 carries the guest's early messages to the log. COM2 tells the guest the time after a resume:
//! the guest's helper greets there with the line [`GREETING`], and is answered with the time, now and whenever the machine
//! goes on.

mod state;

pub use state::SerialState;

use super::irq::Line;
use crate::error::Result;
use std::{
    io::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use vm_superio::serial::NoEvents;

/// The line with which a guest's clock helper (`guest/waystation-clock`) says that it is there.
pub const GREETING: &str = "waystation-clock";

/// Where a guest's bytes go: to the log, line by line.
pub struct LogLines {
    port: &'static str,
    line: Vec<u8>,
    /// [`GREETING`] came since this was last looked at.
    greeted: bool,
}

/// The longest line that is kept together.
const LINE_MAX: usize = 1024;

impl LogLines {
    /// Lines of the port with this name.
    pub fn new(port: &'static str) -> Self {
        Self { port, line: Vec::new(), greeted: false }
    }

    fn put_out(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        self.greeted |= text.trim_end() == GREETING;
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !clean.trim().is_empty() {
            // What a guest prints is its user's, so the kiosk's log gets it only when IT asks for it.
            tracing::debug!(port = self.port, "guest: {}", clean.trim_end());
        }
        self.line.clear();
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() == LINE_MAX {
                self.put_out();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Port = vm_superio::Serial<Line, NoEvents, LogLines>;

/// The port.
pub struct Serial {
    port: Port,
    line: Line,
    /// The guest has a helper that sets its clock; `None`: a state of device model 1 does not tell.
    helper: Option<bool>,
    /// The guest's wall clock is wrong, and nothing in the guest is known to set it.
    behind: bool,
}

impl Serial {
    /// A port after power-on, which raises `line` and logs under `name`.
    pub fn new(name: &'static str, line: Line) -> Self {
        Self { port: Port::new(line.clone(), LogLines::new(name)), line, helper: Some(false), behind: false }
    }

    /// A port as it was saved, with what is known of a helper behind it.
    ///
    /// # Errors
    /// A state that no port can have.
    pub fn restored(
        name: &'static str,
        line: Line,
        state: &SerialState,
        helper: Option<bool>,
    ) -> Result<Self> {
        let inner = state.check()?;
        let port = Port::from_state(&inner, line.clone(), NoEvents, LogLines::new(name))
            .map_err(|e| crate::error::Error::State(format!("serial port {name}: {e}")))?;
        Ok(Self { port, line, helper, behind: false })
    }

    /// Back to power-on.
    pub fn reset(&mut self, name: &'static str) {
        *self = Self::new(name, self.line.clone());
    }

    /// Raises the interrupt, for one that may have been lost between two machines; the driver finds out what for.
    pub fn raise(&self) {
        self.line.raise();
    }

    /// Its state.
    pub fn save(&self) -> SerialState {
        SerialState::of(&self.port.state())
    }

    /// The guest reads a register.
    pub fn read(&mut self, offset: u8) -> u8 {
        self.port.read(offset)
    }

    /// The guest writes a register.
    pub fn write(&mut self, offset: u8, value: u8) {
        if let Err(e) = self.port.write(offset, value) {
            tracing::debug!("serial port: {e}");
        }
        if std::mem::take(&mut self.port.writer_mut().greeted) {
            self.helper = Some(true);
            self.behind = false;
            self.type_time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        }
    }

    /// Whether the guest has a helper that sets its clock; `None`: not known.
    pub fn helper(&self) -> Option<bool> {
        self.helper
    }

    /// `true` when the guest's wall clock is wrong and nothing in the guest is known to set it.
    pub fn behind(&self) -> bool {
        self.behind
    }

    /// The machine goes on at this time since 1970: a guest that listens is told so. `wrong`: one that is not told is wrong.
    pub fn tell_time(&mut self, now: Duration, wrong: bool) {
        let told = self.type_time(now);
        // Others may listen, too, such as a terminal's log-in: only a greeting shows that it is a helper. And one that greeted
        // may have been stopped since: then nobody listens.
        self.behind = (self.behind || wrong) && !(told && self.helper.unwrap_or(true));
    }

    fn type_time(&mut self, now: Duration) -> bool {
        self.announce(format!("{}.{:09}\n", now.as_secs(), now.subsec_nanos()).as_bytes())
    }

    /// Types a message to a guest that listens, in place of whatever it has not read: only the newest counts. `false`, and
    /// nothing happens, when the guest has not opened the port or the message does not fit.
    pub fn announce(&mut self, message: &[u8]) -> bool {
        const RECEIVE_INTERRUPT: u8 = 1;
        const DIVISOR_SHOWS: u8 = 0x80;
        let state = self.port.state();
        if state.interrupt_enable & RECEIVE_INTERRUPT == 0 || state.line_control & DIVISOR_SHOWS != 0 {
            return false;
        }
        for _ in 0..state.in_buffer.len() {
            self.port.read(0);
        }
        self.port.fifo_capacity() >= message.len() && self.type_in(message) == message.len()
    }

    /// Types `bytes` into the guest, as far as the port's buffer goes; how many it took.
    pub fn type_in(&mut self, bytes: &[u8]) -> usize {
        let room = self.port.fifo_capacity().min(bytes.len());
        self.port.enqueue_raw_bytes(&bytes[..room]).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
