//! Partition tables: GPT (UEFI 2.10, chapter 5) and MBR with its logical partitions, as the guest's kernel numbers them.

use super::contents::{self, Contents, Use};
use crate::inspect::Input;

/// Sectors of the disks that a machine has here.
pub(super) const SECTOR: u64 = 512;
/// Sectors of some disks elsewhere.
pub(super) const LARGE: u64 = 4096;
/// The most entries of a GPT that are looked at, and of logical partitions.
const MOST: u64 = 256;
/// The most tables of logical partitions that follow each other without one: a chain may lead back to itself.
const EMPTY: u32 = 100;
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

/// Where the logical partitions of an extended one lie, in sectors: start and length, in the order of their numbers. Each
/// has a table of its own, which also says where the next table lies. As Linux reads them (block/partitions/msdos.c), a
/// table without a partition takes no number, and each entry may be the link.
fn logical(disk: &Input, (begin, sectors): (u64, u64), sector: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let (mut table, mut room, mut empty) = (begin, sectors, 0);
    while empty <= EMPTY && (found.len() as u64) < MOST {
        let at = table * sector;
        if !disk.is(at + 510, &[0x55, 0xaa]) {
            break;
        }
        let (links, parts): (Vec<_>, Vec<_>) = (0..4)
            .map(|index| (index, at + 446 + 16 * index))
            .map(|(index, at)| (index, disk.at(at + 4).unwrap_or([0]), disk.u32(at + 8), disk.u32(at + 12)))
            .filter(|(.., len)| *len != 0)
            .partition(|(_, kind, ..)| matches!(kind, [0x05 | 0x0f | 0x85]));
        empty += 1;
        for (index, _, start, len) in parts {
            let inside = start + len <= room && table + start + len <= begin + sectors;
            // The last two often hold something else.
            if index < 2 || inside {
                found.push((table + start, len));
                empty = 0;
            }
        }
        let Some((_, _, start, len)) = links.first() else { break };
        (table, room) = (begin + start, *len);
    }
    found
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
    let mut extended = Vec::new();
    for (index, (kind, start, len)) in entries.into_iter().enumerate() {
        if kind == 0 || len == 0 {
            continue;
        }
        last = last.max(start + len);
        match kind {
            0x05 | 0x0f | 0x85 => extended.push((start, len)),
            _ => add(index as u64 + 1, start, len),
        }
    }
    let logical = extended.into_iter().flat_map(|one| logical(disk, one, sector));
    for (number, (start, len)) in (5..MOST).zip(logical) {
        add(number, start, len);
    }
    Some(Table { what: "partition table (MBR)", sector, bytes: last * sector, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    /// Where a table lies, and of its entries the place, kind, start and length.
    type Entries<'a> = (u64, &'a [(u64, u8, u32, u32)]);

    /// Number and first sector of each partition of a disk with these tables.
    fn found(tables: &[Entries<'_>]) -> Vec<(u64, u64)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(2000 * SECTOR).unwrap();
        for (table, entries) in tables {
            let at = table * SECTOR;
            file.as_file().write_all_at(&[0x55, 0xaa], at + 510).unwrap();
            for (index, kind, start, len) in *entries {
                let mut bytes = [0; 16];
                bytes[4] = *kind;
                bytes[8..12].copy_from_slice(&start.to_le_bytes());
                bytes[12..].copy_from_slice(&len.to_le_bytes());
                file.as_file().write_all_at(&bytes, at + 446 + 16 * index).unwrap();
            }
        }
        let disk = crate::inspect::open(file.path(), "disk image").unwrap();
        let table = mbr(&disk, SECTOR).unwrap();
        table.partitions.iter().map(|one| (one.number, one.start / SECTOR)).collect()
    }

    #[test]
    fn logical_partitions_have_the_numbers_that_linux_gives() {
        let extended = (0, &[(0, 0x83, 1, 50), (1, 0x05, 100, 1000)][..]);
        let second = (200, &[(0, 0x83, 10, 50), (1, 0x05, 200, 100)][..]);
        let third = (300, &[(0, 0x83, 10, 50)][..]);
        // The first table has no partition, as after the first logical one was deleted.
        let empty = (100, &[(1, 0x05, 100, 100)][..]);
        assert_eq!(found(&[extended, empty, second, third]), [(1, 1), (5, 210), (6, 310)]);
        // The link is not always the second entry, nor the partition the first.
        let elsewhere = (100, &[(1, 0x83, 20, 30), (3, 0x0f, 100, 100)][..]);
        assert_eq!(found(&[extended, elsewhere, second, third]), [(1, 1), (5, 120), (6, 210), (7, 310)]);
        // What the last two hold counts only where it fits.
        let garbage = (100, &[(0, 0x83, 20, 30), (2, 0x83, 20, 5000), (1, 0x05, 200, 100)][..]);
        assert_eq!(found(&[extended, garbage, third]), [(1, 1), (5, 120), (6, 310)]);
        // A chain may lead back to itself.
        let circle = (100, &[(1, 0x05, 0, 100)][..]);
        assert_eq!(found(&[extended, circle]), [(1, 1)]);
    }
}
