//! What a traveller reads when a log-in fails.

use crate::scene::Scene;
use anyhow::{Context, Result};
use rig::{
    kiosk::{Kiosk, limits},
    realm::password_of,
};

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

/// A kiosk whose clock is days off.
pub fn a_wrong_clock_is_named(scene: &mut Scene) -> Result<()> {
    let mut spec = scene.world.netboot("E");
    spec.clock = Some("2031-05-06T07:08:09".to_owned());
    let mut kiosk = scene.world.boot(spec)?;
    refused(&mut kiosk, "ravi", password_of("ravi")?, "The clock of this kiosk is wrong: it says 2031-05-06")
}

fn refused(kiosk: &mut Kiosk, user: &str, password: &str, word: &str) -> Result<()> {
    // Whatever an earlier try left in it.
    kiosk.clear_form()?;
    kiosk.type_login(user, password)?;
    kiosk.expect(word, limits::MOVE).with_context(|| format!("the log-in of {user}"))
}
