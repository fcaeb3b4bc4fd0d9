//! What an image was made of, so that IT can tell years later which fix is in which kiosk.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// `manifest.json`. Holds no times, so the same build gives the same manifest.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// Version of this program.
    pub image_build: String,
    /// Stands for everything in the file system; the kiosk shows it beside its version.
    pub build_id: String,
    /// Kernel release.
    pub kernel: String,
    /// Kernel command line, the same in UKI and netboot script.
    pub cmdline: String,
    /// `true` when `kiosk.efi` is signed.
    pub signed: bool,
    /// Kernel modules carried.
    pub modules: Vec<String>,
    /// Firmware files that a carried module may ask for and that are not in the image, by module. Most machines do
    /// without: [`crate::config`] names packages of more.
    pub firmware_absent: BTreeMap<String, Vec<String>>,
    /// Bytes of the file system before compression.
    pub unpacked_bytes: u64,
    /// Debian packages that something in the image is from.
    pub packages: Vec<PackageEntry>,
    /// Release binaries, by name: SHA-256.
    pub binaries: BTreeMap<String, String>,
    /// The files beside this one.
    pub files: BTreeMap<String, FileEntry>,
}

/// A Debian package.
#[derive(Debug, Clone, Serialize)]
pub struct PackageEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the package file.
    pub sha256: String,
}

/// A file of the output.
#[derive(Debug, Clone, Serialize)]
pub struct FileEntry {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl FileEntry {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
