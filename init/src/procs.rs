//! Processes as `/proc` shows them.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, path::Path, time::Duration};

/// User of `cached`.
pub const CACHED: u32 = 101;
/// User of `kiosk-ui`.
pub const KIOSK_UI: u32 = 102;
/// User of `vmm`.
pub const VMM: u32 = 103;
/// User of `dnsmasq`: Debian's `nobody`.
pub const NOBODY: u32 = 65534;
/// Group that the session's programs share.
pub const GROUP: u32 = 100;

/// Users whose processes are a session.
pub const SESSION_USERS: std::ops::RangeInclusive<u32> = CACHED..=VMM;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command name.
    pub name: String,
}

/// Reads a `/proc/PID/status`: the name and the four user ids.
pub fn parse_status(text: &str) -> Option<(String, [u32; 4])> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let mut users = field("Uid")?.split_ascii_whitespace().map(|word| word.parse().ok());
    let ids = [users.next()??, users.next()??, users.next()??, users.next()??];
    Some((field("Name")?.trim().to_owned(), ids))
}

/// All process ids.
pub fn all(proc: &Path) -> Vec<i32> {
    let entries = fs::read_dir(proc).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Processes any of whose user ids is a session's, and the session's dnsmasq.
pub fn of_session(proc: &Path) -> Vec<Process> {
    all(proc)
        .into_iter()
        .filter_map(|pid| {
            let (name, users) =
                parse_status(&fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?)?;
            let ours = users.iter().any(|user| SESSION_USERS.contains(user) || *user == NOBODY);
            ours.then_some(Process { pid, name })
        })
        .collect()
}

/// Kills the session's processes until none is left or `limit` has passed; answers what is left.
pub fn kill_session(limit: Duration) -> Vec<Process> {
    let until = crate::clock::since_boot() + limit;
    loop {
        let left = of_session(Path::new("/proc"));
        if left.is_empty() || crate::clock::since_boot() >= until {
            return left;
        }
        for process in &left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        // A dying process frees its memory before it disappears; a large guest takes a moment.
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_user_ids_counts() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, users) in [
            ("7", "0\t103\t0\t0"),
            ("8", "0\t0\t0\t0"),
            ("9", "101\t101\t101\t101"),
            ("x", "101\t101\t101\t101"),
        ] {
            let folder = proc.path().join(pid);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("status"), format!("Name:\tp{pid}\nState:\tS\nUid:\t{users}\n")).unwrap();
        }
        let mut found: Vec<i32> = of_session(proc.path()).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [7, 9]);
    }

    #[test]
    fn a_broken_status_is_no_process() {
        assert_eq!(parse_status("Name:\tx\nUid:\t1\t2\n"), None);
        assert_eq!(parse_status(""), None);
    }
}
