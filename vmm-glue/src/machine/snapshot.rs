//! Saving and restoring a machine that stands.

use super::{
    build::{Machine, lock, read_irqchips, set_irqchips},
    clock::Moment,
    model::Model,
    state::{IRQCHIP_BYTES, MachineState},
};
use crate::{
    boot::acpi,
    cpu::{cpuid, raw::Raw, state::VcpuState},
    devices::{power::GENERATION, virtio::QueueState},
    error::{Error, Result},
    memory::dirty::DirtyBitmap,
};
use kvm_bindings::kvm_irqchip;
use kvm_ioctls::Cap;

fn irqchip_bytes(chip: &kvm_irqchip) -> [u8; IRQCHIP_BYTES] {
    // SAFETY: the union's largest member is `dummy`, 512 bytes that the kernel has filled or that were zero.
    unsafe { chip.chip.dummy }.map(|b| b as u8)
}

fn irqchip(chip_id: u32, bytes: &[u8; IRQCHIP_BYTES]) -> kvm_irqchip {
    let mut chip = kvm_irqchip { chip_id, ..Default::default() };
    chip.chip.dummy = bytes.map(|b| b as libc::c_char);
    chip
}

impl Machine {
    /// Everything but memory. vCPUs, service thread and queues must stand.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn save_state(&self, stood: Moment) -> Result<MachineState> {
        let made = self.vcpus.iter().zip(&self.cpuids);
        let vcpus = made.map(|(v, c)| VcpuState::save(&lock(v), c)).collect::<Result<_>>()?;
        let irqchips = read_irqchips(&self.vm)?.iter().map(|chip| Raw(irqchip_bytes(chip))).collect();
        let helper = lock(&self.bus.com2).helper() == Some(true);
        let helper = (self.model >= Model::Two).then_some(helper);
        Ok(MachineState {
            model: self.model,
            machine: self.description.clone(),
            vendor: cpuid::vendor(&self.cpuids[0]),
            stood,
            vcpus,
            irqchips,
            com1: lock(&self.bus.com1).save(),
            com2: lock(&self.bus.com2).save(),
            rtc: lock(&self.bus.rtc).save(),
            power: lock(&self.bus.power).save(),
            block: lock(&self.devices.block).save(),
            net: lock(&self.devices.net).save(),
            console: lock(&self.devices.console).save(),
            rng: lock(&self.devices.rng).save(),
            helper,
        })
    }

    /// Refuses a state that this machine cannot take, before anything of it is used.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check_state(&self, state: &MachineState) -> Result<()> {
        state.check_cpus(&self.cpuids)
    }

    /// Puts vCPUs and interrupt controllers into a fresh machine whose devices were built from the same state. The clock is
    /// set when the guest is let go ([`Machine::go_on_from`]).
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn restore_state(&self, state: &MachineState) -> Result<()> {
        self.check_state(state)?;
        let scales = self.vm.check_extension(Cap::TscControl);
        for (vcpu, saved) in self.vcpus.iter().zip(&state.vcpus) {
            let vcpu = &lock(vcpu);
            if scales {
                // Before the time stamp counter's value, which is scaled by it.
                saved.restore_tsc_rate(vcpu);
            }
            saved.restore(vcpu).map_err(Error::of_state)?;
        }
        // After the vCPUs: an interrupt that the I/O APIC delivers needs its LAPIC in place.
        let chips: Vec<_> = (0..).zip(&state.irqchips).map(|(id, chip)| irqchip(id, &chip.0)).collect();
        set_irqchips(&self.vm, &chips).map_err(Error::of_state)?;
        acpi::renew_generation(&self.ram.memory)?;
        // Last: an interrupt raised before the I/O APIC was restored would be forgotten. KVM takes interrupts in late, so
        // one of a serial port may have been on its way when the state was read; one too many is harmless.
        lock(&self.bus.power).notify(GENERATION);
        lock(&self.bus.com1).raise();
        lock(&self.bus.com2).raise();
        Ok(())
    }

    /// The pages that may have changed since the guest was let go. The machine must stand.
    ///
    /// # Errors
    /// KVM's or the system's refusal.
    pub fn changed_pages(&self, known: &mut DirtyBitmap) -> Result<()> {
        if !self.logging {
            // Memory began as zeroes: what was never allocated still is.
            return known.add_allocated(&self.ram.file);
        }
        for (slot, region) in self.ram.regions.iter().enumerate() {
            // Reading clears KVM's log; `known` keeps what it said.
            let words = self
                .vm
                .get_dirty_log(slot as u32, region.len as usize)
                .map_err(Error::kvm("tell the pages that the guest wrote"))?;
            known.set_words(region.file_offset, &words);
        }
        known.add_own_writes(&self.ram);
        let block = &mut *lock(&self.devices.block);
        if let Some(backend) = block.device().backend() {
            backend.log().add_to(known, &self.ram.regions);
        }
        // The rings that devices write are marked whatever the logs say: a backend need not log them one by one.
        let queues = [
            block.save().queues,
            lock(&self.devices.net).save().queues,
            lock(&self.devices.console).save().queues,
            lock(&self.devices.rng).save().queues,
        ];
        for (addr, len) in queues.iter().flatten().filter_map(QueueState::written) {
            known.set_guest_range(&self.ram.regions, addr, len);
        }
        Ok(())
    }
}
