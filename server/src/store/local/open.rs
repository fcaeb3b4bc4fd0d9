//! What a directory is before it is used as a store.

use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

pub(super) const FORMAT: &str = "waystation parcel store, format 2\n";

/// Why a directory cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else uses it.
    #[error(
        "the store {0} is in use by another parcel-server; stop that one, or give this one another directory"
    )]
    InUse(PathBuf),
    /// It is something else.
    #[error(
        "{0} holds files but is not a parcel store; give the directory of the store, or an empty one to init-store"
    )]
    NotAStore(PathBuf),
    /// Nothing is there.
    #[error(
        "there is no parcel store in {0}; if there never was one, make it with parcel-server --config FILE init-store"
    )]
    NoStore(PathBuf),
    /// Nothing is there, and something was.
    #[error(
        "the store that this server kept in {root} is not there; mount it, or put a backup there and run parcel-server \
         --config FILE restored (if it is to be given up for good, remove {witness}, then run init-store)"
    )]
    Gone {
        /// Where it was.
        root: PathBuf,
        /// What remembers it.
        witness: PathBuf,
    },
    /// Another store than the last time.
    #[error(
        "{root} is another store than the one that this server kept there; mount the right one (if this one is to take \
         its place, run parcel-server --config FILE restored, which replaces {witness})"
    )]
    Foreign {
        /// Where it is.
        root: PathBuf,
        /// What remembers the other one.
        witness: PathBuf,
    },
    /// Not as this server left it.
    #[error(
        "the store {root} is not as this server left it ({why}); if it is a backup or was brought here, run parcel-server \
         --config FILE restored, so that whoever works on a parcel learns of it"
    )]
    Restored {
        /// Where it is.
        root: PathBuf,
        /// How that shows.
        why: &'static str,
    },
    /// To be made, and is there.
    #[error(
        "there is a parcel store in {0} already; start the server on it, or give init-store another directory"
    )]
    Exists(PathBuf),
    /// Of another format.
    #[error(
        "the store {0} has a format that this parcel-server does not know; use the version that wrote it, or a newer one"
    )]
    Format(PathBuf),
    /// Reading or writing fails.
    #[error(
        "cannot use {path} as the store: {source}; make it a directory that this user may read and write"
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether a directory is a store; `false`: it is not there, or it may become one.
pub(super) fn is_store(root: &Path) -> Result<bool, OpenError> {
    let format = root.join("format");
    match fs::read(&format) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(true),
        Ok(_) => Err(OpenError::Format(root.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => check_unused(root).map(|()| false),
        Err(source) => Err(OpenError::Io { path: format, source }),
    }
}

/// A directory without a format file may become a store if it is empty but for what a fresh file system holds, or if
/// making one was cut short in it.
fn check_unused(root: &Path) -> Result<(), OpenError> {
    let fail = |source| OpenError::Io { path: root.to_owned(), source };
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(fail)?,
    };
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        let ours = ["lock", "identity", "identity.new", "changes", "changes.new", "format.new", "lost+found"]
            .iter()
            .any(|known| name == *known);
        if !ours {
            return Err(OpenError::NotAStore(root.to_owned()));
        }
    }
    Ok(())
}

pub(super) fn take_lock(root: &Path) -> Result<Flock<File>, OpenError> {
    let path = root.join("lock");
    let fail = |source| OpenError::Io { path: path.clone(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => OpenError::InUse(root.to_owned()),
        error => fail(error.into()),
    })
}
