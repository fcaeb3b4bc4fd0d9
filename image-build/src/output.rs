//! The output folder: made beside its place and moved there when it is whole, so a build that fails, or a machine that
//! loses power, leaves what was there before.

use crate::error::BuildError;
use crate::scratch::Scratch;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// File that marks a folder as made by a build.
pub const MANIFEST: &str = "manifest.json";

/// A half-made output folder. Dropped without [`Staging::finish`], it vanishes.
#[derive(Debug)]
pub struct Staging {
    half: Scratch,
    place: PathBuf,
}

impl Staging {
    /// Begins beside `place`.
    ///
    /// # Errors
    /// When `place` holds something that is not from an earlier build, or its parent cannot be written.
    pub fn begin(place: &Path) -> Result<Self, BuildError> {
        check_free(place)?;
        // The folder itself and not a link to it, `.` or `out` alone: the two halves must be neighbours.
        let place = match fs::canonicalize(place) {
            Ok(real) => real,
            Err(_) => std::path::absolute(place).map_err(BuildError::io(place, "finding the folder"))?,
        };
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(BuildError::NoFolder { path: place });
        };
        fs::create_dir_all(parent).map_err(BuildError::io(parent, "making the folder"))?;
        if let (Ok(own), Ok(around)) = (fs::metadata(&place), fs::metadata(parent))
            && own.dev() != around.dev()
        {
            return Err(BuildError::NoFolder { path: place });
        }
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".half-");
        let half = Scratch::new_in(parent, prefix).map_err(BuildError::io(parent, "making a folder"))?;
        Ok(Self { half, place })
    }

    /// The folder to fill.
    pub fn path(&self) -> &Path {
        self.half.path()
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BuildError> {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(BuildError::io(parent, "making the folder"))?;
        }
        let write = || {
            let mut file = fs::File::create(&path)?;
            std::io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        };
        write().map_err(|source| BuildError::Io { path: self.place.join(name), doing: "writing", source })
    }

    /// Puts the folder in its place; an earlier build there is replaced in one step.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn finish(self) -> Result<(), BuildError> {
        let place = || -> io::Result<()> {
            sync_folders(self.half.path())?;
            if self.place.exists() {
                exchange(self.half.path(), &self.place)?;
                // Now the temporary folder is the earlier build, and goes with `self`.
            } else {
                fs::rename(self.half.path(), &self.place)?;
            }
            // Before the earlier build goes, the new one is there for good.
            self.place.parent().map_or(Ok(()), sync)
        };
        check_free(&self.place)?;
        place().map_err(|source| BuildError::Io {
            path: self.place.clone(),
            doing: "putting the result in place",
            source,
        })
    }
}

/// Swaps two neighbouring folders.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => exchange_by_steps(new, old),
        done => Ok(done?),
    }
}

/// For file systems that cannot do it in one (NFS, many FUSE ones): for a moment nothing is at `old`.
fn exchange_by_steps(new: &Path, old: &Path) -> io::Result<()> {
    let mut aside = new.as_os_str().to_owned();
    aside.push(".earlier");
    fs::rename(old, &aside)?;
    match fs::rename(new, old) {
        Ok(()) => fs::rename(&aside, new),
        Err(error) => {
            fs::rename(&aside, old)?;
            Err(error)
        }
    }
}

/// Makes the names in a folder, and in those within it, last through a power cut.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// A build may take the place of nothing, of an empty folder, and of an earlier build.
fn check_free(place: &Path) -> Result<(), BuildError> {
    match fs::read_dir(place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => {
            Err(BuildError::Io { path: place.to_owned(), doing: "looking at the output folder", source })
        }
        Ok(_) if place.join(MANIFEST).is_file() => Ok(()),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(BuildError::Occupied { path: place.to_owned() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_finished_build_replaces_an_earlier_one_whole() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("out");
        for text in ["one", "two"] {
            let staging = Staging::begin(&place).unwrap();
            staging.write(MANIFEST, text.as_bytes()).unwrap();
            staging.write(&format!("only-{text}"), b"").unwrap();
            staging.finish().unwrap();
        }
        assert_eq!(names(&place), [MANIFEST, "only-two"]);
        assert_eq!(names(base.path()), ["out"]);
    }

    #[test]
    fn an_unfinished_build_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let staging = Staging::begin(&base.path().join("out")).unwrap();
        staging.write("kiosk.efi", b"half").unwrap();
        drop(staging);
        assert_eq!(names(base.path()), Vec::<String>::new());
    }

    /// A link to the folder stays a link, and the folder that it leads to has the new build.
    #[test]
    fn a_link_to_the_output_folder_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let (place, link) = (base.path().join("real"), base.path().join("link"));
        fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&place, &link).unwrap();
        for text in ["one", "two"] {
            let staging = Staging::begin(&link).unwrap();
            staging.write(MANIFEST, text.as_bytes()).unwrap();
            staging.finish().unwrap();
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(place.join(MANIFEST)).unwrap(), "two");
        assert_eq!(names(base.path()), ["link", "real"]);
    }

    /// As `--out .` in an empty folder has it: nothing of the build may lie within the folder itself.
    #[test]
    fn a_folder_may_be_named_by_dots() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("out/below")).unwrap();
        fs::remove_dir(base.path().join("out/below")).unwrap();
        let staging = Staging::begin(&base.path().join("out/.")).unwrap();
        staging.write(MANIFEST, b"new").unwrap();
        staging.finish().unwrap();
        assert_eq!(names(base.path()), ["out"]);
        assert_eq!(names(&base.path().join("out")), [MANIFEST]);
    }

    #[test]
    fn file_systems_without_exchange_are_served_in_steps() {
        let base = tempfile::tempdir().unwrap();
        let (new, old) = (base.path().join("new"), base.path().join("old"));
        for folder in [&new, &old] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join(folder.file_name().unwrap()), b"").unwrap();
        }
        exchange_by_steps(&new, &old).unwrap();
        assert_eq!((names(&old), names(&new)), (vec!["new".to_owned()], vec!["old".to_owned()]));
        // What cannot be put in place leaves the earlier one there.
        assert!(exchange_by_steps(&base.path().join("gone"), &old).is_err());
        assert_eq!(names(&old), ["new"]);
        assert_eq!(names(base.path()), ["new", "old"]);
    }

    #[test]
    fn foreign_files_are_never_replaced() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("thesis.tex"), b"").unwrap();
        let error = Staging::begin(base.path()).unwrap_err().to_string();
        assert!(error.ends_with("name an empty or a new folder with --out"), "{error}");
        assert_eq!(names(base.path()), ["thesis.tex"]);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("out");
        fs::write(&place, b"").unwrap();
        let error = Staging::begin(&place).unwrap_err().to_string();
        assert!(error.starts_with(&place.display().to_string()), "{error}");
        assert!(error.ends_with(": there is a file where a folder belongs, name another folder"), "{error}");
        let error = Staging::begin(&place.join("below")).unwrap_err().to_string();
        assert!(error.ends_with(": there is a file where a folder belongs, name another folder"), "{error}");
    }
}
