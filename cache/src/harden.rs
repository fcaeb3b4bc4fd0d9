//! What a process that holds keys does at its start, and its sockets.

use nix::{
    sys::{
        mman::{MlockAllFlags, mlockall},
        stat,
    },
    unistd,
};
use parcel::wire::users;
use sockets::{listen::Peers, names};
use std::{
    io,
    path::{Path, PathBuf},
};

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

/// Who may connect to a socket of this process, apart from `init` and this user. The name decides, not the id: where `cached`
/// runs outside a kiosk, the id is somebody else's.
pub fn peers(user: users::User) -> Peers {
    let known = unistd::User::from_name(user.name).ok().flatten();
    Peers::new(known.map(|user| user.uid.as_raw()))
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
        Self { control: run.join(names::CACHED), guest: run.join(names::GUEST), disk: run.join(names::DISK) }
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
