//! The mount table as data, and `/proc/mounts`.

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};
use std::{fs, io, path::Path};

/// One file system of the kiosk.
pub struct Mount {
    /// Type and source.
    pub kind: &'static str,
    /// The folder to mount on.
    pub target: &'static str,
    /// Flags of `mount(2)`.
    pub flags: MsFlags,
    /// Options of the file system.
    pub data: &'static str,
    /// `false`: a kernel without it is good enough.
    pub needed: bool,
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// What PID 1 mounts, in order.
pub const EARLY: [Mount; 10] = [
    // Users do not see each other's processes.
    Mount { kind: "proc", target: "/proc", flags: SAFE, data: "hidepid=2", needed: true },
    Mount { kind: "sysfs", target: "/sys", flags: SAFE, data: "", needed: true },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        data: "mode=0755",
        needed: true,
    },
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        data: "mode=0600,ptmxmode=0666",
        needed: false,
    },
    Mount { kind: "tmpfs", target: "/dev/shm", flags: SAFE, data: "mode=1777,size=64m", needed: false },
    Mount { kind: "tmpfs", target: "/run", flags: SAFE, data: "mode=0755,size=64m", needed: true },
    Mount { kind: "tmpfs", target: "/tmp", flags: SAFE, data: "mode=1777,size=256m", needed: true },
    Mount { kind: "cgroup2", target: "/sys/fs/cgroup", flags: SAFE, data: "", needed: false },
    Mount { kind: "securityfs", target: "/sys/kernel/security", flags: SAFE, data: "", needed: false },
    Mount { kind: "efivarfs", target: "/sys/firmware/efi/efivars", flags: SAFE, data: "", needed: false },
];

/// Mounts all of `table`; what is already mounted there stays. Answers what went wrong with needed ones.
pub fn mount_all(table: &[Mount]) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in table {
        let _ = fs::create_dir_all(entry.target);
        let data = (!entry.data.is_empty()).then_some(entry.data);
        let done = mount(Some(entry.kind), entry.target, Some(entry.kind), entry.flags, data);
        // EBUSY: the kernel or an earlier PID 1 mounted it.
        if let Err(errno) = done
            && errno != Errno::EBUSY
            && entry.needed
        {
            wrong.push(format!("{} cannot be mounted on {}: {errno}", entry.kind, entry.target));
        }
    }
    wrong
}

/// A line of `/proc/mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The device, or a word in its place.
    pub source: String,
    /// The folder that it is mounted on.
    pub target: String,
    /// The type of the file system.
    pub kind: String,
}

/// Reads the text of `/proc/mounts`; lines that are not mounts are skipped.
pub fn parse(text: &str) -> Vec<Mounted> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (source, target, kind) = (words.next()?, words.next()?, words.next()?);
            Some(Mounted { source: plain(source), target: plain(target), kind: kind.to_owned() })
        })
        .collect()
}

/// What is mounted at or below `path` now.
///
/// # Errors
/// `/proc/mounts` cannot be read.
pub fn below(path: &Path) -> io::Result<Vec<Mounted>> {
    let all = parse(&fs::read_to_string("/proc/mounts")?);
    Ok(all.into_iter().filter(|mount| Path::new(&mount.target).starts_with(path)).collect())
}

/// Undoes the kernel's octal escapes (`\040` for a blank).
fn plain(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|digits| {
            byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)) && digits.first() <= Some(&b'3')
        });
        match octal {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |value, digit| (value << 3) | (digit - b'0')));
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_lines_and_escapes() {
        let text = "proc /proc proc rw,nosuid 0 0\n/dev/mapper/x /mnt/a\\040b\\134 ext4 rw 0 0\nbroken\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[1].target, "/mnt/a b\\");
        assert_eq!(mounts[1].kind, "ext4");
    }

    #[test]
    fn own_mounts_are_seen() {
        assert!(below(Path::new("/proc")).unwrap().iter().any(|mount| mount.kind == "proc"));
    }

    #[test]
    fn the_table_mounts_parents_first() {
        for (at, entry) in EARLY.iter().enumerate() {
            for later in &EARLY[at + 1..] {
                assert!(
                    !Path::new(entry.target).starts_with(later.target),
                    "{} hides {}",
                    later.target,
                    entry.target
                );
            }
        }
    }

    proptest! {
        #[test]
        fn is_total(text in "\\PC*") {
            for mount in parse(&text) {
                prop_assert!(!mount.kind.contains(' '));
            }
        }
    }
}
