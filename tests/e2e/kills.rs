//! Parts that die in mid-session: nothing is half done, and the user is told what was lost.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use parcel::id::Version;
use rig::{
    guest::PROMPT,
    kiosk::{Kiosk, limits, words},
    realm::password_of,
    saboteur,
    walk::{self, UNSAVED, USER},
};
use std::{thread, time::Duration};

/// The server is killed while a commit is under way: nothing is half done, and the commit ends when it is back.
pub fn server_in_mid_commit(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.b()?;
    scene.resume(&mut kiosk)?;
    walk::leave_editor(&mut kiosk)?;
    // Enough to send that the commit takes a while.
    let sum = kiosk.shell("head -c 24000000 /dev/urandom > big; sync; sha256sum big")?;
    walk::edit(&mut kiosk)?;
    let before = scene.version()?;
    kiosk.begin_suspend()?;
    // Some of it has been sent, and not all.
    kiosk.expect_any(&["KiB of", "MiB of"], limits::SCREEN)?;
    scene.world.server.kill();
    let head = scene.world.server.head(&scene.parcel)?;
    let told = kiosk.expect("cannot be reached", limits::SCREEN);
    thread::sleep(Duration::from_secs(5));
    scene.world.server.up()?;
    ensure!(head["version"] == before.0, "the commit had ended before the server was killed: {head}");
    told.context("a word on the screen")?;
    kiosk.report()?;
    kiosk.dismiss()?;
    ensure!(scene.version()? == before.next(), "the commit did not end with the server back");
    scene.resume(&mut kiosk)?;
    walk::leave_editor(&mut kiosk)?;
    let again = kiosk.shell("sha256sum big; rm big")?;
    ensure!(sum == again, "what was committed is not what was written: {sum}, then {again}");
    walk::edit(&mut kiosk)?;
    kiosk.suspend()?;
    kiosk.dismiss()?;
    scene.keep_b(kiosk);
    Ok(())
}

/// The user gives a commit up while the server is down: the kiosk says what that costs before and after, wipes itself,
/// and the last committed version resumes whole.
pub fn commit_given_up(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.b()?;
    scene.resume(&mut kiosk)?;
    let before = scene.version()?;
    let counter = lose_work(&mut kiosk, "lost-to-leaving")?;
    scene.world.server.kill();
    let given_up = give_up(&mut kiosk, before);
    scene.world.server.up()?;
    given_up?;
    let info = scene.info()?;
    ensure!(info.version == before, "what was given up is version {}", info.version);
    let lock = info.lock.context("a lock was released without its server")?;
    ensure!(lock.kiosk.starts_with("kiosk-B-"), "the lock is held by {lock:?}");
    take_over(&mut kiosk, "kiosk-B")?;
    is_as_committed(scene, &mut kiosk, "lost-to-leaving", &counter)?;
    kiosk.suspend()?;
    kiosk.dismiss()?;
    scene.keep_b(kiosk);
    Ok(())
}

/// Suspends to a server that is down, and gives up.
fn give_up(kiosk: &mut Kiosk, before: Version) -> Result<()> {
    kiosk.begin_suspend()?;
    kiosk.expect("cannot be reached", limits::MOVE)?;
    kiosk.keys("c")?;
    kiosk.expect("Everything since your computer was last suspended is lost", limits::SCREEN)?;
    kiosk.keys("y\r")?;
    kiosk.wrong_password()?;
    kiosk.keys(&format!("{}\r", password_of(USER)?))?;
    kiosk.expect("Lose your work?", limits::MOVE)?;
    kiosk.keys("y")?;
    kiosk.expect("You gave the session up", limits::MOVE)?;
    kiosk.expect(&format!("since version {before} is lost"), limits::SCREEN)?;
    kiosk.expect_any(&["did not confirm the release of its lock", "still holds its lock"], limits::SCREEN)?;
    kiosk.keys("\r")?;
    kiosk.report()?;
    kiosk.dismiss()
}

/// Logs in, is told who holds the lock and what breaking it costs, breaks it, and resumes.
fn take_over(kiosk: &mut Kiosk, holder: &str) -> Result<()> {
    kiosk.log_in(USER)?;
    kiosk.expect(words::BREAK, limits::SCREEN)?;
    kiosk.keys("\r")?;
    kiosk.expect(holder, limits::SCREEN)?;
    kiosk.expect("If you break that lock", limits::SCREEN)?;
    kiosk.keys("b")?;
    kiosk.expect(UNSAVED, limits::MOVE)
}

