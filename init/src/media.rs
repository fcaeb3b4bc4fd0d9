//! The cache's medium: tmpfs, or a partition under dm-crypt whose key only the kernel holds.

use crate::{helper, log::Log, mounts, procs};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parcel::wire::kiosk::{Cache, CacheKind};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::chown},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// GPT name of the cache's partition.
pub const PARTITION: &str = "waystation-cache";
/// Name of the mapping in `/dev/mapper`.
pub const MAPPING: &str = "waystation-cache";

/// `BLKDISCARD` and `BLKGETSIZE64` of `linux/fs.h`.
const BLKDISCARD: libc::c_ulong = 0x1277;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

/// Device of the partition whose GPT name is [`PARTITION`], below `folder` (`/sys/class/block`).
pub fn partition(folder: &Path) -> Option<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    names.into_iter().find_map(|path| {
        let text = fs::read_to_string(path.join("uevent")).ok()?;
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        if field("PARTNAME=")? != PARTITION {
            return None;
        }
        Some(Path::new("/dev").join(field("DEVNAME=")?))
    })
}

/// Makes the cache and mounts it at `target`. Whatever was there before is gone: the key is new.
///
/// # Errors
/// The medium that IT asked for is not there or does not work.
pub fn mount_cache(cache: &Cache, target: &Path, log: &Log) -> io::Result<()> {
    if !mounts::below(target)?.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(target)?;
    let found = partition(Path::new("/sys/class/block"));
    let device = match (cache.kind, found) {
        (CacheKind::Memory, _) | (CacheKind::Auto, None) => None,
        (_, Some(device)) => Some(device),
        (CacheKind::Disk, None) => {
            let text = format!(
                "no partition is named {PARTITION}; make one, or set the cache to memory in kiosk.toml"
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
    };
    match device {
        Some(device) => {
            encrypt(&device)?;
            let mapped = Path::new("/dev/mapper").join(MAPPING);
            let path = mapped.to_str().unwrap_or_default();
            let options = [
                "-q",
                "-F",
                "-t",
                "ext4",
                "-O",
                "^has_journal",
                "-m",
                "0",
                "-E",
                "lazy_itable_init=1,nodiscard",
                path,
            ];
            helper::run("mke2fs", &options, b"")?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
            mount(Some(&mapped), target, Some("ext4"), flags, None::<&str>)?;
            let _ = fs::remove_dir(target.join("lost+found"));
            log.line("cache", &format!("on {} under a key of its own", device.display()));
        }
        None => {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let size = if cache.size_mib == 0 { "50%".to_owned() } else { format!("{}m", cache.size_mib) };
            mount(
                Some("tmpfs"),
                target,
                Some("tmpfs"),
                flags,
                Some(format!("size={size},mode=0700").as_str()),
            )?;
            log.line("cache", &format!("in memory, at most {size}"));
        }
    }
    chown(target, Some(procs::CACHED), Some(procs::CACHED))?;
    fs::set_permissions(target, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// Maps `device` under a random key that is handed to the kernel and kept nowhere else.
fn encrypt(device: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0u8; 64]);
    getrandom::fill(key.as_mut_slice())
        .map_err(|error| io::Error::other(format!("no random key: {error}")))?;
    let device = device.to_str().unwrap_or_default();
    let options =
        ["open", "--type", "plain", "--cipher", "aes-xts-plain64", "--key-size", "512", "--key-file=-"];
    let args: Vec<&str> =
        options.into_iter().chain(["--keyfile-size", "64", "--batch-mode", device, MAPPING]).collect();
    helper::run("cryptsetup", &args, key.as_slice())
}

/// Unmounts the cache, after deleting what is in it: a tmpfs still held somewhere would keep its pages otherwise, and
/// a disk would first be written what is about to be destroyed.
///
/// # Errors
/// It is still mounted.
pub fn unmount(target: &Path) -> io::Result<()> {
    for _ in 0..8 {
        let mounted = mounts::below(target)?;
        let Some(last) = mounted.last() else { return Ok(()) };
        empty(Path::new(&last.target));
        umount2(last.target.as_str(), MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Err(io::Error::other(format!("{} is mounted many times over", target.display())))
}

/// Deletes everything in a folder; answers how many entries resisted.
pub fn empty(folder: &Path) -> usize {
    let mut left = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        let gone = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        left += usize::from(gone.is_err());
    }
    left
}

/// Whether the mapping exists, by the kernel's own list below `folder` (`/sys/class/block`).
pub fn mapped(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).any(|entry| {
        fs::read_to_string(entry.path().join("dm/name")).is_ok_and(|name| name.trim() == MAPPING)
    })
}

/// Removes the mapping: the kernel zeroes the key, and the partition is noise from then on.
///
/// # Errors
/// It is in use.
pub fn close() -> io::Result<()> {
    if !mapped(Path::new("/sys/class/block")) {
        return Ok(());
    }
    helper::run("cryptsetup", &["close", MAPPING], b"")
}

/// How a discard went.
#[derive(Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The device dropped its blocks.
    Yes,
    /// The device cannot.
    Unsupported,
}

/// Discards all blocks of the cache's partition, if there is one: defence in depth behind the lost key.
///
/// # Errors
/// The device can discard, but did not.
pub fn discard() -> io::Result<Option<Discarded>> {
    let Some(device) = partition(Path::new("/sys/class/block")) else { return Ok(None) };
    let file = OpenOptions::new().write(true).open(device)?;
    let range = [0, size(&file)?];
    // SAFETY: BLKDISCARD reads two 64-bit integers, start and length in bytes, which live through the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, &range) } {
        0 => Ok(Some(Discarded::Yes)),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Some(Discarded::Unsupported)),
            error => Err(error),
        },
    }
}

fn size(device: &File) -> io::Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes one 64-bit integer, which lives through the call.
    match unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64, &mut bytes) } {
        0 => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_found_by_its_gpt_name() {
        let sys = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("sda", "DEVNAME=sda\nDEVTYPE=disk\n"),
            ("sda1", "DEVNAME=sda1\nDEVTYPE=partition\nPARTNAME=waystation-cache-old\n"),
            ("sda2", "DEVNAME=sda2\nDEVTYPE=partition\nPARTNAME=waystation-cache\n"),
        ] {
            fs::create_dir(sys.path().join(name)).unwrap();
            fs::write(sys.path().join(name).join("uevent"), text).unwrap();
        }
        assert_eq!(partition(sys.path()), Some(PathBuf::from("/dev/sda2")));
        assert_eq!(partition(Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_mapping_is_known_by_its_name() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("dm-0/dm")).unwrap();
        fs::write(sys.path().join("dm-0/dm/name"), "other\n").unwrap();
        assert!(!mapped(sys.path()));
        fs::write(sys.path().join("dm-0/dm/name"), "waystation-cache\n").unwrap();
        assert!(mapped(sys.path()));
    }

    #[test]
    fn emptying_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        assert_eq!(empty(folder.path()), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }
}
