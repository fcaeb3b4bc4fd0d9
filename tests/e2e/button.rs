//! The power button: a running session is suspended, and a kiosk at its login screen goes off.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use rig::{kiosk::limits, walk};

/// Pressed in a session, pressed again while that is being suspended, and pressed at the login screen.
pub fn suspends_and_powers_off(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.a()?;
    let before = scene.version()?;
    scene.resume(&mut kiosk)?;
    kiosk.machine.qmp().press_power_button()?;
    // It begins by itself: nobody touches the keyboard.
    kiosk.expect_gone("Ctrl-]", limits::SCREEN)?;
    kiosk.machine.qmp().press_power_button()?;
    kiosk.report()?;
    let log = kiosk.machine.log_text();
    ensure!(log.contains("The power button was pressed in phase run"), "the log does not say what began it");
    kiosk.dismiss()?;
    let info = scene.info()?;
    ensure!(info.version == before.next() && info.lock.is_none(), "after the press the server says {info:?}");

    // What the editor held in memory is there again.
    scene.resume(&mut kiosk)?;
    let found = walk::go_on(&mut kiosk, &scene.world)?;
    ensure!(found.unsaved, "the unsaved text was in a file");
    kiosk.suspend()?;
    kiosk.dismiss()?;
    kiosk.machine.qmp().press_power_button()?;
    kiosk.machine.goes_off(limits::SCREEN)
}
