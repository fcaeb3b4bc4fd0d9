//! What a process that holds keys does at its start, and how its sockets are made.

use nix::{sys::stat, unistd};
use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// No core dumps, no ptrace by others of the same user, and files for nobody else.
pub fn process() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    stat::umask(stat::Mode::from_bits_truncate(0o077));
    Ok(())
}

/// Keeps the pages under `bytes` out of swap, as far as the kernel lets us: appliances have none, and a laptop's
/// limit may be zero, so a refusal is only logged.
pub fn keep_in_ram(bytes: &[u8]) {
    let start = std::ptr::NonNull::new(bytes.as_ptr().cast_mut().cast());
    if let Some(start) = start {
        // SAFETY: mlock only pins pages and touches no contents; the range is that of a live slice.
        if let Err(error) = unsafe { nix::sys::mman::mlock(start, bytes.len()) } {
            tracing::debug!(%error, "memory of a key could not be locked");
        }
    }
}

/// Makes a listening socket file usable by the group `waystation`, if there is one, and by nobody else.
pub fn share_socket(path: &Path) -> io::Result<()> {
    if let Ok(Some(group)) = unistd::Group::from_name("waystation")
        && let Err(error) = unistd::chown(path, None, Some(group.gid))
    {
        tracing::warn!(%error, socket = %path.display(), "the socket could not be given to its group");
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}

/// Removes a socket file left by an earlier process.
pub fn clear_socket(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The three sockets of `cached` in its run folder.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// Steered by `init` and `kiosk-ui`.
    pub control: PathBuf,
    /// The VMM asks for its machine here.
    pub guest: PathBuf,
    /// vhost-user-blk.
    pub disk: PathBuf,
}

impl Sockets {
    /// The sockets in `run`.
    pub fn within(run: &Path) -> Self {
        Self { control: run.join("cached.sock"), guest: run.join("guest.sock"), disk: run.join("disk.sock") }
    }
}
