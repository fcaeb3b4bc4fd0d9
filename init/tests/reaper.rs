//! PID 1 for real, in a process-id namespace of its own: whatever a manager leaves behind is gone before the next.

use nix::unistd::Pid;
use std::{
    fs,
    process::{Command, Stdio},
};
use waystation_init::{pid1, system::Power};

/// Tells the test's second process that it is PID 1, and where to write.
const ROLE: &str = "REAPER_FOLDER";

/// What each manager does: the first leaves an orphan and a zombie and is killed, the second cannot be started, the
/// third exits as after a panic, the fourth asks for the end.
const MANAGERS: [&str; 4] = [
    "(sleep 1000 & echo $! > $REAPER_FOLDER/orphan) & (exit 3) & sleep 0.2; kill -9 $$",
    "",
    "exit 101",
    "kill -0 $(cat $REAPER_FOLDER/orphan) 2>/dev/null || touch $REAPER_FOLDER/orphan-is-gone; exit 40",
];

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
            let child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn()?;
            Ok(Pid::from_raw(child.id().cast_signed()))
        });
        let end = if power == Power::Off { "off" } else { "restart" };
        fs::write(std::path::Path::new(&folder).join("told"), format!("{told:?} {end}")).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_manager_that_ends_takes_everything_with_it_and_comes_back"])
        .env(ROLE, folder.path())
        .stdout(Stdio::null())
        .status()
        .expect("unshare, of util-linux, runs");
    assert!(status.success(), "{status}");
    let told = fs::read_to_string(folder.path().join("told")).unwrap();
    assert_eq!(told, r#"["signal 9", "it could not be started", "exit status 101"] off"#);
    assert!(folder.path().join("orphan-is-gone").exists());
}
