//! What a directory is before it is used as a store.

use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

pub(super) const FORMAT: &str = "waystation parcel store, format 1\n";

/// Why a directory cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else uses it.
    #[error(
        "the store {0} is in use by another parcel-server; stop that one, or give this one another directory"
    )]
    InUse(PathBuf),
    /// It is something else.
    #[error("{0} holds files but is not a parcel store; give an empty or new directory")]
    NotAStore(PathBuf),
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
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Looks whether a directory is a store, or may become one, and changes nothing.
///
/// # Errors
/// All of [`OpenError`] but [`OpenError::InUse`].
pub fn look(root: &Path) -> Result<(), OpenError> {
    let format = root.join("format");
    match fs::read(&format) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(_) => Err(OpenError::Format(root.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => check_unused(root),
        Err(source) => Err(OpenError::Io { path: format, source }),
    }
}

/// A directory without a format file may become a store if it is empty but for what a fresh file system holds, or if a
/// first start was cut short in it.
fn check_unused(root: &Path) -> Result<(), OpenError> {
    let fail = |source| OpenError::Io { path: root.to_owned(), source };
    for entry in fs::read_dir(root).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let ours = ["lock", "tmp", "chunks", "parcels", "lost+found"].iter().any(|known| name == *known);
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
