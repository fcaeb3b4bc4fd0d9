//! Why no image came of it.

use crate::config::Mistakes;
use std::io;
use std::path::{Path, PathBuf};

/// Why a build failed. The output folder is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The kiosk.toml has mistakes.
    #[error("{0}")]
    Config(#[from] Mistakes),
    /// A program of the building machine is missing or cannot start.
    #[error("{tool} cannot be started ({source}): apt-get install {package}")]
    Tool {
        /// Name of the program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// apt knows no such package, or none that can be had.
    #[error("apt cannot provide the packages of the image ({output}): {remedy}")]
    Apt {
        /// What apt said.
        output: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The date of the build cannot be one.
    #[error(
        "SOURCE_DATE_EPOCH is {told:?}: set it to the seconds since 1970 of a time that has been, or leave it out"
    )]
    SourceDate {
        /// What it says.
        told: String,
    },
    /// Nothing can vouch for the packages.
    #[error(
        "this machine lacks Debian's keys, without which no package can be trusted: apt-get install debian-archive-keyring"
    )]
    Keyring,
    /// apt's lists have no package of a name.
    #[error(
        "the Debian archive has no package {0}: name a complete mirror of Debian 13 under image.mirror and \
         image.security_mirror"
    )]
    NoPackage(String),
    /// A package file is damaged.
    #[error("package {path} cannot be unpacked ({why}): delete the file and build again")]
    Package {
        /// Path of the file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A package lacks a file that the image needs.
    #[error("package {package} has no {file}: this build of image-build is for Debian 13's packages")]
    Lacks {
        /// Which package.
        package: String,
        /// Which file.
        file: String,
    },
    /// A release binary is missing.
    #[error(
        "{path} is missing: build it with `cargo build --release`, or name the folder of the binaries with --binaries"
    )]
    Binary {
        /// Where it should be.
        path: PathBuf,
    },
    /// A binary cannot run in the image.
    #[error("{path} cannot run in the image: {why}")]
    Unfit {
        /// Path of the binary in the image.
        path: String,
        /// Why, with the remedy.
        why: String,
    },
    /// The kernel lacks a module.
    #[error(
        "kernel {release} has no module {name}, which a kiosk needs: this build of image-build is for Debian 13's"
    )]
    Module {
        /// Release of the kernel.
        release: String,
        /// Which module.
        name: String,
    },
    /// depmod failed.
    #[error(
        "depmod could not index the kernel modules ({0}): see that TMPDIR has 50 MB left and that kmod is Debian 12's or newer"
    )]
    Depmod(String),
    /// A keyboard layout could not be made.
    #[error(
        "keyboard layout {name} could not be made of Debian's packages ({why}): build again, and report this if it stays"
    )]
    Keymap {
        /// Name of the layout.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The boot file could not be made.
    #[error("kiosk.efi could not be made: {0}")]
    Uki(#[from] firmware::uki::UkiError),
    /// The boot file could not be signed.
    #[error("kiosk.efi could not be signed: {0}")]
    Sign(#[from] firmware::sign::SignError),
    /// The stick's image could not be made.
    #[error("kiosk.img: {0}{remedy}", remedy = space(.0))]
    Disk(#[from] firmware::disk::DiskError),
    /// The output folder holds other things.
    #[error(
        "{path} holds files that are not from an earlier build: name an empty or a new folder with --out"
    )]
    Occupied {
        /// Path of the file or folder.
        path: PathBuf,
    },
    /// The output folder cannot be moved as one.
    #[error(
        "{path} is the root of a file system, which cannot be replaced whole: name a folder within it with --out"
    )]
    NoFolder {
        /// Path of the file or folder.
        path: PathBuf,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: {doing} failed ({source}){remedy}", remedy = what_to_do(.source))]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl BuildError {
    pub(crate) fn tool(tool: &'static str, package: &'static str, source: io::Error) -> Self {
        Self::Tool { tool, package, source }
    }

    pub(crate) fn package(path: &Path, why: impl ToString) -> Self {
        Self::Package { path: path.to_owned(), why: why.to_string() }
    }

    /// For `map_err` around a file operation.
    pub(crate) fn io<'p>(path: &'p Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self + 'p {
        move |source| Self::Io { path: path.to_owned(), doing, source }
    }
}

fn what_to_do(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": make room there or name another place; a build takes about 100 MB each for packages (--cache) and \
             output (--out), and 50 MB for temporary files (TMPDIR)"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": name a folder that this user may write"
        }
        io::ErrorKind::NotFound => ": see that this folder exists, or name another",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            ": there is a file where a folder belongs, name another folder"
        }
        _ => "",
    }
}

fn space(error: &firmware::disk::DiskError) -> &'static str {
    use firmware::disk::DiskError::{Esp, Table, Write};
    match error {
        Esp(source) | Table(source) | Write(source) => what_to_do(source),
    }
}
