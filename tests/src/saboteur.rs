//! Kills the kiosk's VMM in mid-session, on a sign from outside.
//!
//! A rig-only archive that the netboot server lays over the initrd puts this program in the VMM's place and the VMM
//! beside it ([`overlay`]). The appliance itself has no door for this: what the rig does here, only somebody who
//! chooses what the kiosk boots can do. The sign is a USB device more than there was, which QEMU plugs in.

use crate::{machine::Machine, paths};
use anyhow::{Context, Result};
use image_build::{cpio, tree::Tree};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

/// Where the VMM lies in the image.
const VMM: &str = "usr/bin/vmm";
/// Where it lies when this program has its place.
const REAL: &str = "usr/bin/vmm.real";

/// Writes the archive to `file`.
pub fn overlay(file: &Path) -> Result<PathBuf> {
    let mut tree = Tree::default();
    tree.file(VMM, 0o755, fs::read(paths::binary("saboteur")?)?);
    tree.file(REAL, 0o755, fs::read(paths::binary("vmm")?)?);
    let mut archive = fs::File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    cpio::write(&tree, &mut archive)?;
    Ok(file.to_owned())
}

/// Gives the sign.
pub fn strike(machine: &Machine) -> Result<()> {
    let device = json!({ "driver": "usb-tablet", "id": "sign", "bus": "usb.0" });
    machine.qmp().execute("device_add", device).map(drop)
}

/// The program in the VMM's place.
pub fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let mut vmm = match Command::new(Path::new("/").join(REAL)).args(&args).spawn() {
        Ok(vmm) => vmm,
        Err(error) => {
            eprintln!("saboteur: cannot start the VMM: {error}");
            return ExitCode::FAILURE;
        }
    };
    let before = usb_devices();
    loop {
        match vmm.try_wait() {
            Ok(Some(status)) => return ExitCode::from(status.code().unwrap_or(1) as u8),
            Ok(None) => {}
            Err(_) => return ExitCode::FAILURE,
        }
        if usb_devices() > before {
            // Its end is seen in the next round.
            let _ = vmm.kill();
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn usb_devices() -> usize {
    fs::read_dir("/sys/bus/usb/devices").map_or(0, Iterator::count)
}
