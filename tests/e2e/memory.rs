//! A guest that changes its disk faster than the kiosk can put that away.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use rig::{guest::PROMPT, kiosk::limits, walk};
use std::{thread, time::Duration};

/// Prints what the guest writes, every line another: far more than the kiosk has memory for.
const LINES: &str = "seq 10000001 29000000";
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
    // Its memory keeps nothing of it: that would only make the suspend and the next resume slow.
    kiosk
        .keys(&format!("clear; {LINES} | dd of=fill bs=1M iflag=fullblock oflag=nocache status=none &\r"))?;
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
    kiosk.shell("wait")?;
    // From the disk, whatever the guest's memory holds of it.
    let found = kiosk.shell(&format!(
        "dd if=fill bs=1M iflag=direct status=none | cmp - <({LINES}); echo \"same: $?\"; rm fill"
    ))?;
    ensure!(found.contains("same: 0"), "what was written is not there: {found}");
    let complaints = kiosk.shell("dmesg | grep -ciE 'i/o error|ext4.*error|blocked for more'")?;
    ensure!(complaints == "0", "the guest's kernel complains: {}", kiosk.shell("dmesg | tail")?);
    walk::edit(&mut kiosk)?;
    kiosk.suspend()?;
    kiosk.dismiss()?;
    scene.keep_a(kiosk);
    Ok(())
}
