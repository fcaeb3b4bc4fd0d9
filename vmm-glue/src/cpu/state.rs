//! A vCPU's saved state. The orders of saving and restoring are load-bearing; the reason stands at each step.

use super::raw::Raw;
use crate::{
    bounded,
    error::{Error, Result},
};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

/// Interrupts a guest that is late when it comes back; must be written after the time stamp counter it refers to.
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const MSR_TSC: u32 = 0x10;

/// The model-specific registers that belong to a guest of the baselines. Others that a host has are not the guest's to
/// use, and a saved state that names one is refused.
const MSRS: &[u32] = &[
    MSR_TSC,
    0x3b, // TSC_ADJUST
    0x174,
    0x175,
    0x176, // SYSENTER
    0x1a0, // MISC_ENABLE
    0x277, // PAT
    0x200,
    0x201,
    0x202,
    0x203,
    0x204,
    0x205,
    0x206,
    0x207,
    0x208,
    0x209,
    0x20a,
    0x20b,
    0x20c,
    0x20d,
    0x20e,
    0x20f,
    0x250,
    0x258,
    0x259,
    0x268,
    0x269,
    0x26a,
    0x26b,
    0x26c,
    0x26d,
    0x26e,
    0x26f,
    0x2ff, // MTRR
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084, // SYSCALL
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
    0xc001_0015, // HWCR
    0x11,
    0x12,
    0x4b56_4d00,
    0x4b56_4d01, // KVM clock
    MSR_TSC_DEADLINE,
];

/// Everything of a vCPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuState {
    #[serde(deserialize_with = "bounded::list::<_, _, { KVM_MAX_CPUID_ENTRIES }>")]
    cpuid: Vec<Raw<kvm_cpuid_entry2>>,
    #[serde(deserialize_with = "bounded::list::<_, _, { MSRS.len() }>")]
    msrs: Vec<(u32, u64)>,
    mp_state: Raw<kvm_mp_state>,
    regs: Raw<kvm_regs>,
    sregs: Raw<kvm_sregs>,
    xsave: Raw<[u32; 1024]>,
    xcrs: Raw<kvm_xcrs>,
    debug_regs: Raw<kvm_debugregs>,
    lapic: Raw<kvm_lapic_state>,
    events: Raw<kvm_vcpu_events>,
    /// Rate of the time stamp counter in kHz; 0 when the host did not tell.
    tsc_khz: u32,
}

#[cfg(test)]
fn zeroed<T: zerocopy::FromBytes>() -> T {
    zerocopy::FromZeros::new_zeroed()
}

/// Reads those of `indexes` that this host knows. KVM stops at the first it does not.
fn read_msrs(vcpu: &VcpuFd, indexes: &[u32]) -> Result<Vec<(u32, u64)>> {
    let mut found = Vec::new();
    let mut rest = indexes;
    while !rest.is_empty() {
        let wanted: Vec<_> =
            rest.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
        let mut msrs = Msrs::from_entries(&wanted).map_err(|e| Error::Machine(format!("{e:?}")))?;
        let read = vcpu.get_msrs(&mut msrs).map_err(Error::kvm("read a vCPU's MSRs"))?;
        found.extend(msrs.as_slice()[..read].iter().map(|e| (e.index, e.data)));
        rest = &rest[(read + 1).min(rest.len())..];
    }
    Ok(found)
}

