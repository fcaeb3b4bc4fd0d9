//! From kernel, initial RAM disk and command line to a guest memory that a vCPU can start in
//! (`Documentation/x86/boot.rst`).

pub mod acpi;

use crate::{
    cpu::start,
    devices::power,
    error::{Error, Result},
    layout,
    memory::{GuestRam, PAGE},
};
use linux_loader::loader::{
    KernelLoader,
    bootparam::{boot_e820_entry, boot_params},
    bzimage::BzImage,
};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};
use vm_memory::{ByteValued, Bytes, GuestAddress};

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// Where the 64-bit entry lies in a loaded bzImage.
const ENTRY_64: u64 = 0x200;
/// `xloadflags`: the kernel has a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;

/// What a guest starts from. Kept for as long as the guest lives, so that it can restart.
pub struct Boot {
    /// A bzImage.
    pub kernel: File,
    /// The initial RAM disk; may be empty.
    pub initrd: File,
    /// Kernel command line.
    pub cmdline: String,
}

/// `boot_params` as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ZeroPage(boot_params);

// SAFETY: `boot_params` is packed plain data without padding, for which every bit pattern is valid.
unsafe impl ByteValued for ZeroPage {}

fn length(file: &mut File, what: &str) -> Result<u64> {
    file.seek(SeekFrom::End(0)).map_err(Error::io(format!("reading the guest's {what}")))
}

/// Loads everything; answers the address at which the boot vCPU starts.
///
/// # Errors
/// A kernel that is none, or files too large for the memory.
pub fn load(ram: &GuestRam, boot: &mut Boot, vcpus: u32) -> Result<u64> {
    let bad = |what: String| Error::Kernel(what);
    if boot.cmdline.len() >= layout::CMDLINE_MAX || boot.cmdline.bytes().any(|b| b == 0) {
        return Err(bad(format!("its command line must be shorter than {} bytes", layout::CMDLINE_MAX)));
    }
    // The loader puts a kernel of any length anywhere it is told; that it fits is checked first.
    let low_end = ram.regions[0].len;
    if layout::KERNEL + length(&mut boot.kernel, "kernel")? > low_end {
        return Err(bad("the kernel does not fit into the guest's memory".into()));
    }
    let loaded = BzImage::load(
        &ram.memory,
        Some(GuestAddress(layout::KERNEL)),
        &mut boot.kernel,
        Some(GuestAddress(0x10_0000)),
    )
    .map_err(|e| bad(format!("it is not a bzImage ({e})")))?;
    let mut header = loaded.setup_header.ok_or_else(|| bad("it has no setup header".into()))?;
    if header.version < 0x020c || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(bad("it has no 64-bit entry".into()));
    }
    let kernel_end = layout::KERNEL + u64::from(header.init_size).max(loaded.kernel_end - layout::KERNEL);

    let initrd_len = length(&mut boot.initrd, "initial RAM disk")?;
    let top = low_end.min(u64::from(header.initrd_addr_max) + 1);
    let initrd_at = top.saturating_sub(initrd_len) / PAGE * PAGE;
    if initrd_at < kernel_end.next_multiple_of(PAGE) {
        return Err(bad(format!(
            "kernel and initial RAM disk ({} MiB) do not fit into {} MiB of memory",
            initrd_len >> 20,
            low_end >> 20
        )));
    }
    boot.initrd.seek(SeekFrom::Start(0)).map_err(Error::io("reading the guest's initial RAM disk"))?;
    copy(ram, &mut boot.initrd, initrd_at, initrd_len)?;

    let put = |bytes: &[u8], at: u64| {
        ram.memory.write_slice(bytes, GuestAddress(at)).map_err(|e| Error::Memory(format!("boot data: {e}")))
    };
    put(boot.cmdline.as_bytes(), layout::CMDLINE)?;
    put(&[0], layout::CMDLINE + boot.cmdline.len() as u64)?;

    header.type_of_loader = 0xff;
    header.ramdisk_image = initrd_at as u32;
    header.ramdisk_size = initrd_len as u32;
    header.cmd_line_ptr = layout::CMDLINE as u32;
    header.cmdline_size = boot.cmdline.len() as u32;
    let mut params = boot_params { hdr: header, acpi_rsdp_addr: layout::ACPI_START, ..Default::default() };
    let map = memory_map(ram);
    for (slot, entry) in params.e820_table.iter_mut().zip(&map) {
        *slot = *entry;
    }
    params.e820_entries = map.len() as u8;
    put(ZeroPage(params).as_slice(), layout::ZERO_PAGE)?;
    put(&reset_code(), layout::RESET_VECTOR)?;
    acpi::write(&ram.memory, vcpus)?;
    start::write_tables(&ram.memory)?;
    Ok(loaded.kernel_load.0 + ENTRY_64)
}

/// 16-bit code that writes the reset register. Linux on hardware-reduced ACPI without EFI restarts by jumping to the
/// firmware, and there is none.
fn reset_code() -> [u8; 9] {
    let [low, high] = (layout::PM + u16::from(power::RESET)).to_le_bytes();
    // mov dx, port; mov al, value; out dx, al; hlt; jmp to the hlt
    [0xba, low, high, 0xb0, power::RESET_VALUE, 0xee, 0xf4, 0xeb, 0xfd]
}

fn memory_map(ram: &GuestRam) -> Vec<boot_e820_entry> {
    let entry = |addr, end, kind| boot_e820_entry { addr, size: end - addr, r#type: kind };
    let mut map = vec![
        entry(0, layout::LOW_RAM_END, E820_RAM),
        entry(layout::ACPI_START, layout::ACPI_END, E820_RESERVED),
        entry(layout::ACPI_END, ram.regions[0].len, E820_RAM),
    ];
    map.extend(ram.regions[1..].iter().map(|r| entry(r.guest_addr, r.guest_addr + r.len, E820_RAM)));
    map
}

fn copy(ram: &GuestRam, from: &mut File, mut at: u64, len: u64) -> Result<()> {
    let mut left = len;
    let mut piece = vec![0; 1 << 20];
    while left > 0 {
        let count = left.min(piece.len() as u64) as usize;
        from.read_exact(&mut piece[..count]).map_err(Error::io("reading the guest's initial RAM disk"))?;
        ram.memory
            .write_slice(&piece[..count], GuestAddress(at))
            .map_err(|e| Error::Memory(format!("initial RAM disk: {e}")))?;
        at += count as u64;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
