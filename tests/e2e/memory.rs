//! A guest that changes its disk faster than the kiosk can put that away.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use rig::{guest::PROMPT, kiosk::limits, walk};
use std::{thread, time::Duration};

/// Mebibytes that the guest writes: more than the kiosk has memory for.
const WRITTEN: u64 = 165;
/// The `i`th of them, in Python: each chunk is another, and none costs the guest much time.
const MEBIBYTE: &str = r"b''.join(b'%015d\n' % j * 8192 for j in range(8 * i, 8 * i + 8))";
/// The guest's memory keeps nothing of the file: that would only make the suspend and the next resume slow.
const FORGET: &str = "os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)";
/// How many bytes a second the kiosk's cache disk takes.
const DISK: u64 = 128 << 10;
/// How long the guest goes on when there is no more room.
const FULL: Duration = Duration::from_secs(5);

/// On a PC with a slow cache disk and little memory, a guest writes as fast as it can until its writes wait: the screen says
/// so, nothing is killed for want of memory, and the suspend brings everything home.
pub fn fast_writer(scene: &mut Scene) -> Result<()> {
    let before = scene.version()?;
    let mut kiosk = scene.k()?;
    scene.resume(&mut kiosk)?;
    walk::leave_editor(&mut kiosk)?;
    kiosk.machine.cache_takes(DISK)?;
    kiosk.keys(&format!(
        "clear; python3 -c \"import os; f = os.open('fill', os.O_CREAT | os.O_WRONLY); \
         [(os.write(f, {MEBIBYTE}), {FORGET}) for i in range({WRITTEN})]\" &\r"
    ))?;
    kiosk.expect("suspend soon", limits::SHELL)?;
    kiosk.expect("suspend now", limits::SHELL)?;
    thread::sleep(FULL);
    kiosk.begin_suspend()?;
    let committed = format!("version {} committed", before.next());
    kiosk.machine.await_log(&committed, limits::MOVE)?;
    // The wipe writes nothing that anybody keeps.
    kiosk.machine.cache_takes(0)?;
    kiosk.report()?;
    let log = kiosk.machine.log_text();
    ensure!(!log.contains("Out of memory") && !log.contains("oom-kill"), "something was killed:\n{log}");
    ensure!(scene.version()? == before.next(), "the session was not committed as one version");
    kiosk.machine.cut_power()?;

    // On a kiosk with room it writes to the end, and all of it is there.
    let mut kiosk = scene.a()?;
    scene.resume_at(&mut kiosk, PROMPT)?;
    kiosk.shell("wait; sync")?;
    let found = kiosk.shell(&format!(
        "python3 -c \"import os; f = os.open('fill', os.O_RDONLY); print('same:', all(({FORGET}, os.read(f, 1 << 20) == \
         {MEBIBYTE})[1] for i in range({WRITTEN})) and not os.read(f, 1))\"; rm fill"
    ))?;
    ensure!(found.contains("same: True"), "what was written is not there: {found}");
    let complaints = kiosk.shell("dmesg | grep -ciE 'i/o error|ext4.*error|blocked for more'")?;
    ensure!(complaints == "0", "the guest's kernel complains: {}", kiosk.shell("dmesg | tail")?);
    walk::edit(&mut kiosk)?;
    kiosk.suspend()?;
    kiosk.dismiss()?;
    scene.keep_a(kiosk);
    Ok(())
}
