//! ACPI power management: sleep control, reset, and the event register that the generic event device reads.

mod state;

pub use state::PowerState;

use super::{bus::Request, irq::Line};

/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u8 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u8 = 1;
/// Offset of the reset register.
pub const RESET: u8 = 2;
/// Offset of the event register: reading it takes the events.
pub const EVENTS: u8 = 3;

/// Value of the reset register that resets.
pub const RESET_VALUE: u8 = 1;
/// Sleep type of S5, "soft off".
pub const S5: u8 = 5;
/// Event: the power button was pressed.
pub const BUTTON: u8 = 1;
/// Event: the generation identifier changed.
pub const GENERATION: u8 = 2;

const SLEEP_ENABLE: u8 = 1 << 5;

/// The block.
pub struct Power {
    events: u8,
    line: Line,
}

impl Power {
    /// A block without events, which raises `line`.
    pub fn new(line: Line) -> Self {
        Self { events: 0, line }
    }

    /// A block as it was saved.
    pub fn restored(line: Line, state: PowerState) -> Self {
        Self { events: state.events & (BUTTON | GENERATION), line }
    }

    /// Its state.
    pub fn save(&self) -> PowerState {
        PowerState { events: self.events }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.events = 0;
    }

    /// Tells the guest of an event.
    pub fn notify(&mut self, event: u8) {
        self.events |= event;
        self.line.raise();
    }

    /// The guest reads a register.
    pub fn read(&mut self, offset: u8) -> u8 {
        if offset == EVENTS { std::mem::take(&mut self.events) } else { 0 }
    }

    /// The guest writes a register.
    pub fn write(&mut self, offset: u8, value: u8) -> Option<Request> {
        match offset {
            SLEEP_CONTROL if value == S5 << 2 | SLEEP_ENABLE => Some(Request::PowerOff),
            RESET if value == RESET_VALUE => Some(Request::Reset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
