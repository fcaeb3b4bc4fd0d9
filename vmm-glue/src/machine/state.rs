//! The saved machine as bytes: a line that names the format, then JSON. Untrusted when it comes back: every part is
//! bounded here and checked where it is used.

use super::{clock::Moment, model::Model};
use crate::{
    bounded,
    cpu::{cpuid, raw::Raw, state::VcpuState},
    devices::{
        block::BlockState, console::ConsoleState, net::NetState, power::PowerState, rng::RngState,
        rtc::RtcState, serial::SerialState, virtio::TransportState,
    },
    error::{Error, Result},
};
use kvm_bindings::CpuId;
use parcel::wire::guest::Machine as Description;
use serde::{Deserialize, Serialize};

/// The first line, before the number of the device model.
const MAGIC: &str = "waystation-machine ";
/// Bytes of an interrupt controller as KVM gives it.
pub const IRQCHIP_BYTES: usize = 512;

/// Interrupt controllers of a machine.
const IRQCHIPS: usize = 3;
/// Most vCPUs of a machine.
pub const VCPUS_MAX: usize = 32;

/// An interrupt controller.
pub type IrqchipState = Raw<[u8; IRQCHIP_BYTES]>;

/// Everything of a machine but its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineState {
    /// The device model: the first line's.
    #[serde(skip)]
    pub model: Model,
    /// What machine it is.
    pub machine: Description,
    /// CPU vendor.
    pub vendor: String,
    /// When it stood.
    pub stood: Moment,
    /// The vCPUs.
    #[serde(deserialize_with = "bounded::list::<_, _, { VCPUS_MAX }>")]
    pub vcpus: Vec<VcpuState>,
    /// Two legacy interrupt controllers and the I/O APIC.
    #[serde(deserialize_with = "bounded::list::<_, _, { IRQCHIPS }>")]
    pub irqchips: Vec<IrqchipState>,
    /// First serial port.
    pub com1: SerialState,
    /// Second serial port.
    pub com2: SerialState,
    /// Real-time clock.
    pub rtc: RtcState,
    /// Power management.
    pub power: PowerState,
    /// The disk, `vda`.
    pub block: TransportState<BlockState>,
    /// Network card.
    pub net: TransportState<NetState>,
    /// The console, `hvc0`.
    pub console: TransportState<ConsoleState>,
    /// The source of random numbers.
    pub rng: TransportState<RngState>,
    /// From model 2 on: the guest has a helper that sets its clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<bool>,
}

impl MachineState {
    /// The bytes.
    ///
    /// # Errors
    /// None that is known; kept for the encoder's sake.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = format!("{MAGIC}{}\n", self.model.number()).into_bytes();
        serde_json::to_writer(&mut bytes, self).map_err(|e| Error::State(e.to_string()))?;
        Ok(bytes)
    }

    /// Reads the bytes of a machine as `description` has it.
    ///
    /// # Errors
    /// A device model that is not known here, another machine, or bytes that are no state.
    pub fn from_bytes(bytes: &[u8], description: &Description) -> Result<Self> {
        let end = bytes.iter().take(64).position(|b| *b == b'\n').unwrap_or(0);
        let model = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| line.strip_prefix(MAGIC));
        let number: u32 = model
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| Error::State("it is not the state of a machine".into()))?;
        let model = Model::from_number(number).ok_or_else(|| {
            let newest = Model::default().number();
            Error::State(format!("it has device model {number} and this kiosk restores models 1 to {newest}"))
        })?;
        let mut state: Self = serde_json::from_slice(&bytes[end + 1..])
            .map_err(|e| Error::State(format!("it is damaged ({e})")))?;
        state.model = model;
        if state.helper.is_some() != (model >= Model::Two) {
            return Err(Error::State(format!("it is damaged (it is not of device model {number})")));
        }
        if state.machine != *description {
            return Err(Error::State("it belongs to another machine".into()));
        }
        if state.vcpus.len() != description.vcpus as usize || state.irqchips.len() != IRQCHIPS {
            return Err(Error::State("it lacks a part of the machine".into()));
        }
        Ok(state)
    }

    /// Refuses vCPUs other than those that answer to CPUID like this.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check_cpus(&self, cpuids: &[CpuId]) -> Result<()> {
        let vendor = cpuids.first().map(cpuid::vendor).unwrap_or_default();
        if self.vendor != vendor {
            let found: String = self.vendor.chars().take(12).collect();
            return Err(Error::State(format!("its CPU is by {found:?} and this one by {vendor:?}")));
        }
        for (vcpu, cpuid) in self.vcpus.iter().zip(cpuids) {
            vcpu.validate(cpuid)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
