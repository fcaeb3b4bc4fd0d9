//! The wipe: everything of a session is destroyed, whatever state it is in. Each step looks at the machine and not
//! at what this program remembers, so a wipe after a crash is the same wipe.
//!
//! The kernel zeroes memory when it is freed (`init_on_free=1`), so what remains is to make it free everything: kill
//! what holds memory, delete and unmount, hang terminals up, drop caches, and wait out deferred frees.

mod kernel;
mod verify;
mod watchdog;

pub use kernel::remember as remember_kernel;
pub use verify::{Evidence, verify};
pub use watchdog::Watchdog;

use crate::{
    clock,
    config::Config,
    folder, keys,
    log::Log,
    media::{self, Discarded},
    net, procs, tty,
};
use parcel::wire::kiosk;
use std::{fs, io, path::Path, time::Duration};

/// Folders that a session's users can write to.
pub const FOLDERS: [&str; 4] = ["/tmp", "/dev/shm", "/var/tmp", kiosk::RUN];
/// What stays in the run folder: init's own socket.
const KEPT: &str = sockets::names::INIT;

/// A step that takes longer is named in the log.
const WORTH_TELLING: Duration = Duration::from_millis(300);

/// What a wipe works on.
pub struct Scene<'a> {
    /// The kiosk's configuration.
    pub config: &'a Config,
    /// The log.
    pub log: &'a Log,
}

/// A step of the wipe.
pub struct Step {
    /// For the log and the report.
    pub what: &'static str,
    run: fn(&Scene<'_>, &mut Outcome) -> io::Result<()>,
}

/// How a wipe went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Steps that failed, and why.
    pub failures: Vec<String>,
    /// How the discard went, if one was wanted and there was something to discard.
    pub discarded: Option<Discarded>,
}

/// The steps, in order: holders of memory first, then the memory, then what shadows it.
pub const STEPS: [Step; 11] = [
    Step { what: "end the session's processes", run: end_processes },
    Step { what: "take the guest's network away", run: |_, _| net::guest::tear_down() },
    Step { what: "forget the guest's connections", run: |_, _| net::guest::forget_connections() },
    Step { what: "delete and unmount the cache", run: |_, _| media::unmount(Path::new(kiosk::CACHE)) },
    Step { what: "destroy the cache's key", run: |_, _| media::close() },
    Step { what: "discard the cache's blocks", run: discard },
    Step { what: "delete the session's files and sockets", run: delete_files },
    Step { what: "invalidate keys in the kernel", run: clear_keys },
    Step {
        what: "clear the screen and what was typed",
        run: |scene, _| tty::forget(&scene.config.kiosk.console),
    },
    Step { what: "drop the kernel's caches", run: drop_caches },
    Step { what: "wait for deferred frees", run: settle },
];

/// Does all steps; a step that fails does not keep the others from being done.
pub fn destroy(scene: &Scene<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for step in &STEPS {
        let began = clock::since_boot();
        if let Err(error) = (step.run)(scene, &mut outcome) {
            scene.log.line("wipe", &format!("cannot {}: {error}", step.what));
            outcome.failures.push(format!("{}: {error}", step.what));
        }
        tell_if_long(scene.log, step.what, began);
    }
    outcome
}

/// Names a step in the log that took long.
pub fn tell_if_long(log: &Log, what: &str, began: Duration) {
    let took = clock::since_boot().saturating_sub(began);
    if took >= WORTH_TELLING {
        log.line("wipe", &format!("{what}: {:.1} s", took.as_secs_f64()));
    }
}

fn end_processes(_: &Scene<'_>, _: &mut Outcome) -> io::Result<()> {
    let left = procs::kill_session(Duration::from_secs(60))?;
    match left.first() {
        None => Ok(()),
        Some(first) => {
            Err(io::Error::other(format!("{} processes do not end, such as {}", left.len(), first.name)))
        }
    }
}

fn discard(scene: &Scene<'_>, outcome: &mut Outcome) -> io::Result<()> {
    if scene.config.kiosk.wipe.discard && scene.config.kiosk.cache.kind != kiosk::CacheKind::Memory {
        outcome.discarded = media::discard()?;
    }
    Ok(())
}

fn delete_files(_: &Scene<'_>, _: &mut Outcome) -> io::Result<()> {
    make_room()
}

/// Deletes the session's files and sockets: also before a manager needs room for its own, which a session may have
/// filled.
///
/// # Errors
/// Some resist.
pub fn make_room() -> io::Result<()> {
    let mut went = Ok(());
    for name in FOLDERS {
        let kept = (name == kiosk::RUN).then_some(KEPT);
        went = went.and(folder::empty(Path::new(name), kept));
    }
    went
}

fn clear_keys(_: &Scene<'_>, _: &mut Outcome) -> io::Result<()> {
    keys::clear()
}

/// A page that is still to be written back cannot be dropped. A disk that hangs here is the watchdog's.
fn drop_caches(_: &Scene<'_>, _: &mut Outcome) -> io::Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Frees that wait for a grace period (files, sockets, network devices) have happened after one.
fn settle(_: &Scene<'_>, _: &mut Outcome) -> io::Result<()> {
    /// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`: returns after an RCU grace period.
    const GLOBAL: libc::c_int = 1;
    for _ in 0..2 {
        // SAFETY: membarrier takes two integers.
        if unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
