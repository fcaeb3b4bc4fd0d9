//! The output folder: made beside its place and moved there when it is whole, so a build that fails, or a machine that
//! loses power, leaves what was there before.

use crate::error::BuildError;
use crate::scratch::Scratch;
use std::ffi::OsString;
use std::fs;
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
        // Through the real parent: `out` alone has an empty one, and links must not part the two halves.
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(BuildError::io(&parent, "making the folder"))?;
        let mut prefix = OsString::from(".");
        prefix.push(place.file_name().unwrap_or_default());
        prefix.push(".half-");
        let half = Scratch::new_in(&parent, prefix).map_err(BuildError::io(&parent, "making a folder"))?;
        Ok(Self { half, place: place.to_owned() })
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
        let failed = |source| BuildError::Io {
            path: self.place.clone(),
            doing: "putting the result in place",
            source,
        };
        if self.place.exists() {
            check_free(&self.place)?;
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            renameat2(AT_FDCWD, self.half.path(), AT_FDCWD, &self.place, RenameFlags::RENAME_EXCHANGE)
                .map_err(|error| failed(error.into()))?;
            // Now the temporary folder is the earlier build, and goes with `self`.
            Ok(())
        } else {
            fs::rename(self.half.path(), &self.place).map_err(failed)
        }
    }
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
    }
}
