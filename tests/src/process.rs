//! Child processes that never outlive the rig.

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
    ops::Range,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a program that has bound its socket may take until it listens.
const LISTENS: Duration = Duration::from_secs(10);

/// A child that writes to a log file, dies with the rig, and is killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let rig = nix::unistd::getpid();
        // SAFETY: between fork and exec only the async-signal-safe prctl and getppid are called, and nothing is
        // allocated.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                if nix::unistd::getppid() != rig {
                    return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// `Some` once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills it at once, as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > timeout {
                bail!("{} did not end within {} s", self.name, timeout.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `ready` says so, or tells the log's end if the child dies before or `timeout` passes.
    pub fn until(&mut self, timeout: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, tail(&self.log, 2000));
            }
            if start.elapsed() > timeout {
                bail!(
                    "{} was not ready within {} s:\n{}",
                    self.name,
                    timeout.as_secs(),
                    tail(&self.log, 2000)
                );
            }
            thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; nothing is left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects to a local socket. Between its name and its listening there is a moment.
///
/// # Errors
/// Nobody listens there for seconds.
pub fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && start.elapsed() < LISTENS => {
                thread::sleep(Duration::from_millis(20));
            }
            tried => return tried,
        }
    }
}

/// Runs a command to its end; an error holds its output.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{shown} failed with {}:\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// Runs a long command with its output in a file; an error holds the output's end.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let shown = format!("{command:?}");
    let out = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // A terminal may leave descriptors open. dash cannot name one above 9, and package managers hand theirs to it.
    // SAFETY: between fork and exec only the async-signal-safe close_range is called, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            Errno::result(libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int))?;
            Ok(())
        });
    }
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed with {status}, see {}:\n{}", log.display(), tail(log, 3000));
    }
    Ok(())
}

/// Lets a program run with its wall clock so many days ahead.
pub fn set_ahead(command: &mut Command, days: i64) {
    if days != 0 {
        command.env("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");
        command.env("FAKETIME", format!("{days:+}d"));
        // What it waits for passes as it always does.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// Ports that the kernel gives to no connection by itself: Linux gives those from 32768.
const PORTS: Range<u16> = 20_000..32_000;

/// A loopback port that is free for TCP and UDP now, and that only another rig might take.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Two rigs that run beside each other begin at different places.
    let begin = (std::process::id() % u32::from(count)) as u16;
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (begin + step % count) % count;
        let free =
            TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if free {
            return Ok(port);
        }
    }
    bail!("no loopback port is free for both TCP and UDP")
}

/// The last `bytes` of a text file, as far as it can be read.
pub fn tail(path: &Path, bytes: usize) -> String {
    let all = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&all[all.len().saturating_sub(bytes)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_has_no_descriptor_of_a_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        // SAFETY: both are descriptors of this process; the copy is closed below.
        let left_open = unsafe { libc::fcntl(2, libc::F_DUPFD, 40) };
        let done = run_logged(Command::new("sh").args(["-c", "ls /proc/self/fd"]), &log);
        // SAFETY: nobody else knows this descriptor.
        unsafe { libc::close(left_open) };
        done.unwrap();
        let open = fs::read_to_string(&log).unwrap();
        // The fourth is of ls itself.
        assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
}
