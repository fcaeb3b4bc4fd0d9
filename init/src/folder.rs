//! Folders as they are: what cannot be read is an error and never an empty folder, or a wipe that could not look would
//! seem to have found nothing.

use std::{fs, io, path::Path};

/// What is in a folder; nothing if there is no such folder, or it is one of a process that is gone.
///
/// # Errors
/// It is there and cannot be read.
pub fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{} cannot be read: {error}", folder.display()))
    };
    let read = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<_>>);
    match read {
        Err(error) if vanished(&error) => Ok(Vec::new()),
        read => read.map_err(named),
    }
}

/// Deletes everything in a folder but `kept`, as far as it can.
///
/// # Errors
/// The folder cannot be read, or entries resist; the message tells how many.
pub fn empty(folder: &Path, kept: Option<&str>) -> io::Result<()> {
    let mut resisting = 0;
    for entry in entries(folder)? {
        if kept.is_some_and(|kept| entry.file_name() == kept) {
            continue;
        }
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let gone = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        resisting += usize::from(gone.is_err());
    }
    match resisting {
        0 => Ok(()),
        1 => Err(io::Error::other(format!("an entry of {} cannot be deleted", folder.display()))),
        many => Err(io::Error::other(format!("{many} entries of {} cannot be deleted", folder.display()))),
    }
}

/// The text of a file of a process or device that may go away at any time; `None` once it has. Bytes that are no text
/// are replaced: a process may call itself what it wants, and must not hide by it.
///
/// # Errors
/// It is there and cannot be read.
pub fn text_of(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if vanished(&error) => Ok(None),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("{} cannot be read: {error}", path.display())))
        }
    }
}

/// Whether an error says that a file, process or device is not there (any more).
pub fn vanished(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::ENXIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(entries(&file).is_err() && empty(&file, None).is_err());
        assert!(text_of(folder.path()).is_err());
        assert!(entries(&folder.path().join("none")).unwrap().is_empty());
        assert_eq!(text_of(&folder.path().join("none")).unwrap(), None);
        assert_eq!(text_of(&file).unwrap().as_deref(), Some("x"));
    }

    #[test]
    fn emptying_leaves_the_folder_and_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "x").unwrap();
        fs::write(folder.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        empty(folder.path(), Some("kept")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Path::new("/etc/passwd").exists());
    }
}
