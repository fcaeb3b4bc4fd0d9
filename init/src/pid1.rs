//! PID 1: mounts, the manager, reaping, and nothing that can fail for good.
//!
//! Whatever ends the manager, PID 1 kills every process, reaps them, and starts a new manager, which begins with a
//! wipe. If PID 1 itself cannot go on, the machine restarts: memory is lost then, which is the best wipe there is.

use crate::{
    backoff::Backoff,
    clock, kmsg, manager,
    mounts::{self, EARLY},
    power, service,
    system::Power,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::{
        reboot::RebootMode,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{self, Pid},
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

/// How often orphans are reaped, in milliseconds.
const REAPING: u16 = 500;
/// How long a manager may take between its end and its disappearance.
const DYING: Duration = Duration::from_secs(5);

/// Never returns.
pub fn run() -> ! {
    let ended = std::panic::catch_unwind(|| {
        for wrong in mounts::mount_all(&EARLY) {
            say(&wrong);
        }
        leave_console();
        supervise(start)
    });
    power::end(match ended {
        Ok(Power::Off) => RebootMode::RB_POWER_OFF,
        Ok(Power::Reboot) => RebootMode::RB_AUTOBOOT,
        Err(_) => {
            say("PID 1 failed; restarting");
            RebootMode::RB_AUTOBOOT
        }
    })
}

/// Starts the manager, again and again, until one asks for the kiosk's end. `start` is told how the one before ended.
///
/// Only for the first process of a process-id namespace: whenever a manager ends, every other process is killed.
pub fn supervise(mut start: impl FnMut(Option<&str>) -> std::io::Result<Pid>) -> Power {
    let mut backoff = Backoff::default();
    let mut crashed = None;
    loop {
        backoff.started(clock::since_boot());
        let begun = start(crashed.as_deref());
        if let Err(error) = &begun {
            say(&format!("the manager cannot be started: {error}"));
        }
        let started = begun.is_ok();
        let ended = begun.ok().and_then(until_ended);
        kill_all();
        match ended.and_then(|status| status.code()) {
            Some(manager::EXIT_OFF) => return Power::Off,
            Some(manager::EXIT_REBOOT) => return Power::Reboot,
            _ => {}
        }
        let how = match (started, ended) {
            (_, Some(status)) => service::told(status),
            (true, None) => "it does not end".to_owned(),
            (false, None) => "it could not be started".to_owned(),
        };
        say(&format!("the manager ended ({how}); starting it again"));
        crashed = Some(how);
        std::thread::sleep(backoff.ended(clock::since_boot()));
    }
}

/// The kernel gave PID 1 its console as standard input and output. Held open, that terminal could never be made to
/// forget what was typed on it.
fn leave_console() {
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for done in [unistd::dup2_stdin(&null), unistd::dup2_stdout(&null), unistd::dup2_stderr(&null)] {
        if let Err(errno) = done {
            say(&format!("the kernel's console stays open: {errno}"));
        }
    }
}

fn start(crashed: Option<&str>) -> std::io::Result<Pid> {
    let mut command = Command::new("/init");
    command
        .arg("manager")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("RUST_BACKTRACE", "1");
    if let Some(how) = crashed {
        command.env(manager::CRASHED, how);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(kernel_log()).spawn()?;
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}

/// What the manager cannot say in its own log is in the kernel's.
fn kernel_log() -> Stdio {
    OpenOptions::new().write(true).open("/dev/kmsg").map_or_else(|_| Stdio::null(), Stdio::from)
}

/// Reaps everything that ends until `manager` does.
fn until_ended(manager: Pid) -> Option<ExitStatus> {
    let watched = watch(manager);
    let mut dying_since = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == manager => {
                return Some(ExitStatus::from_raw((code & 0xff) << 8));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == manager => {
                return Some(ExitStatus::from_raw(signal as i32));
            }
            Err(Errno::ECHILD) => return None,
            // A signal that has no name here ended somebody: the manager, if it is not there any more.
            Err(Errno::EINVAL) if kill(manager, None) == Err(Errno::ESRCH) => return None,
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) | Err(_) => continue,
        }
        // One that has ended but for a thread that hangs in the kernel cannot be reaped, and never comes back.
        let now = clock::since_boot();
        if !is_dying(manager) {
            dying_since = None;
        } else if now.saturating_sub(*dying_since.get_or_insert(now)) >= DYING {
            say("the manager does not end: a part of it hangs in the kernel");
            return None;
        }
        pause(watched.as_ref());
    }
}

/// A descriptor that tells when a process ends; without one, it is looked after more often.
fn watch(process: Pid) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and gives a new descriptor, or a negative number.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until the watched process ends, but not long: orphans end unwatched.
fn pause(watched: Option<&OwnedFd>) {
    match watched {
        Some(fd) => drop(poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], REAPING)),
        None => std::thread::sleep(Duration::from_millis(100)),
    }
}

/// Whether a process's first thread has ended.
fn is_dying(process: Pid) -> bool {
    let stat = fs::read(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name before it may hold anything.
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|name| stat.get(name + 2));
    state == Some(&b'Z')
}

/// Kills every process but this one, and reaps them until none is left: what loses its parent becomes our child.
fn kill_all() {
    let until = clock::since_boot() + Duration::from_secs(30);
    while clock::since_boot() < until {
        // As PID 1, -1 means everyone else.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn say(text: &str) {
    if let Ok(mut kernel) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kernel.write_all(format!("<4>{}{text}\n", kmsg::OURS).as_bytes());
    }
}
