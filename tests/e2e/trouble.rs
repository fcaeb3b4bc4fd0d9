//! Pieces that cannot be had, or arrive damaged: the guest waits, a word stands on the screen, and nothing is lost.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use rig::{
    guest::Guest,
    kiosk::{Kiosk, limits},
    process, walk,
};
use std::{process::Command, thread, time::Duration};

/// Files of the guest's disk that nothing reads by itself, so that reading one demands pieces from the server.
const COLD: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/gconv/libCNS.so",
    "/usr/lib/x86_64-linux-gnu/gconv/BIG5HKSCS.so",
    "/usr/lib/x86_64-linux-gnu/gconv/IBM1390.so",
];
/// On the screen while the guest waits.
const WAITING: &str = "Waiting for";

/// Damaged pieces, a server that is down, and a minute without network, in one session on a kiosk without any piece.
pub fn is_waited_out(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.b()?;
    scene.resume(&mut kiosk)?;
    walk::leave_editor(&mut kiosk)?;

    let damaged = scene.world.server.damage_chunks()?;
    ensure!(damaged > 100, "only {damaged} chunks are on the server");
    begin_read(&mut kiosk, COLD[0])?;
    kiosk.expect(WAITING, limits::SCREEN).context("damaged pieces")?;
    thread::sleep(Duration::from_secs(10));
    scene.world.server.damage_chunks()?;
    finish_read(&mut kiosk, COLD[0]).context("after damaged pieces")?;

    scene.world.server.kill();
    begin_read(&mut kiosk, COLD[1])?;
    kiosk.expect(WAITING, limits::SCREEN).context("a stopped server")?;
    thread::sleep(Duration::from_secs(10));
    scene.world.server.up()?;
    finish_read(&mut kiosk, COLD[1]).context("after a stopped server")?;

    kiosk.machine.cable(false)?;
    begin_read(&mut kiosk, COLD[2])?;
    kiosk.expect_any(&[WAITING, "No network"], limits::SCREEN).context("a pulled cable")?;
    thread::sleep(Duration::from_secs(60));
    kiosk.machine.cable(true)?;
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

fn begin_read(kiosk: &mut Kiosk, file: &str) -> Result<()> {
    kiosk.keys(&format!("clear; sha256sum {file}\r"))
}

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
