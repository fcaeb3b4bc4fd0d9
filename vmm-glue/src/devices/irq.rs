//! An interrupt line: an event descriptor that KVM turns into an edge at the I/O APIC.

use crate::error::{Error, Result};
use kvm_ioctls::VmFd;
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// An interrupt line.
#[derive(Debug, Clone)]
pub struct Line(Arc<EventFd>);

impl Line {
    /// A line that leads nowhere yet.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new() -> Result<Self> {
        let fd = EventFd::new(EFD_NONBLOCK).map_err(Error::io("creating an interrupt line"))?;
        Ok(Self(Arc::new(fd)))
    }

    /// A line that raises interrupt `gsi`.
    ///
    /// # Errors
    /// KVM's or the system's refusal.
    pub fn to_gsi(vm: &VmFd, gsi: u32) -> Result<Self> {
        let line = Self::new()?;
        vm.register_irqfd(&line.0, gsi).map_err(Error::kvm("connect an interrupt"))?;
        Ok(line)
    }

    /// Raises the interrupt. A full counter means that one is pending already.
    pub fn raise(&self) {
        let _ = self.0.write(1);
    }

    /// The descriptor, for a backend that raises it itself.
    pub fn fd(&self) -> &EventFd {
        &self.0
    }
}

impl vm_superio::Trigger for Line {
    type E = std::convert::Infallible;

    fn trigger(&self) -> std::result::Result<(), Self::E> {
        self.raise();
        Ok(())
    }
}
