//! Where everything lies in the guest: physical addresses, ports and interrupt numbers. Part of the device model:
//! a change here is a new device model ([`crate::machine::model`]).

/// Guest memory below the gap ends here; the rest lies from [`HIGH_START`].
pub const LOW_END: u64 = 3 << 30;
/// Guest memory above the gap starts here.
pub const HIGH_START: u64 = 4 << 30;

/// Global descriptor table at boot.
pub const BOOT_GDT: u64 = 0x500;
/// Boot stack pointer.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Zero page (`boot_params`).
pub const ZERO_PAGE: u64 = 0x7000;
/// Identity page tables at boot: PML4, PDPT and four page directories.
pub const BOOT_PAGES: u64 = 0x9000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line, with its end mark.
pub const CMDLINE_MAX: usize = 2048;
/// Conventional memory ends here.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// ACPI tables; the root pointer comes first, where firmware keeps it.
pub const ACPI_START: u64 = 0xe_0000;
/// ACPI tables end here.
pub const ACPI_END: u64 = 0x10_0000;
/// The generation identifier's page within the ACPI area.
pub const VMGENID: u64 = 0xf_f000;
/// Where a PC's firmware starts, and where a kernel jumps that knows no better way to restart.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// The kernel is loaded here.
pub const KERNEL: u64 = 0x100_0000;

/// Local APICs.
pub const LAPIC: u32 = 0xfee0_0000;
/// I/O APIC.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Three pages that KVM on Intel wants for itself.
pub const KVM_TSS: usize = 0xfffb_d000;
/// One page that KVM on Intel wants for itself.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// virtio-mmio windows start here.
pub const MMIO_BASE: u64 = 0xd000_0000;
/// Size of one virtio-mmio window.
pub const MMIO_SIZE: u64 = 0x1000;

/// First serial port.
pub const COM1: u16 = 0x3f8;
/// Second serial port: carries the wall-clock time to the guest after a resume.
pub const COM2: u16 = 0x2f8;
/// Real-time clock.
pub const RTC: u16 = 0x70;
/// Keyboard controller.
pub const I8042: u16 = 0x60;
/// Power management block: sleep control, sleep status, reset, event register.
pub const PM: u16 = 0x600;

/// Interrupt of [`COM1`].
pub const COM1_GSI: u32 = 4;
/// Interrupt of [`COM2`].
pub const COM2_GSI: u32 = 3;
/// Interrupt of the ACPI event device.
pub const GED_GSI: u32 = 9;
/// Interrupt of the first virtio-mmio device.
pub const VIRTIO_GSI: u32 = 16;

/// The virtio-mmio devices, in the order of their windows and interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The disk, `vda`.
    Disk = 0,
    /// The network card.
    Net = 1,
    /// The console, `hvc0`.
    Console = 2,
    /// The source of random numbers.
    Rng = 3,
}

impl Slot {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Disk, Self::Net, Self::Console, Self::Rng];

    /// Guest physical address of its window.
    pub const fn address(self) -> u64 {
        MMIO_BASE + self as u64 * MMIO_SIZE
    }

    /// Its interrupt.
    pub const fn gsi(self) -> u32 {
        VIRTIO_GSI + self as u32
    }
}
