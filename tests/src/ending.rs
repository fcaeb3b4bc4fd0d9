//! Ends a demo: everything that it started, and everything that those processes started.
//!
//! A signal to the walk is not enough. Its children die with it by their parent-death signal, but a moment later; children of a
//! helper, such as a package manager below `image-build`, do not die at all. So a demo marks what it starts by a
//! variable in the environment, which every descendant inherits.

use anyhow::{Context, Result, ensure};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

const VARIABLE: &str = "WAYSTATION_DEMO";
/// A killed process ends as soon as its memory and files are given back; a busy machine takes a while for that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Marks what `command` starts as part of the demo in `dir`.
pub fn mark<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    command.env(VARIABLE, dir)
}

/// Kills every process of the demo in `dir`, and returns when none of them holds a file, a socket or memory any more.
/// Answers how many there were.
///
/// # Errors
/// A process cannot be killed, or does not end within a minute.
pub fn end(dir: &Path) -> Result<usize> {
    let begin = Instant::now();
    let mut killed: Vec<Process> = Vec::new();
    loop {
        // One that was being forked while its parent was killed shows at the next look.
        let fresh: Vec<Process> =
            marked(dir)?.into_iter().filter(|process| !killed.contains(process)).collect();
        for process in &fresh {
            match kill(process.pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => {
                    return Err(e)
                        .with_context(|| format!("process {} of the demo cannot be ended", process.pid));
                }
            }
        }
        let none_new = fresh.is_empty();
        killed.extend(fresh);
        let left: Vec<i32> =
            killed.iter().filter(|process| process.lives()).map(|process| process.pid.as_raw()).collect();
        if none_new && left.is_empty() {
            return Ok(killed.len());
        }
        ensure!(begin.elapsed() < PATIENCE, "processes {left:?} of the demo do not end");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A process; its start time tells it from a later one with the same number.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: Pid,
    started: u64,
}

impl Process {
    /// `false` once its files are closed. The environment cannot tell that: a process that ends gives its memory back first.
    /// Nor can the state of the process: its first thread may have ended while others still hold the files.
    fn lives(&self) -> bool {
        let folder = format!("/proc/{}", self.pid);
        let Some((_, started)) = stat(&folder) else { return false };
        let Ok(threads) = fs::read_dir(format!("{folder}/task")) else { return false };
        started == self.started
            && threads
                .flatten()
                .filter_map(|thread| stat(thread.path()))
                .any(|(state, _)| !matches!(state, 'Z' | 'X'))
    }
}

fn marked(dir: &Path) -> Result<Vec<Process>> {
    let wanted = [VARIABLE.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw)
        else {
            continue;
        };
        // It may have ended, or be another user's: then it is not of this demo.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if pid != Pid::this()
            && environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
            && let Some((_, started)) = stat(entry.path())
        {
            found.push(Process { pid, started });
        }
    }
    Ok(found)
}

/// State and start time of a process or of a thread, by its folder in `/proc`.
fn stat(folder: impl AsRef<Path>) -> Option<(char, u64)> {
    let text = fs::read_to_string(folder.as_ref().join("stat")).ok()?;
    // The name before may hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The 22nd field of all.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    /// Listens in a descendant that its own parent's end does not touch.
    fn start(dir: &Path, socket: &Path) {
        let mut shell = Command::new("sh");
        let line = format!("setsid socat UNIX-LISTEN:{},fork EXEC:cat & exit 0", socket.display());
        assert!(mark(shell.args(["-c", &line]), dir).status().unwrap().success());
        let begin = Instant::now();
        while UnixStream::connect(socket).is_err() && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn nothing_that_was_marked_answers_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        let (socket, spared) = (dir.path().join("ours.sock"), dir.path().join("other.sock"));
        start(&ours, &socket);
        start(&other, &spared);
        let open = UnixStream::connect(&socket).unwrap();
        assert!(end(&ours).unwrap() >= 1);
        assert!(UnixStream::connect(&socket).is_err());
        assert!(UnixStream::connect(&spared).is_ok());
        drop(open);
        assert_eq!(end(&ours).unwrap(), 0);
        assert!(end(&other).unwrap() >= 1);
    }

    #[test]
    fn a_process_lives_until_its_last_thread_ends() {
        let mut child = Command::new("python3")
            .args(["-c", "import ctypes, threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nctypes.CDLL(None).pthread_exit(None)"])
            .spawn()
            .unwrap();
        let folder = format!("/proc/{}", child.id());
        let begin = Instant::now();
        while stat(&folder).unwrap().0 != 'Z' && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        let process = Process { pid: Pid::from_raw(child.id() as i32), started: stat(&folder).unwrap().1 };
        assert_eq!(stat(&folder).unwrap().0, 'Z');
        assert!(process.lives());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
    }

    #[test]
    fn a_listener_of_this_process_is_not_ended() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(end(dir.path()).unwrap(), 0);
        assert!(UnixStream::connect(&socket).is_ok());
    }
}