/// The power goes off in mid-session: elsewhere the user sees who holds the lock, is told what breaking it costs, and
/// resumes the last committed version.
pub fn power(scene: &mut Scene) -> Result<()> {
    let mut b = scene.b()?;
    scene.resume(&mut b)?;
    let before = scene.version()?;
    let counter = lose_work(&mut b, "lost-to-power")?;
    b.machine.cut_power()?;
    let lock = scene.info()?.lock.context("the lock was lost with the power")?;
    ensure!(lock.kiosk.starts_with("kiosk-B-"), "the lock is held by {lock:?}");

    let mut a = scene.a()?;
    take_over(&mut a, "kiosk-B")?;
    is_as_committed(scene, &mut a, "lost-to-power", &counter)?;
    a.suspend()?;
    a.dismiss()?;
    ensure!(scene.version()? == before.next(), "the version after the power failure is not the next one");
    scene.keep_a(a);
    Ok(())
}

/// The client engine is killed in mid-session, and then, in the next session, the VMM: the kiosk commits the disk as it was
/// then, says so, and wipes itself; the session after that starts from that disk.
pub fn cached_and_vmm(scene: &mut Scene) -> Result<()> {
    let mut kiosk = scene.k()?;
    scene.resume(&mut kiosk)?;
    walk::leave_editor(&mut kiosk)?;
    loses_memory(scene, &mut kiosk, saboteur::CACHED, |kiosk| {
        kiosk.expect("Press L and type", limits::MOVE)?;
        kiosk.keys("l")?;
        kiosk.expect("it opens what this kiosk keeps", limits::SCREEN)?;
        kiosk.keys(&format!("{}\r", password_of(USER)?))
    })
    .context("the client engine")?;
    loses_memory(scene, &mut kiosk, saboteur::VMM, |_| Ok(())).context("the VMM")?;
    kiosk.shell("counter start")?;
    walk::edit(&mut kiosk)?;
    kiosk.suspend()?;
    kiosk.dismiss()?;
    ensure!(!scene.info()?.memory_lost, "a whole version says that its memory is lost");
    scene.keep_k(kiosk);
    Ok(())
}

/// Kills a part of the kiosk while the guest's prompt is on the screen; `helps` is what the user does then. What the guest had
/// flushed is there in the next session, which starts from the disk.
fn loses_memory(
    scene: &Scene,
    kiosk: &mut Kiosk,
    part: &str,
    helps: impl FnOnce(&mut Kiosk) -> Result<()>,
) -> Result<()> {
    let before = scene.version()?;
    let sum = kiosk.shell("head -c 4000000 /dev/urandom > kept; sync; sha256sum kept")?;
    saboteur::strike(&kiosk.machine, part)?;
    helps(kiosk)?;
    kiosk.expect("What happened", limits::MOVE)?;
    kiosk.expect("(signal 9)", limits::SCREEN)?;
    kiosk.expect("power cut", limits::SCREEN)?;
    kiosk.keys("\r")?;
    kiosk.report()?;
    kiosk.dismiss()?;
    let info = scene.info()?;
    ensure!(info.version == before.next() && info.lock.is_none(), "after the crash the server says {info:?}");
    ensure!(
        info.memory_lost && !info.suspended,
        "the version does not say that its memory is lost: {info:?}"
    );
    kiosk.log_in(USER)?;
    kiosk.expect("Its memory could not be saved", limits::SCREEN)?;
    kiosk.resume(PROMPT)?;
    let found = kiosk.shell("sha256sum kept; rm kept; cat note.txt")?;
    ensure!(found.contains(&sum) && found.contains(walk::SAVED), "the disk holds {found:?}, not {sum:?}");
    Ok(())
}

/// Writes a file that will not be committed; gives the counter as it was before, in the committed state or later.
fn lose_work(kiosk: &mut Kiosk, file: &str) -> Result<walk::Counter> {
    walk::leave_editor(kiosk)?;
    let counter = walk::ask(kiosk)?;
    kiosk.shell(&format!("echo gone > {file}; sync"))?;
    Ok(counter)
}

/// The machine is the committed one: its memory goes on, and the lost file is not there. Opens the editor again.
fn is_as_committed(scene: &Scene, kiosk: &mut Kiosk, file: &str, lost: &walk::Counter) -> Result<()> {
    let found = walk::go_on(kiosk, &scene.world)?;
    ensure!(found.unsaved, "the unsaved text was in a file");
    ensure!(
        found.counter.pid == lost.pid && found.counter.nonce == lost.nonce,
        "another counter runs: {found:?}, before {lost:?}"
    );
    walk::leave_editor(kiosk)?;
    let listed = kiosk.shell(&format!("ls {file}"))?;
    ensure!(listed.contains("No such file"), "{file} was not lost: {listed}");
    walk::edit(kiosk)
}
