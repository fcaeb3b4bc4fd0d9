//! Temporary folders that vanish when they are dropped, and also when the build is interrupted.

use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// The folders that exist now.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary folder.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    /// Its path when it was made; it may have been moved since.
    registered: PathBuf,
}

impl Scratch {
    /// Makes one in `parent` whose name begins with `prefix`.
    ///
    /// # Errors
    /// When `parent` cannot be written.
    pub fn new_in(parent: &Path, prefix: impl AsRef<OsStr>) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(prefix.as_ref())
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)?;
        let registered = std::path::absolute(folder.path())?;
        live().insert(registered.clone());
        Ok(Self { folder, registered })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        live().remove(&self.registered);
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP delete all temporary folders before they end the process. Call it before any
/// thread is started. Programs that are started get these signals as usual: the standard library unblocks them.
///
/// # Errors
/// When the signals cannot be blocked.
pub fn vanish_on_signals() -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    thread::spawn(move || {
        let signal = signals.wait().unwrap_or(Signal::SIGTERM);
        // Held until the end, so that the build makes no new ones meanwhile.
        let folders = live();
        for folder in folders.iter() {
            // A program of the build may still be writing into it when it is first swept.
            let _ = fs::remove_dir_all(folder).or_else(|_| fs::remove_dir_all(folder));
        }
        eprintln!("\ninterrupted; the output folder is as it was");
        std::process::exit(128 + signal as i32);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_known_while_they_live() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::new_in(base.path(), ".x-").unwrap();
        let path = scratch.path().to_owned();
        assert!(path.is_dir() && live().contains(&path));
        drop(scratch);
        assert!(!path.exists() && !live().contains(&path));
    }
}
