//! Partition tables: GPT (UEFI 2.10, chapter 5) and MBR with its logical partitions, as the guest's kernel numbers them.

use super::contents::{self, Contents, Use};
use crate::inspect::Input;

/// Sectors of the disks that a machine has here.
pub(super) const SECTOR: u64 = 512;
/// Sectors of some disks elsewhere.
pub(super) const LARGE: u64 = 4096;
/// The most entries of a GPT that are looked at, and of logical partitions.
const MOST: u64 = 256;
/// A root file system for x86-64 (Discoverable Partitions Specification).
const LINUX_ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub number: u64,
    /// Offset in bytes.
    pub start: u64,
    pub bytes: u64,
    /// As `root=PARTUUID=` has it.
    pub uuid: String,
    /// Its type says that it is the root.
    pub root: bool,
    pub contents: Option<Contents>,
}

impl Partition {
    /// Too small for a system: boot loaders and Windows have such ones, with nothing in them that is known here.
    pub fn small(&self) -> bool {
        self.bytes <= 128 << 20
    }
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub what: &'static str,
    /// Bytes of the sectors that it counts in.
    pub sector: u64,
    /// What the disk must have for it.
    pub bytes: u64,
    pub partitions: Vec<Partition>,
}

impl Table {
    pub fn partition(&self, number: u64) -> Option<&Partition> {
        self.partitions.iter().find(|one| one.number == number)
    }

    fn has_root(&self) -> bool {
        self.partitions.iter().any(|one| one.contents.as_ref().is_some_and(Contents::may_be_root))
    }
}

/// The table of a disk. `whole`: something is known that lies in the whole of it, so old entries of an MBR mean nothing
/// unless there is something in them.
pub(super) fn read(disk: &Input, whole: bool) -> Option<Table> {
    if let Some(table) = [SECTOR, LARGE].into_iter().find_map(|sector| gpt(disk, sector)) {
        return Some(table);
    }
    let table = if protective(disk) { None } else { mbr(disk, SECTOR) }?;
    if table.has_root() {
        return Some(table);
    }
    // Nothing in the table says in which sectors it counts.
    mbr(disk, LARGE).filter(Table::has_root).or((!whole).then_some(table))
}

/// Does an MBR say that there is a GPT?
pub(super) fn protective(disk: &Input) -> bool {
    disk.is(510, &[0x55, 0xaa]) && (0..4).any(|index| disk.is(446 + 16 * index + 4, &[0xee]))
}

fn gpt(disk: &Input, sector: u64) -> Option<Table> {
    if !disk.is(sector, b"EFI PART") {
        return None;
    }
    let last = disk.u64(sector + 32);
    let entries = disk.u64(sector + 72).saturating_mul(sector);
    let (count, size) = (disk.u32(sector + 80).min(MOST), disk.u32(sector + 84).clamp(128, 4096));
    let mut partitions = Vec::new();
    for index in 0..count {
        let Some(entry) = disk.at::<48>(entries.saturating_add(index * size)) else { break };
        let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
        if entry[..16] == [0; 16] || last < first {
            continue;
        }
        let start = first.saturating_mul(sector);
        partitions.push(Partition {
            number: index + 1,
            start,
            bytes: (last - first).saturating_add(1).saturating_mul(sector),
            uuid: guid(&entry[16..32]),
            root: guid(&entry[..16]) == LINUX_ROOT,
            contents: contents::at(disk, start.min(i64::MAX as u64 / 2)),
        });
    }
    let bytes = last.saturating_add(1).saturating_mul(sector);
    Some(Table { what: "partition table (GPT)", sector, bytes, partitions })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Its first three parts lie with their last byte first.
fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    contents::dashed(order.iter().filter_map(|index| bytes.get(*index)))
}

/// An entry of an MBR: kind, first sector, sectors.
fn entry(disk: &Input, table: u64, index: u64) -> Option<(u8, u64, u64)> {
    let [flag, _, _, _, kind, ..]: [u8; 16] = disk.at(table + 446 + 16 * index)?;
    let at = table + 446 + 16 * index;
    // Where other flags stand there is no table but code, as in a file system that begins with a boot sector.
    (flag & 0x7f == 0).then(|| (kind, disk.u32(at + 8), disk.u32(at + 12)))
}

fn mbr(disk: &Input, sector: u64) -> Option<Table> {
    if !disk.is(510, &[0x55, 0xaa]) || contents::at(disk, 0).is_some_and(|found| found.used == Use::Windows) {
        return None;
    }
    let entries: Option<Vec<_>> = (0..4).map(|index| entry(disk, 0, index)).collect();
    let id = disk.u32(440);
    let mut partitions = Vec::new();
    let mut add = |number: u64, start: u64, len: u64| {
        let start = start * sector;
        partitions.push(Partition {
            number,
            start,
            bytes: len * sector,
            uuid: format!("{id:08x}-{number:02x}"),
            root: false,
            contents: contents::at(disk, start),
        });
    };
    let entries = entries?;
    let mut last = 0;
    let mut extended = None;
    for (index, (kind, start, len)) in entries.into_iter().enumerate() {
        if kind == 0 || len == 0 {
            continue;
        }
        last = last.max(start + len);
        match kind {
            0x05 | 0x0f | 0x85 => extended = Some(start),
            _ => add(index as u64 + 1, start, len),
        }
    }
    // Each logical partition has a table of its own: where it lies, and where the next such table does.
    if let Some(begin) = extended {
        let mut table = begin;
        for number in 5..MOST {
            let at = table * sector;
            if !disk.is(at + 510, &[0x55, 0xaa]) {
                break;
            }
            if let Some((_, start, len)) = entry(disk, at, 0).filter(|(kind, _, len)| *kind != 0 && *len != 0)
            {
                add(number, table + start, len);
            }
            match entry(disk, at, 1) {
                Some((0x05 | 0x0f | 0x85, next, _)) if next > 0 => table = begin + next,
                _ => break,
            }
        }
    }
    Some(Table { what: "partition table (MBR)", sector, bytes: last * sector, partitions })
}
