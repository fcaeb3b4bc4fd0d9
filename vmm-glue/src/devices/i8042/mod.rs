//! The keyboard controller, of which only the wire to the CPU's reset pin is left. It has no state.

use super::bus::Request;

const COMMAND: u8 = 4;
const PULSE_RESET: u8 = 0xfe;

/// The controller.
pub struct I8042;

impl I8042 {
    /// Reads a register: no data, nothing pending.
    pub fn read(_offset: u8) -> u8 {
        0
    }

    /// Writes a register.
    pub fn write(offset: u8, value: u8) -> Option<Request> {
        (offset == COMMAND && value == PULSE_RESET).then_some(Request::Reset)
    }
}

#[cfg(test)]
mod tests;
