//! Temporary folders that vanish when they are dropped, and also when the build is interrupted; what a build that was
//! killed or lost its power left behind goes when the next one begins.

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
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
    /// Tells other builds that it is in use; `None` where the file system has no locks, and then nobody sweeps.
    _in_use: Option<Flock<fs::File>>,
}

impl Scratch {
    /// Makes one in `parent` whose name begins with `prefix`.
    ///
    /// # Errors
    /// When `parent` cannot be written.
    pub fn new_in(parent: &Path, prefix: impl AsRef<OsStr>) -> io::Result<Self> {
        let prefix = prefix.as_ref();
        sweep(parent, prefix);
        loop {
            let folder = tempfile::Builder::new()
                .prefix(prefix)
                .rand_bytes(RANDOM)
                .permissions(fs::Permissions::from_mode(0o755))
                .tempdir_in(parent)?;
            let registered = std::path::absolute(folder.path())?;
            live().insert(registered.clone());
            let in_use = lock(&registered, FlockArg::LockExclusive);
            let scratch = Self { folder, registered, _in_use: in_use };
            // Another build may have swept it before it was locked.
            if scratch.path().exists() {
                return Ok(scratch);
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Deleted while the list is held: a signal meanwhile must not end the process with half of it left.
        let mut folders = live();
        let _ = fs::remove_dir_all(&self.registered);
        folders.remove(&self.registered);
    }
}

fn lock(folder: &Path, how: FlockArg) -> Option<Flock<fs::File>> {
    Flock::lock(fs::File::open(folder).ok()?, how).ok()
}

/// Characters that [`tempfile`] adds to the prefix.
const RANDOM: usize = 6;

/// Deletes folders whose names are made as here and that no build is using.
fn sweep(parent: &Path, prefix: &OsStr) {
    let ours = |name: &OsStr| {
        let random = name.as_bytes().strip_prefix(prefix.as_bytes());
        random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| ours(&entry.file_name())) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(_left_behind) = lock(&entry.path(), FlockArg::LockExclusiveNonblock)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
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

    /// As after a power cut: the folder is there and nobody holds it.
    #[test]
    fn what_a_killed_build_left_is_swept_and_what_is_in_use_is_not() {
        let base = tempfile::tempdir().unwrap();
        let used = Scratch::new_in(base.path(), ".x-").unwrap();
        for name in [".x-aB3lft", ".x-a left", ".x-aB3le", ".y-aB3left"] {
            fs::create_dir_all(base.path().join(name).join("netboot")).unwrap();
        }
        fs::write(base.path().join(".x-aafile"), b"").unwrap();
        let next = Scratch::new_in(base.path(), ".x-").unwrap();
        assert!(used.path().exists() && next.path().exists());
        let left = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut left: Vec<_> = left.filter(|path| path != used.path() && path != next.path()).collect();
        left.sort();
        let expected = [".x-a left", ".x-aB3le", ".x-aafile", ".y-aB3left"];
        assert_eq!(left, expected.map(|name| base.path().join(name)));
    }
}
