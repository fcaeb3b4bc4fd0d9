//! Saved state of a serial port.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use vm_superio::serial::SerialState as Inner;

/// The receive buffer of a 16550, as emulated.
const FIFO: usize = 64;

/// The registers and what was typed but not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialState {
    /// Divisor latch, interrupt enable, interrupt identification, line control, line status, modem control, modem
    /// status, scratch.
    registers: [u8; 9],
    typed: Vec<u8>,
}

impl SerialState {
    /// From the port's own form.
    pub fn of(inner: &Inner) -> Self {
        Self {
            registers: [
                inner.baud_divisor_low,
                inner.baud_divisor_high,
                inner.interrupt_enable,
                inner.interrupt_identification,
                inner.line_control,
                inner.line_status,
                inner.modem_control,
                inner.modem_status,
                inner.scratch,
            ],
            typed: inner.in_buffer.clone(),
        }
    }

    /// To the port's own form.
    ///
    /// # Errors
    /// More typed bytes than the port holds.
    pub fn check(&self) -> Result<Inner> {
        if self.typed.len() > FIFO {
            return Err(Error::State(format!("a serial port holds {} typed bytes", self.typed.len())));
        }
        let [
            low,
            high,
            enable,
            identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
        ] = self.registers;
        Ok(Inner {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: enable,
            interrupt_identification: identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer: self.typed.clone(),
        })
    }
}
