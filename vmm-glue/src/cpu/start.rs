//! How a vCPU starts: in 64-bit mode at the kernel's 64-bit entry, as the Linux boot protocol asks
//! (`Documentation/x86/boot.rst`, "64-bit Boot Protocol").

use crate::{
    error::{Error, Result},
    layout,
    memory::Memory,
};
use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress};

const CODE: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const TSS: u64 = 0x008f_8b00_0000_ffff;

const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
const MSR_MISC_ENABLE: u32 = 0x1a0;

/// Writes the boot descriptor table and identity page tables for the first 4 GiB.
///
/// # Errors
/// When guest memory is too small to hold them.
pub fn write_tables(memory: &Memory) -> Result<()> {
    let put = |value: u64, at: u64| {
        memory.write_obj(value, GuestAddress(at)).map_err(|e| Error::Memory(format!("boot tables: {e}")))
    };
    // Null, (unused), code at 0x10, data at 0x18, task at 0x20: the selectors that the boot protocol names.
    for (index, entry) in [0, 0, CODE, DATA, TSS, 0].into_iter().enumerate() {
        put(entry, layout::BOOT_GDT + 8 * index as u64)?;
    }
    let pdpt = layout::BOOT_PAGES + 0x1000;
    put(pdpt | 3, layout::BOOT_PAGES)?;
    for gib in 0..4u64 {
        let directory = pdpt + 0x1000 * (gib + 1);
        put(directory | 3, pdpt + 8 * gib)?;
        for entry in 0..512u64 {
            put((gib << 30) | (entry << 21) | 0x83, directory + 8 * entry)?;
        }
    }
    Ok(())
}

fn segment(index: u16, entry: u64) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: index * 8,
        type_: ((entry >> 40) & 0xf) as u8,
        s: ((entry >> 44) & 1) as u8,
        dpl: 0,
        present: 1,
        avl: 0,
        l: ((entry >> 53) & 1) as u8,
        db: ((entry >> 54) & 1) as u8,
        g: ((entry >> 55) & 1) as u8,
        ..Default::default()
    }
}

/// Sets what every vCPU has after power-on.
///
/// # Errors
/// KVM's refusal.
pub fn power_on(vcpu: &VcpuFd) -> Result<()> {
    let msrs = Msrs::from_entries(&[
        // Fast string operations, as firmware leaves them.
        kvm_msr_entry { index: MSR_MISC_ENABLE, data: 1, ..Default::default() },
        // Memory is write-back by default.
        kvm_msr_entry { index: MSR_MTRR_DEF_TYPE, data: (1 << 11) | 6, ..Default::default() },
    ])
    .map_err(|e| Error::Machine(format!("{e:?}")))?;
    vcpu.set_msrs(&msrs).map_err(Error::kvm("set a vCPU's first MSRs"))?;
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(Error::kvm("set a vCPU's floating point unit"))
}

/// Points the boot vCPU at the kernel's entry.
///
/// # Errors
/// KVM's refusal.
pub fn point_at_kernel(vcpu: &VcpuFd, entry: u64) -> Result<()> {
    let regs = kvm_regs {
        rflags: 2,
        rip: entry,
        rsp: layout::BOOT_STACK,
        rbp: layout::BOOT_STACK,
        rsi: layout::ZERO_PAGE,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(Error::kvm("set the boot vCPU's registers"))?;
    let mut sregs = vcpu.get_sregs().map_err(Error::kvm("read the boot vCPU's registers"))?;
    sregs.cs = segment(2, CODE);
    let data = segment(3, DATA);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = segment(4, TSS);
    (sregs.gdt.base, sregs.gdt.limit) = (layout::BOOT_GDT, 6 * 8 - 1);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    sregs.cr3 = layout::BOOT_PAGES;
    // Physical address extension.
    sregs.cr4 |= 1 << 5;
    // Protection, numeric errors by exception, write protection in ring 0, paging.
    sregs.cr0 |= 1 | (1 << 5) | (1 << 16) | (1 << 31);
    // Long mode, enabled and active.
    sregs.efer |= (1 << 8) | (1 << 10);
    vcpu.set_sregs(&sregs).map_err(Error::kvm("set the boot vCPU's registers"))
}
