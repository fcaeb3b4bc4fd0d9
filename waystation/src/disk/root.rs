//! Will the guest's kernel find its root where the command line says?

use super::{
    ANYWAY,
    contents::{Contents, Use},
    partitions::{Partition, Table},
};

/// What is on the disk.
pub(super) enum Layout {
    /// Something in the whole of it.
    Whole(Contents),
    Partitions(Table),
}

impl Layout {
    /// Whatever is known on the disk.
    pub fn contents(&self) -> Vec<&Contents> {
        match self {
            Self::Whole(found) => vec![found],
            Self::Partitions(table) => {
                table.partitions.iter().filter_map(|one| one.contents.as_ref()).collect()
            }
        }
    }

    /// Is all of it known, so that no file system hides in something else, and none has a UUID that is not read here?
    fn is_known(&self) -> bool {
        let all = self.contents().iter().all(|found| match found.used {
            Use::Opened { .. } => false,
            Use::Root => found.uuid.is_some(),
            Use::Windows | Use::Other => true,
        });
        let none = |table: &Table| table.partitions.iter().any(|one| one.contents.is_none() && !one.small());
        all && !matches!(self, Self::Partitions(table) if none(table))
    }
}

/// What `root=` says.
#[derive(Debug, PartialEq, Eq)]
enum Root<'a> {
    /// A disk or a partition of it, by the name that a driver gives it.
    Device {
        ours: bool,
        partition: Option<u64>,
    },
    Uuid(&'a str),
    PartUuid(&'a str),
    /// Something that only the guest can know.
    Other,
}

/// Names of disks whose partitions have a bare number, and of those that put a `p` before it.
const BARE: [&str; 4] = ["xvd", "vd", "sd", "hd"];
const NUMBERED: [&str; 2] = ["nvme", "mmcblk"];

fn parse(value: &str) -> Root<'_> {
    let value = value.trim_matches('"');
    if let Some((key, text)) = value.split_once('=') {
        return match key.to_ascii_uppercase().as_str() {
            "UUID" => Root::Uuid(text),
            "PARTUUID" if !text.contains('/') => Root::PartUuid(text),
            _ => Root::Other,
        };
    }
    for (prefix, by_uuid) in [("/dev/disk/by-uuid/", true), ("/dev/disk/by-partuuid/", false)] {
        if let Some(text) = value.strip_prefix(prefix) {
            return if by_uuid { Root::Uuid(text) } else { Root::PartUuid(text) };
        }
    }
    let Some(name) = value.strip_prefix("/dev/") else { return Root::Other };
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (disk, number) = name.split_at(name.len() - digits);
    for prefix in BARE {
        if disk
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_lowercase()))
        {
            return Root::Device { ours: disk == "vda", partition: number.parse().ok() };
        }
    }
    if NUMBERED.iter().any(|prefix| name.starts_with(prefix)) {
        return Root::Device {
            ours: false,
            partition: disk.strip_suffix('p').and_then(|_| number.parse().ok()),
        };
    }
    Root::Other
}

/// Why a cold boot would not find its root; `None` if it may.
pub(super) fn fault(layout: &Layout, cmdline: &str) -> Option<String> {
    let value = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix("root=")).next_back()?;
    let lead = match (parse(value), layout) {
        (Root::Other, _) => return None,
        (Root::Device { ours: false, .. }, _) => {
            format!("root={value} is not on it, since the guest has it as /dev/vda")
        }
        (Root::Device { partition: None, .. }, Layout::Whole(found)) if found.used == Use::Root => {
            return None;
        }
        (Root::Device { .. }, Layout::Whole(found)) => {
            format!("root={value} is no file system: the whole disk is {}", found.what)
        }
        (Root::Device { partition: None, .. }, Layout::Partitions(table)) => {
            format!("root={value} is no file system: there is a {} on it", table.what)
        }
        (Root::Device { partition: Some(number), .. }, Layout::Partitions(table)) => match table
            .partition(number)
        {
            None => format!("root={value} is not on it: it has no partition {number}"),
            Some(partition) => match &partition.contents {
                Some(found) if found.used == Use::Root => return cut(partition, found),
                Some(found) => {
                    format!("root={value} is no file system for a root: partition {number} is {}", found.what)
                }
                // The guest may know a file system that is not known here.
                None if !partition.small() => return None,
                None => format!("root={value} is no file system that is known here"),
            },
        },
        (Root::Uuid(text), _) => {
            let same =
                |found: &&Contents| found.uuid.as_deref().is_some_and(|one| one.eq_ignore_ascii_case(text));
            if !layout.is_known() || layout.contents().iter().any(same) {
                return None;
            }
            format!("root={value} is not on it: no file system there has that UUID")
        }
        (Root::PartUuid(text), Layout::Partitions(table)) => {
            if table.partitions.iter().any(|one| one.uuid.eq_ignore_ascii_case(text)) {
                return None;
            }
            format!("root={value} is not on it: no partition has that PARTUUID")
        }
        (Root::PartUuid(_), Layout::Whole(_)) => format!("root={value} is not on it: it has no partitions"),
    };
    Some(format!("{lead}; {}, {ANYWAY}", advice(layout)))
}

