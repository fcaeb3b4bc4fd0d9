//! PID 1 for real, in a process-id namespace of its own: whatever a manager leaves behind is gone before the next.

use nix::unistd::{ForkResult, Pid, fork};
use std::{
    fs,
    process::{Command, Stdio},
};
use waystation_init::{pid1, system::Power};

/// Tells the test's second process that it is PID 1, and where to write.
const ROLE: &str = "REAPER_FOLDER";

/// Stands for [`half_a_manager`].
const HALF: &str = "half";

/// What each manager does: the first leaves an orphan and a zombie and is killed, the second cannot be started, the
/// third ends but for one thread, the fourth exits as after a panic, the fifth asks for the end.
const MANAGERS: [&str; 5] = [
    "(sleep 1000 & echo $! > $REAPER_FOLDER/orphan) & (exit 3) & sleep 0.2; kill -9 $$",
    "",
    HALF,
    "exit 101",
    "kill -0 $(cat $REAPER_FOLDER/orphan) 2>/dev/null || touch $REAPER_FOLDER/orphan-is-gone; exit 40",
];

/// A process whose first thread has ended and whose second never does: as one that hangs in the kernel.
fn half_a_manager() -> Pid {
    // SAFETY: the child only starts a thread and ends its own; the C library keeps its allocator usable over a fork.
    match unsafe { fork() }.expect("a process can be forked") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(1000)));
            // SAFETY: ends the calling thread, the first of its process; nothing of it is used any more.
            unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
            unreachable!("the thread has ended")
        }
    }
}

#[test]
fn a_manager_that_ends_takes_everything_with_it_and_comes_back() {
    if let Some(folder) = std::env::var_os(ROLE) {
        let mut told = Vec::new();
        let mut at = 0;
        let power = pid1::supervise(|crashed| {
            told.extend(crashed.map(str::to_owned));
            let script = MANAGERS[at];
            at += 1;
            if script.is_empty() {
                return Err(std::io::Error::other("no such program"));
            }
            if script == HALF {
                return Ok(half_a_manager());
            }
            let child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn()?;
            Ok(Pid::from_raw(child.id().cast_signed()))
        });
        let end = if power == Power::Off { "off" } else { "restart" };
        fs::write(std::path::Path::new(&folder).join("told"), format!("{told:?} {end}")).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_manager_that_ends_takes_everything_with_it_and_comes_back"])
        .env(ROLE, folder.path())
        .stdout(Stdio::null())
        .status()
        .expect("unshare, of util-linux, runs");
    assert!(status.success(), "{status}");
    let told = fs::read_to_string(folder.path().join("told")).unwrap();
    assert_eq!(told, r#"["signal 9", "it could not be started", "it does not end", "exit status 101"] off"#);
    assert!(folder.path().join("orphan-is-gone").exists());
}
