#[path = "../../tests/hostile/entries/bzimage.rs"]
mod bzimage;

use super::*;
use crate::memory::dirty::memfd_of;
use bzimage::bzimage;
use vm_memory::GuestAddress;

fn boot(kernel: &[u8], initrd: &[u8], cmdline: &str) -> Boot {
    let file = |bytes| memfd_of(c"test", bytes).unwrap();
    Boot { kernel: file(kernel), initrd: file(initrd), cmdline: cmdline.into() }
}

fn read<const N: usize>(ram: &GuestRam, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    ram.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

#[test]
fn kernel_initrd_and_command_line_lie_where_the_boot_protocol_says() {
    let ram = GuestRam::new(64).unwrap();
    let initrd = vec![0x5a; 10_000];
    let entry = load(&ram, &mut boot(&bzimage(b"kernel code"), &initrd, "quiet"), 2).unwrap();
    assert_eq!(entry, layout::KERNEL + 0x200);
    assert_eq!(&read::<11>(&ram, layout::KERNEL), b"kernel code");
    assert_eq!(&read::<6>(&ram, layout::CMDLINE), b"quiet\0");
    let params: [u8; 4096] = read(&ram, layout::ZERO_PAGE);
    let word = |at: usize| u32::from_le_bytes(params[at..at + 4].try_into().unwrap());
    assert_eq!(&params[0x202..0x206], b"HdrS");
    assert_eq!(word(0x21c), 10_000);
    assert_eq!(read::<4>(&ram, u64::from(word(0x218))), [0x5a; 4]);
    assert_eq!(word(0x218) % 4096, 0);
    assert_eq!(word(0x228), layout::CMDLINE as u32);
    assert_eq!(params[0x1e8], 3, "memory map: low, ACPI, high");
    // A machine that was restored and restarts is saved by its books: all of this must be in them.
    let mut books = crate::memory::dirty::DirtyBitmap::new(ram.bytes());
    books.add_own_writes(&ram);
    let initrd_at = u64::from(word(0x218));
    for at in [
        layout::KERNEL,
        initrd_at,
        initrd_at + 9_999,
        layout::CMDLINE,
        layout::ZERO_PAGE,
        layout::BOOT_GDT,
        layout::BOOT_PAGES,
        layout::ACPI_START,
        layout::RESET_VECTOR,
    ] {
        assert!(books.is_set(at / PAGE), "{at:#x}");
    }
}

#[test]
fn what_cannot_start_is_refused_in_one_sentence() {
    let ram = GuestRam::new(64).unwrap();
    let refused = |kernel: &[u8], initrd: &[u8], cmdline: &str| {
        load(&ram, &mut boot(kernel, initrd, cmdline), 1).unwrap_err().to_string()
    };
    assert!(refused(b"not a kernel", b"", "").contains("not a bzImage"));
    assert!(refused(&[], b"", "").contains("not a bzImage"));
    assert!(refused(&bzimage(b"")[..600], b"", "").contains("not a bzImage"));
    let mut old = bzimage(b"");
    old[0x236] = 0;
    assert!(refused(&old, b"", "").contains("no 64-bit entry"));
    assert!(refused(&bzimage(b""), b"", &"x".repeat(2048)).contains("command line"));
    assert!(refused(&bzimage(b""), &vec![1; 60 << 20], "").contains("do not fit into 64 MiB"));
    assert!(refused(&bzimage(&vec![1; 60 << 20]), b"", "").contains("does not fit"));
}

#[test]
fn every_acpi_table_is_reachable_and_adds_up_to_zero() {
    let ram = GuestRam::new(64).unwrap();
    acpi::write(&ram.memory, 3).unwrap();
    let sum = |at: u64, len: u32| {
        let mut bytes = vec![0; len as usize];
        ram.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        assert_eq!(bytes.iter().fold(0u8, |all, b| all.wrapping_add(*b)), 0, "table at {at:#x}");
        bytes
    };
    let root = sum(layout::ACPI_START, 36);
    assert_eq!(&root[..8], b"RSD PTR ");
    let address = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let table = |at: u64| {
        let head: [u8; 8] = read(&ram, at);
        (head[..4].to_vec(), sum(at, u32::from_le_bytes(head[4..].try_into().unwrap())))
    };
    let (name, xsdt) = table(address(&root, 24));
    assert_eq!(name, b"XSDT");
    let (name, fadt) = table(address(&xsdt, 36));
    assert_eq!(name, b"FACP");
    assert_eq!(table(address(&fadt, 140)).0, b"DSDT");
    let (name, madt) = table(address(&xsdt, 44));
    assert_eq!(name, b"APIC");
    assert_eq!(madt.len(), 44 + 3 * 8 + 12, "three CPUs and an I/O APIC");
}

#[test]
fn a_jump_to_the_firmware_resets() {
    let ram = GuestRam::new(64).unwrap();
    load(&ram, &mut boot(&bzimage(b""), b"", ""), 1).unwrap();
    let code: [u8; 9] = read(&ram, layout::RESET_VECTOR);
    let port = u16::from_le_bytes([code[1], code[2]]);
    let mut power = power::Power::new(crate::devices::irq::Line::new().unwrap());
    let outcome = power.write((port - layout::PM) as u8, code[4]);
    assert_eq!((code[0], code[3], code[5]), (0xba, 0xb0, 0xee));
    assert_eq!(outcome, Some(crate::devices::bus::Request::Reset));
}
