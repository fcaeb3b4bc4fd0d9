//! The login screen on a real virtual console, with a keyboard and a picture.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use rig::{
    kiosk::limits,
    machine::{Boot, Machine},
    realm::password_of,
};
use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

/// Boots with the screen on `tty1`, logs in with the keyboard, and looks at the picture: the text mode's colours, and
/// another picture for each screen. The PNG files stay for people to look at.
pub fn on_a_virtual_console(scene: &mut Scene) -> Result<()> {
    let folder = scene.world.changed_netboot("tty1", "waystation.console=tty1", None)?;
    let mut spec = scene.world.netboot("F");
    spec.boot = Boot::Ipxe(folder);
    let machine = Machine::start(spec, &scene.world.dir.join("kiosk-F"))?;
    machine.await_log("phase login", limits::BOOT)?;
    let login = picture(&machine, &scene.world.dir.join("tty1-login.png"))?;
    type_keys(&machine, "ravi\n")?;
    type_keys(&machine, &format!("{}\n", password_of("ravi")?))?;
    machine.await_log("phase choose", limits::BOOT)?;
    let list = picture(&machine, &scene.world.dir.join("tty1-parcels.png"))?;
    for (name, colours) in [("login", &login.1), ("parcels", &list.1)] {
        ensure!((3..=16).contains(&colours.len()), "the {name} screen has {} colours", colours.len());
    }
    ensure!(login.0 != list.0, "the picture did not change from the login to the parcels");
    // Another console must not come to the front: Alt-F2 leaves the picture as it is.
    machine.qmp().press(&["alt", "f2"])?;
    let same = picture(&machine, &scene.world.dir.join("tty1-locked.png"))?;
    ensure!(close(&list.0, &same.0), "Alt-F2 changed the picture");
    Ok(())
}

/// Somebody with a German keyboard chooses its layout at a kiosk that starts with the French one, and logs in: y and z are
/// in each other's place, ö and ß have keys, é is two strokes. The keys are named as QEMU names them, by where they are on an
/// American keyboard.
pub fn german_keyboard(scene: &mut Scene) -> Result<()> {
    let folder =
        scene.world.changed_netboot("german", "waystation.console=tty1 waystation.keymap=fr", None)?;
    let mut spec = scene.world.netboot("G");
    spec.boot = Boot::Ipxe(folder);
    let machine = Machine::start(spec, &scene.world.dir.join("kiosk-G"))?;
    machine.await_log("keyboard: layout fr", limits::BOOT)?;
    machine.await_log("phase login", limits::BOOT)?;
    // The titles that begin with G, as the window sorts them: Georgian, then German.
    for key in ["f2", "g", "g", "ret"] {
        press(&machine, &[key])?;
    }
    machine.await_log("keyboard: layout de", limits::BOOT)?;
    ensure!(password_of("yoe")? == "Größe-café-y", "the realm has another password");
    for key in ["z", "o", "e", "ret"] {
        press(&machine, &[key])?;
    }
    for keys in [
        &["shift", "g"][..],
        &["r"],
        &["semicolon"],
        &["minus"],
        &["e"],
        &["slash"],
        &["c"],
        &["a"],
        &["f"],
        &["equal"],
        &["e"],
        &["slash"],
        &["z"],
        &["ret"],
    ] {
        press(&machine, keys)?;
    }
    machine.await_log("phase choose", limits::BOOT)
}

/// QEMU holds a key for a tenth of a second.
fn press(machine: &Machine, keys: &[&str]) -> Result<()> {
    machine.qmp().press(keys)?;
    thread::sleep(Duration::from_millis(150));
    Ok(())
}

/// Pixels and colours of the screen once it stands still.
fn picture(machine: &Machine, png: &Path) -> Result<(Vec<u8>, BTreeSet<[u8; 3]>)> {
    thread::sleep(Duration::from_secs(3));
    let ppm = png.with_extension("ppm");
    machine.qmp().execute("screendump", serde_json::json!({ "filename": ppm, "format": "ppm" }))?;
    machine.qmp().screenshot(png)?;
    let bytes = fs::read(&ppm)?;
    fs::remove_file(&ppm)?;
    // "P6", size, "255", each on a line of its own, then three bytes a pixel.
    let header = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).nth(2);
    let pixels = bytes.get(header.context("the screendump is no PPM")? + 1..).unwrap_or_default().to_vec();
    let colours = pixels.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Ok((pixels, colours))
}

/// Alike but for a clock or a spinner.
fn close(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).filter(|(a, b)| a != b).count();
    one.len() == other.len() && differ < one.len() / 50
}

fn type_keys(machine: &Machine, text: &str) -> Result<()> {
    for c in text.chars() {
        let key = match c {
            '\n' => "ret".to_owned(),
            ' ' => "spc".to_owned(),
            c => c.to_string(),
        };
        press(machine, &[&key])?;
    }
    Ok(())
}
