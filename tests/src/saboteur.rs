//! Kills a part of the kiosk in mid-session, on a sign from outside.
//!
//! A rig-only archive that the netboot server lays over the initrd puts this program in the place of each part that can be
//! killed, and the part beside it ([`overlay`]). Started in its place, it leaves a watcher behind and becomes the part. The
//! appliance itself has no door for this: what the rig does here, only somebody who chooses what the kiosk boots can
//! do. The sign is one more USB device whose serial number is the part's name; QEMU plugs it in.

use crate::{machine::Machine, paths};
use anyhow::{Context, Result, bail};
use image_build::{cpio, tree::Tree};
use nix::{
    sys::signal::{Signal, kill},
    unistd::getppid,
};
use serde_json::json;
use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// The client engine.
pub const CACHED: &str = "cached";
/// The VMM.
pub const VMM: &str = "vmm";

/// What the watcher is started with, before the part's name.
const WATCH: &str = "saboteur-watches";

/// Writes the archive to `file`.
pub fn overlay(file: &Path) -> Result<PathBuf> {
    let mut tree = Tree::default();
    for part in [CACHED, VMM] {
        let place = format!("usr/bin/{part}");
        tree.file(&real(&place), 0o755, fs::read(paths::binary(part)?)?);
        tree.file(&place, 0o755, fs::read(paths::binary("saboteur")?)?);
    }
    let mut archive = fs::File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    cpio::write(&tree, &mut archive)?;
    Ok(file.to_owned())
}

/// Where a part lies when this program has its place.
fn real(place: &str) -> String {
    format!("{place}.real")
}

/// Gives the sign that ends `part`, once in a kiosk's life.
pub fn strike(machine: &Machine, part: &str) -> Result<()> {
    let id = format!("sign-{part}");
    let device = json!({ "driver": "usb-tablet", "id": id, "bus": "usb.0", "serial": part });
    machine.qmp().execute("device_add", device).map(drop)
}

/// The program in the part's place, and its watcher.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let place = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let done = match &args[..] {
        [word, part] if word == WATCH => watch(&part.to_string_lossy()),
        _ => become_part(&place.to_string_lossy(), &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("saboteur: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn become_part(place: &str, args: &[OsString]) -> Result<()> {
    let part = Path::new(place).file_name().context("it has no name")?;
    let mut watcher = Command::new(place);
    watcher.arg(WATCH).arg(part).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    watcher.spawn().context("the watcher does not start")?;
    let error = Command::new(real(place)).args(args).exec();
    bail!("{} does not start: {error}", real(place))
}

/// Kills its parent on a sign that was not there before, and ends with it.
fn watch(part: &str) -> Result<()> {
    let parent = getppid();
    let before = signs(part);
    while getppid() == parent {
        if signs(part) > before {
            kill(parent, Signal::SIGKILL)?;
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn signs(part: &str) -> usize {
    let devices = fs::read_dir("/sys/bus/usb/devices").into_iter().flatten().flatten();
    devices
        .filter(|device| {
            fs::read_to_string(device.path().join("serial")).is_ok_and(|serial| serial.trim() == part)
        })
        .count()
}
