//! The cache's medium: tmpfs, or a partition under dm-crypt whose key only the kernel holds.

use crate::{disks, folder, helper, log::Log, mounts};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use parcel::wire::{
    kiosk::{Cache, CacheKind},
    users,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::chown},
    path::Path,
    time::Duration,
};
use zeroize::Zeroizing;

/// Name of the mapping in `/dev/mapper`.
pub const MAPPING: &str = "waystation-cache";

/// `BLKDISCARD` and `BLKGETSIZE64` of `linux/fs.h`.
const BLKDISCARD: libc::c_ulong = 0x1277;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

/// Where the kernel lists block devices.
const BLOCK: &str = "/sys/class/block";
/// How often, and how long after each other, a cache that is still in use is unmounted.
const UNMOUNTS: u32 = 20;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(100);

/// Makes the cache and mounts it at `target`: under a new key, or in new memory.
///
/// # Errors
/// The medium that IT asked for is not there or does not work; nothing is left half made. Or a wipe could not take the
/// last session's away: nobody else gets that one.
pub fn mount_cache(cache: &Cache, target: &Path, log: &Log) -> io::Result<()> {
    if !mounts::below(target)?.is_empty() || mapped(Path::new(BLOCK))? {
        return Err(io::Error::other("the last session's could not be taken away; restart this kiosk"));
    }
    make(cache, target, log).inspect_err(|_| {
        let _ = unmount(target);
        let _ = close();
    })
}

fn make(cache: &Cache, target: &Path, log: &Log) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let device = match cache.kind {
        CacheKind::Memory => None,
        CacheKind::Auto => disks::cache()?,
        CacheKind::Disk => Some(
            disks::cache()?
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, disks::missing(&cache.device)))?,
        ),
    };
    let device = device.map(|partition| partition.node());
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
    chown(target, Some(users::CACHED.id), Some(users::CACHED.id))?;
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
    for _ in 0..UNMOUNTS {
        let mounted = mounts::below(target)?;
        let Some(last) = mounted.last() else { return Ok(()) };
        // What resists is gone with the mount.
        let _ = folder::empty(Path::new(&last.target), None);
        match umount2(last.target.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
            // A file of a process that has just ended may still be closing.
            Err(Errno::EBUSY) => std::thread::sleep(UNMOUNT_PAUSE),
            done => done?,
        }
    }
    Err(io::Error::other(format!("{} is still in use", target.display())))
}

/// Whether the mapping exists, by the kernel's own list below `folder` (`/sys/class/block`).
///
/// # Errors
/// The list cannot be read.
pub fn mapped(folder: &Path) -> io::Result<bool> {
    for entry in folder::entries(folder)? {
        let name = folder::text_of(&entry.path().join("dm/name"))?;
        if name.is_some_and(|name| name.trim() == MAPPING) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the mapping: the kernel zeroes the key, and the partition is noise from then on.
///
/// # Errors
/// It is in use.
pub fn close() -> io::Result<()> {
    if !mapped(Path::new(BLOCK))? {
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

/// Discards all blocks of the cache's partition: defence in depth behind the lost key. `None`: there is none.
///
/// # Errors
/// The device can discard, but did not.
pub fn discard() -> io::Result<Option<Discarded>> {
    disks::cache()?.map(|partition| discard_one(&partition.node())).transpose()
}

fn discard_one(device: &Path) -> io::Result<Discarded> {
    let file = OpenOptions::new().write(true).open(device)?;
    let range = [0, size(&file)?];
    // SAFETY: BLKDISCARD reads two 64-bit integers, start and length in bytes, which live through the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, &range) } {
        0 => Ok(Discarded::Yes),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Discarded::Unsupported),
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
    fn a_mapping_is_known_by_its_name() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("dm-0/dm")).unwrap();
        fs::write(sys.path().join("dm-0/dm/name"), "other\n").unwrap();
        assert!(!mapped(sys.path()).unwrap());
        fs::write(sys.path().join("dm-0/dm/name"), "waystation-cache\n").unwrap();
        assert!(mapped(sys.path()).unwrap());
    }
}
