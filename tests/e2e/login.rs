//! What a traveller reads when a log-in fails.

use crate::scene::Scene;
use anyhow::{Context, Result};
use rig::{
    kiosk::{Kiosk, limits},
    realm::password_of,
};

/// The key that opens the diagnosis on a terminal without function keys.
const DIAGNOSIS: &str = "\x04";

/// Wrong password, unknown user, locked account, expired password, KDC down, server down; and then it works.
pub fn failures_are_named(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.a()?;
    let right = password_of("ravi")?;
    refused(&mut kiosk, "ravi", "not this one", "not right")?;
    refused(&mut kiosk, "nobody", "not this one", "not right")?;
    scene.world.realm.kadmin("modprinc -allow_tix ravi")?;
    refused(&mut kiosk, "ravi", right, "Your account is locked")?;
    scene.world.realm.kadmin("modprinc +allow_tix -pwexpire yesterday ravi")?;
    refused(&mut kiosk, "ravi", right, "Your password has expired")?;
    scene.world.realm.kadmin("modprinc -pwexpire never ravi")?;
    scene.world.realm.down();
    let kdc = refused(&mut kiosk, "ravi", right, "No log-in server of WAYSTATION.TEST answers");
    scene.world.realm.up()?;
    kdc?;
    scene.world.server.kill();
    let server = refused(&mut kiosk, "ravi", right, "does not answer");
    scene.world.server.up()?;
    server?;
    kiosk.clear_form()?;
    kiosk.log_in("ravi")?;
    // Logging out wipes the kiosk, too.
    kiosk.keys("l")?;
    kiosk.report()?;
    kiosk.dismiss()?;
    scene.keep_a(kiosk);
    Ok(())
}

/// A kiosk whose clock is years off, while nobody can tell it the time: the log-in names the clock, the diagnosis what is
/// missing. It heals as soon as the server is back.
pub fn a_wrong_clock_is_named(scene: &mut Scene) -> Result<()> {
    scene.world.server.kill();
    let named = wrong_clock(scene);
    scene.world.server.up()?;
    let mut kiosk = named?;
    // The end of the line that says whose time it is.
    kiosk.expect("parcels.waystation.test.", limits::MOVE)?;
    kiosk.clear_form()?;
    kiosk.expect("fast", limits::SCREEN)?;
    kiosk.clear_form()?;
    kiosk.log_in("ravi")
}

fn wrong_clock(scene: &Scene) -> Result<Kiosk> {
    let mut spec = scene.world.netboot("E");
    spec.clock = Some("2031-05-06T07:08:09".to_owned());
    let mut kiosk = scene.world.boot(spec)?;
    kiosk.clear_form()?;
    kiosk.type_login("ravi", password_of("ravi")?)?;
    // A ticket of another year is refused by its KDC, or is none by the kiosk's clock.
    kiosk.expect_any(&["The clock of this kiosk", "gave no ticket"], limits::MOVE)?;
    kiosk.keys(DIAGNOSIS)?;
    kiosk.expect("May 2031", limits::MOVE)?;
    kiosk.expect("machine's own clock", limits::SCREEN)?;
    kiosk.expect("The parcel server cannot be used", limits::SCREEN)?;
    Ok(kiosk)
}

/// A kiosk whose clock battery is empty: it sets its clock and logs in. Then its cable is pulled, which the diagnosis names.
pub fn after_the_clock_was_lost(scene: &mut Scene) -> Result<()> {
    let mut spec = scene.world.netboot("F");
    spec.clock = Some("2001-01-01T00:00:00".to_owned());
    let mut kiosk = scene.world.boot(spec)?;
    kiosk.expect("years slow", limits::SCREEN)?;
    let log = kiosk.machine.log_text();
    anyhow::ensure!(
        log.contains("the time at which this image was built"),
        "it went back behind its image:\n{log}"
    );
    kiosk.log_in("ravi")?;
    kiosk.keys("l")?;
    kiosk.report()?;
    kiosk.dismiss()?;
    kiosk.machine.cable(false)?;
    kiosk.keys(DIAGNOSIS)?;
    kiosk.expect("No network cable is plugged in", limits::MOVE)?;
    kiosk.machine.cable(true)?;
    kiosk.expect("The parcel server answers and proves who it is", limits::MOVE)?;
    kiosk.expect("10.0.2.2:", limits::SCREEN)?;
    kiosk.keys("l")?;
    kiosk.expect("network: Network: 10.0.2.15", limits::SCREEN)
}

fn refused(kiosk: &mut Kiosk, user: &str, password: &str, word: &str) -> Result<()> {
    // Whatever an earlier try left in it.
    kiosk.clear_form()?;
    kiosk.type_login(user, password)?;
    kiosk.expect(word, limits::MOVE).with_context(|| format!("the log-in of {user}"))
}
