//! ACPI tables: a hardware-reduced machine with one I/O APIC, virtio-mmio devices (`LNRO0005`), two serial ports, a
//! clock, a power button and a generation identifier (ACPI 6.5; Microsoft, "Virtual Machine Generation ID").

use crate::{
    devices::power::{BUTTON, EVENTS, GENERATION, RESET, RESET_VALUE, S5, SLEEP_CONTROL, SLEEP_STATUS},
    error::{Error, Result},
    layout::{self, Slot},
    memory::Memory,
};
use acpi_tables::{
    Aml,
    aml::{
        And, Arg, Device, EISAName, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
        FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method, Name, Notify, ONE, OpRegion,
        OpRegionSpace, Package, Path, ResourceTemplate, Scope, Store, ZERO,
    },
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use vm_memory::{Bytes, GuestAddress};

const OEM: [u8; 6] = *b"WAYSTN";
const TABLE: [u8; 8] = *b"WAYSTATN";
/// The tables are the same in every device model so far.
const REVISION: u32 = 1;

fn bytes_of(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

fn port(offset: u8) -> GAS {
    let address = u64::from(layout::PM + u16::from(offset));
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
}

/// Writes the tables; the root pointer comes first, at [`layout::ACPI_START`].
///
/// # Errors
/// When they do not fit their place.
pub fn write(memory: &Memory, vcpus: u32) -> Result<()> {
    let mut next = layout::ACPI_START + 64;
    let mut put = |bytes: &[u8]| -> Result<u64> {
        let at = next;
        next = (at + bytes.len() as u64).next_multiple_of(16);
        if next > layout::VMGENID {
            return Err(Error::Machine("the ACPI tables are too long".into()));
        }
        memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|e| Error::Memory(format!("ACPI tables: {e}")))?;
        Ok(at)
    };
    let dsdt = put(&bytes_of(&dsdt()))?;
    let fadt = put(&bytes_of(&fadt(dsdt)))?;
    let madt = put(&bytes_of(&madt(vcpus)))?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = put(&bytes_of(&xsdt))?;
    memory
        .write_slice(&bytes_of(&Rsdp::new(OEM, xsdt)), GuestAddress(layout::ACPI_START))
        .map_err(|e| Error::Memory(format!("ACPI tables: {e}")))
}

fn fadt(dsdt: u64) -> acpi_tables::fadt::FADT {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        // The power button is a device, not a fixed register.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.reset_reg = port(RESET);
    fadt.reset_value = RESET_VALUE;
    fadt.sleep_control_reg = port(SLEEP_CONTROL);
    fadt.sleep_status_reg = port(SLEEP_STATUS);
    // No VGA, no MSI; a CMOS clock is there.
    fadt.iapc_boot_arch = (1 << 2 | 1 << 3).into();
    fadt.finalize()
}

fn madt(vcpus: u32) -> MADT {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(layout::LAPIC));
    for id in 0..vcpus as u8 {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

fn edge(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}

fn dsdt() -> Sdt {
    let mut aml = Vec::new();
    for slot in Slot::ALL {
        let name = format!("_SB_.VR{:02}", slot as u8);
        let memory = Memory32Fixed::new(true, slot.address() as u32, layout::MMIO_SIZE as u32);
        let interrupt = edge(slot.gsi());
        Device::new(
            name.as_str().into(),
            vec![
                &Name::new("_HID".into(), &"LNRO0005"),
                &Name::new("_UID".into(), &(slot as u8)),
                &Name::new("_CCA".into(), &ONE),
                &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&memory, &interrupt])),
            ],
        )
        .to_aml_bytes(&mut aml);
    }
    for (uid, name, base, gsi) in [
        (1u8, "_SB_.COM1", layout::COM1, layout::COM1_GSI),
        (2u8, "_SB_.COM2", layout::COM2, layout::COM2_GSI),
    ] {
        let ports = IO::new(base, base, 1, 8);
        let interrupt = edge(gsi);
        Device::new(
            name.into(),
            vec![
                &Name::new("_HID".into(), &EISAName::new("PNP0501")),
                &Name::new("_UID".into(), &uid),
                &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &interrupt])),
            ],
        )
        .to_aml_bytes(&mut aml);
    }
    let clock = IO::new(layout::RTC, layout::RTC, 1, 2);
    Device::new(
        "_SB_.RTC_".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0B00")),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&clock])),
        ],
    )
    .to_aml_bytes(&mut aml);
    Device::new(
        "_SB_.PWRB".into(),
        vec![&Name::new("_HID".into(), &EISAName::new("PNP0C0C")), &Name::new("_UID".into(), &ZERO)],
    )
    .to_aml_bytes(&mut aml);
    Device::new(
        "_SB_.VGEN".into(),
        vec![
            &Name::new("_HID".into(), &"WAYS0001"),
            &Name::new("_CID".into(), &"VM_Gen_Counter"),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Name::new("ADDR".into(), &Package::new(vec![&(layout::VMGENID as u32), &ZERO])),
        ],
    )
    .to_aml_bytes(&mut aml);
    event_device(&mut aml);
    Name::new("_S5_".into(), &Package::new(vec![&S5, &S5, &ZERO, &ZERO])).to_aml_bytes(&mut aml);
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    table.append_slice(&aml);
    table
}

/// The generic event device: one interrupt, whose handler takes the event register and tells the devices concerned.
fn event_device(aml: &mut Vec<u8>) {
    let interrupt = edge(layout::GED_GSI);
    let events = u32::from(layout::PM) + u32::from(EVENTS);
    Scope::new(
        "_SB_".into(),
        vec![&Device::new(
            "GED_".into(),
            vec![
                &Name::new("_HID".into(), &"ACPI0013"),
                &Name::new("_UID".into(), &ZERO),
                &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&interrupt])),
                &OpRegion::new("EVTR".into(), OpRegionSpace::SystemIO, &events, &ONE),
                &Field::new(
                    "EVTR".into(),
                    FieldAccessType::Byte,
                    FieldLockRule::NoLock,
                    FieldUpdateRule::WriteAsZeroes,
                    vec![FieldEntry::Named(*b"EVTS", 8)],
                ),
                &Method::new(
                    "_EVT".into(),
                    1,
                    true,
                    vec![&If::new(
                        &Equal::new(&Arg(0), &layout::GED_GSI),
                        vec![
                            &Store::new(&Local(0), &Path::new("EVTS")),
                            &And::new(&Local(1), &Local(0), &BUTTON),
                            &If::new(&Local(1), vec![&Notify::new(&Path::new("\\_SB_.PWRB"), &0x80u8)]),
                            &And::new(&Local(1), &Local(0), &GENERATION),
                            &If::new(&Local(1), vec![&Notify::new(&Path::new("\\_SB_.VGEN"), &0x80u8)]),
                        ],
                    )],
                ),
            ],
        )],
    )
    .to_aml_bytes(aml);
}

/// Writes a new random generation identifier.
///
/// # Errors
/// When there is no entropy, or the memory is too small.
pub fn renew_generation(memory: &Memory) -> Result<()> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::Machine(format!("no random bytes: {e}")))?;
    memory
        .write_slice(&id, GuestAddress(layout::VMGENID))
        .map_err(|e| Error::Memory(format!("generation identifier: {e}")))
}
