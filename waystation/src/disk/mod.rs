//! Is a file a disk that can be imported, and will a cold boot find its root there? What is not one is named, with the command
//! or the change that makes it one.

mod contents;
mod foreign;
mod partitions;
mod root;

use crate::{
    AdminError, Result,
    inspect::{self, Input},
};
pub(super) use foreign::quoted;

use contents::Use;
use partitions::{LARGE, SECTOR, Table};
use root::Layout;
use std::path::Path;

/// The largest disk whose keyring leaves a version record can name, with room to spare.
const MAX_DISK: u64 = 2 << 40;
const ANYWAY: &str = "or give --force-raw if it is meant to be like this";

/// A raw disk image with something on it that this program knows, from which this command line starts.
pub(super) fn open(path: &Path, cmdline: &str, force_raw: bool) -> Result<Input> {
    let disk = inspect::open(path, "disk image")?;
    match fault(&disk, path, cmdline, force_raw) {
        Some(why) => Err(AdminError::input(format!("{}: {why}", disk.name))),
        None => Ok(disk),
    }
}

fn fault(disk: &Input, path: &Path, cmdline: &str, force_raw: bool) -> Option<String> {
    if let Some(why) = foreign::fault(disk, path) {
        return Some(why);
    }
    if disk.bytes > MAX_DISK {
        return Some(format!("it is larger than the most, {} GiB; use a smaller disk", MAX_DISK >> 30));
    }
    if !disk.bytes.is_multiple_of(SECTOR) {
        return Some(format!(
            "its {} bytes are not whole sectors of 512, so it is no raw disk or not a whole one; copy it again, or fill \
             its last sector with truncate -s %512 {}",
            disk.bytes,
            foreign::quoted(path)
        ));
    }
    if force_raw {
        return None;
    }
    let whole = contents::at(disk, 0);
    let table = partitions::read(disk, whole.is_some());
    if let Some(why) = table.as_ref().and_then(|table| of_table(disk, table, path)) {
        return Some(why);
    }
    let layout = match (table, whole) {
        (Some(table), _) => Layout::Partitions(table),
        (None, Some(found)) => {
            if let Some(why) =
                cut(disk, found.what.split_once(' ').map_or(found.what, |(_, what)| what), found.bytes)
            {
                return Some(why);
            }
            Layout::Whole(found)
        }
        (None, None) => return Some(nothing(disk, path)),
    };
    no_linux(&layout).or_else(|| root::fault(&layout, cmdline))
}

/// Does it say that it is larger than it is?
fn cut(disk: &Input, what: &str, bytes: Option<u64>) -> Option<String> {
    let bytes = bytes.filter(|bytes| *bytes > disk.bytes)?;
    Some(format!(
        "its {what} is of {bytes} bytes, but the file ends after {}, so it is cut off; copy it again, {ANYWAY}",
        disk.bytes
    ))
}

fn of_table(disk: &Input, table: &Table, path: &Path) -> Option<String> {
    if contents::iso(disk).is_some() && root::likely(table).is_none() {
        return Some(installer(path));
    }
    if table.partitions.is_empty() {
        return Some(format!("its {} has no partitions; install a system on it first, {ANYWAY}", table.what));
    }
    if let Some(why) = cut(disk, table.what, Some(table.bytes)) {
        return Some(why);
    }
    if table.sector != LARGE {
        return None;
    }
    let lead = format!("its {} is for sectors of 4096 bytes, and disks here have sectors of 512", table.what);
    Some(match root::likely(table) {
        Some(root) => format!(
            "{lead}; take its partition {} out with dd if={} of={} bs=4096 skip={} count={} and import that with \
             root=/dev/vda",
            root.number,
            foreign::quoted(path),
            foreign::quoted(&foreign::raw(path)),
            root.start / LARGE,
            root.bytes / LARGE
        ),
        None => format!("{lead}; install the system on a disk with sectors of 512, {ANYWAY}"),
    })
}

fn installer(path: &Path) -> String {
    format!(
        "it is an ISO 9660 image, as installers and live systems are, and no installed system; install from it on a disk \
         that qemu-img create -f raw {} 20G makes and import that, {ANYWAY}",
        foreign::quoted(&foreign::raw(path))
    )
}

/// No table, and nothing known in the whole of it.
fn nothing(disk: &Input, path: &Path) -> String {
    if contents::iso(disk).is_some() {
        return installer(path);
    }
    if partitions::protective(disk) {
        return format!(
            "its boot sector says that there is a partition table (GPT), and there is none; mend it with gdisk or \
             copy the disk again, {ANYWAY}"
        );
    }
    format!(
        "there is no partition table and no known file system in it, so it is empty or no disk image; give \
         another file, {ANYWAY}"
    )
}

/// Has it nothing that Linux could start from?
fn no_linux(layout: &Layout) -> Option<String> {
    let found = layout.contents();
    let may = match layout {
        Layout::Whole(found) => found.may_be_root(),
        Layout::Partitions(table) => table.partitions.iter().any(|one| match &one.contents {
            Some(found) => found.may_be_root(),
            None => !one.small(),
        }),
    };
    if may {
        return None;
    }
    let windows = found.iter().find(|found| found.used == Use::Windows);
    Some(match windows {
        Some(found) => {
            format!(
                "there is {} on it, so it is a disk of Windows, which does not start here; give one with Linux, {ANYWAY}",
                found.what
            )
        }
        None => {
            let mut what: Vec<_> = found.iter().map(|found| found.what).collect();
            what.dedup();
            let what = if what.is_empty() {
                "nothing that is known here".to_owned()
            } else {
                format!("only {}", what.join(" and "))
            };
            format!("there is {what} on it, and no file system for a root; give a disk with one, {ANYWAY}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::{fs::File, os::unix::fs::FileExt as _};

    const MARKS: [(u64, &[u8]); 6] = [
        (510, &[0x55, 0xaa]),
        (512, b"EFI PART"),
        (4096, b"EFI PART"),
        (1080, &[0x53, 0xef]),
        (0, b"XFSB"),
        (0x10040, b"_BHRfS_M"),
    ];

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(
            len in 1u64..400,
            marks in proptest::sample::subsequence(MARKS.to_vec(), 0..3),
            patches in vec((0u64..0x11000, vec(any::<u8>(), 1..80)), 0..9),
            tables in vec((prop_oneof![440u64..512, 544u64..600, 1024u64..1500, 4128u64..4200], vec(any::<u8>(), 1..80)), 0..9),
            root in "(root=)?(/dev/vd[ab]|UUID=|PARTUUID=)?[0-9a-f]{0,12}",
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("disk.img");
            let file = File::create(&path).unwrap();
            file.set_len(len * SECTOR).unwrap();
            for (at, bytes) in patches.iter().chain(&tables) {
                file.write_all_at(bytes, *at).unwrap();
            }
            for (at, bytes) in marks {
                file.write_all_at(bytes, at).unwrap();
            }
            if let Err(refused) = open(&path, &root, false) {
                prop_assert!(refused.error.message.contains("; "), "{}", refused.error.message);
            }
        }
    }
}