fn cut(partition: &Partition, found: &Contents) -> Option<String> {
    let bytes = found.bytes.filter(|bytes| *bytes > partition.bytes)?;
    Some(format!(
        "{} in partition {} is of {bytes} bytes, but the partition has only {}; copy the disk again, make the partition \
         larger, {ANYWAY}",
        found.what, partition.number, partition.bytes
    ))
}

/// The partition that is most likely the root.
pub(super) fn likely(table: &Table) -> Option<&Partition> {
    let roots = table
        .partitions
        .iter()
        .filter(|one| one.contents.as_ref().is_some_and(|found| found.used == Use::Root));
    roots.max_by_key(|one| (one.root, one.bytes))
}

/// What to write instead.
fn advice(layout: &Layout) -> String {
    let opened = |root: &str, needs: &str| {
        format!("name what is in it, such as root={root}, and give an initrd that has {needs}")
    };
    match layout {
        Layout::Whole(found) => match found.used {
            Use::Root => "write root=/dev/vda in --cmdline".to_owned(),
            Use::Opened { root, needs } => opened(root, needs),
            Use::Windows | Use::Other => "give a disk with Linux on it".to_owned(),
        },
        Layout::Partitions(table) => {
            let Some(root) = likely(table) else {
                let volume = table.partitions.iter().find_map(|one| match one.contents.as_ref()?.used {
                    Use::Opened { root, needs } => Some((one, root, needs)),
                    _ => None,
                });
                return match volume {
                    Some((one, root, needs)) => {
                        let what = one.contents.as_ref().map_or("a volume", |found| found.what);
                        format!("partition {} is {what}: {}", one.number, opened(root, needs))
                    }
                    None => "name the partition with the root, such as root=/dev/vda1".to_owned(),
                };
            };
            let what = root.contents.as_ref().map_or("a file system", |found| found.what);
            let mut text = format!(
                "write root=/dev/vda{} in --cmdline, which is {what} of {}",
                root.number,
                size(root.bytes)
            );
            let others: Vec<_> = table
                .partitions
                .iter()
                .filter(|one| one.number != root.number)
                .filter_map(|one| Some((one, one.contents.as_ref().filter(|found| found.used == Use::Root)?)))
                .map(|(one, found)| format!("/dev/vda{} ({} of {})", one.number, found.what, size(one.bytes)))
                .collect();
            if !others.is_empty() {
                text += &format!(", unless the root is in {}", others.join(" or "));
            }
            text
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0..10_240 => format!("{} MiB", bytes >> 20),
        mib => format!("{} GiB", mib >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_read_as_kernels_and_initrds_read_them() {
        let device = |ours, partition| Root::Device { ours, partition };
        for (text, root) in [
            ("/dev/vda", device(true, None)),
            ("/dev/vda12", device(true, Some(12))),
            ("\"/dev/vda1\"", device(true, Some(1))),
            ("/dev/sda1", device(false, Some(1))),
            ("/dev/xvda", device(false, None)),
            ("/dev/nvme0n1p2", device(false, Some(2))),
            ("/dev/nvme0n1", device(false, None)),
            ("/dev/mmcblk0p1", device(false, Some(1))),
            ("uuid=AB-c", Root::Uuid("AB-c")),
            ("/dev/disk/by-partuuid/x", Root::PartUuid("x")),
            ("PARTUUID=x/PARTNROFF=1", Root::Other),
            ("LABEL=root", Root::Other),
            ("/dev/mapper/vg-root", Root::Other),
            ("/dev/sdab", Root::Other),
            ("nfs:server", Root::Other),
        ] {
            assert_eq!(parse(text), root, "{text}");
        }
    }
}
