//! What a process that holds keys does at its start, and how its sockets are made.

use nix::{
    sys::{
        mman::{MlockAllFlags, mlockall},
        stat,
    },
    unistd,
};
use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::{UnixListener, UnixStream};

/// How long a listener that cannot take a connection pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// No core dumps, no ptrace by others of the same user, no new privileges, files for nobody else, and, where the limit
/// allows it, all memory kept out of swap.
pub fn process() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_no_new_privs()?;
    stat::umask(stat::Mode::from_bits_truncate(0o077));
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    // Under a limit, a later allocation would fail where this call does not.
    if limits.lines().any(|line| line.starts_with("Max locked memory") && line.contains("unlimited")) {
        // Pages are locked as they are touched: the guest's memory is mapped here too, and mostly empty.
        let onfault = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
        if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | onfault) {
            tracing::warn!(%error, "memory cannot be locked");
        }
    }
    Ok(())
}

/// The next connection. A listener that cannot take one now, for want of descriptors or memory, can later: whoever serves
/// a session must not end for it.
pub async fn accepted(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::prctl;

    #[test]
    fn nobody_reads_this_process() {
        process().unwrap();
        assert!(!prctl::get_dumpable().unwrap() && prctl::get_no_new_privs().unwrap());
    }
}
