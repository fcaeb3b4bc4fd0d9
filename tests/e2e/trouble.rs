//! Pieces that cannot be had, or arrive damaged: the guest waits, a word stands on the screen, and nothing is lost. Long
//! steps can be given up.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use rig::{
    guest::Guest,
    kiosk::{Kiosk, limits, words},
    process,
    realm::password_of,
    walk::{self, UNSAVED, USER},
};
use std::{process::Command, thread, time::Duration};

/// Files of the guest's disk that nothing reads by itself, so that reading one demands pieces from the server.
const COLD: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/gconv/libCNS.so",
    "/usr/lib/x86_64-linux-gnu/gconv/BIG5HKSCS.so",
    "/usr/lib/x86_64-linux-gnu/gconv/IBM1390.so",
];
/// On the screen while the guest waits.
const WAITING: &str = "Waiting ";

/// Damaged pieces, a server that is down, and a minute without network, in one session on a kiosk without any piece.
pub fn is_waited_out(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.b()?;
    scene.resume(&mut kiosk)?;
    walk::leave_editor(&mut kiosk)?;

    let damaged = scene.world.server.damage_chunks()?;
    ensure!(damaged > 100, "only {damaged} chunks are on the server");
    let waited = read_in_vain(&mut kiosk, COLD[0], Duration::from_secs(10));
    // Repaired before anything else, since the tests to come stand on the same store.
    scene.world.server.damage_chunks()?;
    waited.context("damaged pieces")?;
    finish_read(&mut kiosk, COLD[0]).context("after damaged pieces")?;

    scene.world.server.kill();
    let waited = read_in_vain(&mut kiosk, COLD[1], Duration::from_secs(10));
    scene.world.server.up()?;
    waited.context("a stopped server")?;
    finish_read(&mut kiosk, COLD[1]).context("after a stopped server")?;

    kiosk.machine.cable(false)?;
    let waited = read_in_vain(&mut kiosk, COLD[2], Duration::from_secs(60));
    kiosk.machine.cable(true)?;
    waited.context("a pulled cable")?;
    finish_read(&mut kiosk, COLD[2]).context("after a minute without network")?;

    let errors = kiosk.shell("dmesg | grep -ciE 'i/o error|ext4.*error|remount'")?;
    ensure!(errors == "0", "the guest saw {errors} errors");
    walk::reach_out(&mut kiosk, &scene.world)?;
    walk::edit(&mut kiosk)?;
    let before = scene.version()?;
    kiosk.suspend()?;
    kiosk.dismiss()?;
    ensure!(scene.version()? == before.next(), "the session was not committed as one version");
    scene.keep_b(kiosk);
    Ok(())
}

/// A resume that is given up costs nothing; one whose memory cannot be had, or arrives damaged, waits.
pub fn in_a_resume(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.b()?;
    let before = scene.version()?;
    begin_restore(&mut kiosk)?;
    kiosk.keys("c")?;
    kiosk.expect("Nothing is lost", limits::SCREEN)?;
    kiosk.keys("y")?;
    let told = kiosk.report()?;
    ensure!(!told.contains("lost"), "giving a resume up was told as a loss:\n{told}");
    kiosk.dismiss()?;
    let info = scene.info()?;
    ensure!(info.version == before && info.lock.is_none(), "after giving up the server says {info:?}");

    begin_restore(&mut kiosk)?;
    scene.world.server.damage_chunks()?;
    let told = kiosk.expect(WAITING, limits::SCREEN);
    scene.world.server.damage_chunks()?;
    told.context("damaged memory")?;
    kiosk.expect_gone(WAITING, limits::SCREEN).context("after damaged memory")?;
    scene.world.server.kill();
    let told = kiosk.expect(WAITING, limits::SCREEN);
    thread::sleep(Duration::from_secs(5));
    let resumed = kiosk.machine.screen.text().contains(UNSAVED);
    scene.world.server.up()?;
    told.context("a server stopped in mid-restore")?;
    ensure!(!resumed, "the memory was there before the server was stopped");
    kiosk.expect(UNSAVED, limits::MOVE)?;
    let found = walk::go_on(&mut kiosk, &scene.world)?;
    ensure!(found.unsaved, "the unsaved text was in a file");
    kiosk.suspend()?;
    kiosk.dismiss()?;
    ensure!(scene.version()? == before.next(), "the session was not committed as one version");
    scene.keep_b(kiosk);
    Ok(())
}

/// A log-in that ends in mid-session holds up what needs the server, until the user logs in again.
pub fn log_in_again(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.b()?;
    let before = scene.version()?;
    scene.resume(&mut kiosk)?;
    scene.world.server.end_log_ins()?;
    lock_and_unlock(&mut kiosk)?;
    kiosk.begin_suspend()?;
    kiosk.expect("Press L to log in again", limits::MOVE)?;
    ensure!(scene.version()? == before, "it was committed without a log-in");
    kiosk.keys("l")?;
    kiosk.expect("Type your password", limits::SCREEN)?;
    kiosk.keys("not this one\r")?;
    kiosk.expect("not right", limits::SCREEN)?;
    kiosk.keys(&format!("{}\r", password_of(USER)?))?;
    kiosk.report()?;
    kiosk.dismiss()?;
    let info = scene.info()?;
    ensure!(
        info.version == before.next() && info.lock.is_none(),
        "after the suspend the server says {info:?}"
    );
    scene.keep_b(kiosk);
    Ok(())
}

/// Locks the screen. The password unlocks it, whatever the server says.
fn lock_and_unlock(kiosk: &mut Kiosk) -> Result<()> {
    kiosk.keys("\x1d")?;
    kiosk.expect(words::MENU, limits::SCREEN)?;
    kiosk.keys("k")?;
    kiosk.expect("its screen is locked", limits::SCREEN)?;
    let shown = kiosk.machine.screen.settled();
    ensure!(!shown.contains(UNSAVED), "the locked screen shows the guest:\n{shown}");
    kiosk.keys("not this one\r")?;
    kiosk.wrong_password()?;
    kiosk.keys(&format!("{}\r", password_of(USER)?))?;
    kiosk.expect(UNSAVED, limits::MOVE)
}

/// Logs in, chooses the parcel, and waits until some of its memory is there.
fn begin_restore(kiosk: &mut Kiosk) -> Result<()> {
    kiosk.log_in(USER)?;
    kiosk.keys("\r")?;
    kiosk.expect("MiB of", limits::SCREEN)
}

/// Reads a file whose pieces cannot be had: a word comes up on the screen, and after `patience` nothing has failed.
fn read_in_vain(kiosk: &mut Kiosk, file: &str, patience: Duration) -> Result<()> {
    kiosk.keys(&format!("clear; sha256sum {file}; echo \"read: $?\"\r"))?;
    kiosk.expect_any(&[WAITING, "No network"], limits::SCREEN)?;
    thread::sleep(patience);
    let screen = kiosk.machine.screen.settled();
    ensure!(!screen.contains("read: "), "the guest did not wait:\n{screen}");
    Ok(())
}

/// And once they can be had, the file is what it was.
fn finish_read(kiosk: &mut Kiosk, file: &str) -> Result<()> {
    kiosk.expect(&expected(file)?, limits::SHELL)
}

/// The start of what `sha256sum` prints of a file of the golden guest.
fn expected(file: &str) -> Result<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "/sbin/debugfs -R \"cat $1\" \"$2\" 2>/dev/null | sha256sum", "sh", file]);
    let text = process::run(shell.arg(Guest::build()?.disk))?;
    Ok(text[..60].to_owned())
}