impl VcpuState {
    /// Saves a vCPU that stands and was made with these CPUID answers. KVM's own copy of them is not asked for: it follows
    /// what the guest enables, and a comparison would have to undo that.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn save(vcpu: &VcpuFd, cpuid: &CpuId) -> Result<Self> {
        // First: reading it makes KVM take in a start-up interrupt that is still pending, which changes registers.
        let mp_state = vcpu.get_mp_state().map_err(Error::kvm("read a vCPU's run state"))?;
        let regs = vcpu.get_regs().map_err(Error::kvm("read a vCPU's registers"))?;
        let sregs = vcpu.get_sregs().map_err(Error::kvm("read a vCPU's system registers"))?;
        let xsave = vcpu.get_xsave().map_err(Error::kvm("read a vCPU's vector registers"))?;
        let xcrs = vcpu.get_xcrs().map_err(Error::kvm("read a vCPU's extended control registers"))?;
        let debug_regs = vcpu.get_debug_regs().map_err(Error::kvm("read a vCPU's debug registers"))?;
        let lapic = vcpu.get_lapic().map_err(Error::kvm("read a vCPU's interrupt controller"))?;
        let tsc_khz = vcpu.get_tsc_khz().unwrap_or(0);
        let msrs = read_msrs(vcpu, MSRS)?;
        // Last: the reads above may turn a pending event into an injected one.
        let events = vcpu.get_vcpu_events().map_err(Error::kvm("read a vCPU's events"))?;
        Ok(Self {
            cpuid: cpuid.as_slice().iter().copied().map(Raw).collect(),
            msrs,
            mp_state: Raw(mp_state),
            regs: Raw(regs),
            sregs: Raw(sregs),
            xsave: Raw(xsave.region),
            xcrs: Raw(xcrs),
            debug_regs: Raw(debug_regs),
            lapic: Raw(lapic),
            events: Raw(events),
            tsc_khz,
        })
    }

    /// Refuses what no VMM of ours can have saved: a CPU other than the one that this machine's baseline gives here, or
    /// foreign MSRs. What KVM checks itself is left to KVM.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn validate(&self, expected: &CpuId) -> Result<()> {
        if self.msrs.len() > MSRS.len() {
            return Err(Error::State("a vCPU has too many MSRs".into()));
        }
        if let Some((index, _)) = self.msrs.iter().find(|(index, _)| !MSRS.contains(index)) {
            return Err(Error::State(format!("a vCPU has the MSR {index:#x}, which is not a guest's")));
        }
        let same = self.cpuid.len() == expected.as_slice().len()
            && self.cpuid.iter().zip(expected.as_slice()).all(|(have, want)| have.0 == *want);
        if !same {
            return Err(Error::State("it was saved on a CPU that differs from this one".into()));
        }
        Ok(())
    }

    /// Puts the state into a vCPU. What KVM accepts here depends on the vCPU's CPUID, which was set when it was made: KVM
    /// takes no other once a vCPU has run.
    ///
    /// # Errors
    /// KVM's refusal, which means that the state is bad.
    pub fn restore(&self, vcpu: &VcpuFd) -> Result<()> {
        // Before the registers: some states reset them.
        vcpu.set_mp_state(self.mp_state.0).map_err(Error::kvm("set a vCPU's run state"))?;
        vcpu.set_regs(&self.regs.0).map_err(Error::kvm("set a vCPU's registers"))?;
        // Before the LAPIC: they hold its base address and mode.
        vcpu.set_sregs(&self.sregs.0).map_err(Error::kvm("set a vCPU's system registers"))?;
        let xsave = kvm_xsave { region: self.xsave.0, ..Default::default() };
        // SAFETY: no baseline enables a feature with more state than the 4096 bytes of `kvm_xsave`: dynamic features
        // (AMX) need a permission that this process never asks for.
        unsafe { vcpu.set_xsave(&xsave) }.map_err(Error::kvm("set a vCPU's vector registers"))?;
        vcpu.set_xcrs(&self.xcrs.0).map_err(Error::kvm("set a vCPU's extended control registers"))?;
        vcpu.set_debug_regs(&self.debug_regs.0).map_err(Error::kvm("set a vCPU's debug registers"))?;
        // Before the MSRs: the TSC deadline counts only in the LAPIC's deadline mode.
        vcpu.set_lapic(&self.lapic.0).map_err(Error::kvm("set a vCPU's interrupt controller"))?;
        self.restore_msrs(vcpu)?;
        // Last: the calls above may clear or raise events.
        vcpu.set_vcpu_events(&self.events.0).map_err(Error::kvm("set a vCPU's events"))
    }

    /// Makes the time stamp counter go on at the rate it had, on a host that can. Elsewhere a guest that believes its
    /// `kvm-clock` is right nevertheless, so a refusal is logged and no more.
    pub fn restore_tsc_rate(&self, vcpu: &VcpuFd) {
        if self.tsc_khz != 0
            && let Err(e) = vcpu.set_tsc_khz(self.tsc_khz)
        {
            tracing::info!("the time stamp counter does not keep its {} kHz here: {e}", self.tsc_khz);
        }
    }

    fn restore_msrs(&self, vcpu: &VcpuFd) -> Result<()> {
        let (late, first): (Vec<_>, Vec<_>) =
            self.msrs.iter().copied().partition(|(index, _)| *index == MSR_TSC_DEADLINE);
        for (index, data) in first.into_iter().chain(late) {
            let one = Msrs::from_entries(&[kvm_msr_entry { index, data, ..Default::default() }])
                .map_err(|e| Error::Machine(format!("{e:?}")))?;
            let written = vcpu.set_msrs(&one).map_err(Error::kvm("set a vCPU's MSRs"))?;
            // A zero in a register that this host lacks is no loss.
            if written == 0 && data != 0 {
                return Err(Error::State(format!("this host refuses {data:#x} in the MSR {index:#x}")));
            }
        }
        Ok(())
    }

    /// An empty state, from which tests build bad ones.
    #[cfg(test)]
    pub fn blank() -> Self {
        Self {
            cpuid: Vec::new(),
            msrs: Vec::new(),
            mp_state: Raw(zeroed()),
            regs: Raw(zeroed()),
            sregs: Raw(zeroed()),
            xsave: Raw(zeroed()),
            xcrs: Raw(zeroed()),
            debug_regs: Raw(zeroed()),
            lapic: Raw(zeroed()),
            events: Raw(zeroed()),
            tsc_khz: 0,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
