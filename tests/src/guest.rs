//! The golden guest: Debian's cloud kernel and a small root file system, made once per checkout and recipe.

use crate::{paths, process};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Kernel command line with which the guest boots: console on virtio, root on the parcel's disk.
pub const CMDLINE: &str =
    "console=hvc0 root=/dev/vda rw rootflags=noatime quiet reboot=t panic=-1 mitigations=off";
/// Memory of the guest in MiB.
pub const MEMORY_MIB: u64 = 256;
/// The shell's prompt in the guest.
pub const PROMPT: &str = "guest$";

/// The files of a golden guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Root file system, ext4 without a partition table.
    pub disk: PathBuf,
    /// Kernel image, as the parcel boots it.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: PathBuf,
}

impl Guest {
    /// Builds it, or takes the one that was built from the same recipe.
    pub fn build() -> Result<Self> {
        let recipe = paths::workspace().join("tests/guest");
        let dir = paths::target()
            .join("rig")
            .join(format!("guest-{}", fingerprint(&[&recipe, &paths::workspace().join("guest")])?));
        let guest =
            Self { disk: dir.join("disk.img"), kernel: dir.join("vmlinuz"), initrd: dir.join("initrd.img") };
        if !dir.is_dir() {
            let half = dir.with_extension("half");
            let _ = fs::remove_dir_all(&half);
            fs::create_dir_all(&half)?;
            let log = dir.with_extension("log");
            process::run_logged(Command::new(recipe.join("build.sh")).arg(&half), &log)
                .context("the golden guest was not built")?;
            fs::rename(&half, &dir)?;
        }
        Ok(guest)
    }
}

/// A name for the contents of files and folders: 16 hexadecimal digits.
pub fn fingerprint(paths: &[&Path]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut left: Vec<PathBuf> = paths.iter().rev().map(|path| path.to_path_buf()).collect();
    while let Some(path) = left.pop() {
        hasher.update(path.as_os_str().as_encoded_bytes());
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(&path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            inside.sort();
            left.extend(inside.into_iter().rev());
        } else {
            hasher.update_reader(
                fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?,
            )?;
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}
