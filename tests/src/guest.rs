//! The golden guest: Debian's cloud kernel and a small root file system, made once per checkout and recipe.

use crate::{paths, process};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Kernel command line with which the guest boots: console on virtio, root on the parcel's disk. What is freed is cleared, so that a
/// test does not leave its data in the memory that every later test sends and fetches.
pub const CMDLINE: &str =
    "console=hvc0 root=/dev/vda rw rootflags=noatime quiet reboot=t panic=-1 mitigations=off init_on_free=1";
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

/// A name for the contents of files and folders, wherever they lie: 16 hexadecimal digits.
pub fn fingerprint(paths: &[&Path]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    // With the root of each, which its name is told below.
    let mut left: Vec<(&Path, PathBuf)> =
        paths.iter().rev().map(|root| (*root, root.to_path_buf())).collect();
    while let Some((root, path)) = left.pop() {
        let name = path.strip_prefix(root)?.as_os_str().as_encoded_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        if path.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(&path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            inside.sort();
            left.extend(inside.into_iter().rev().map(|path| (root, path)));
        } else {
            hasher.update_reader(
                fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?,
            )?;
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}
