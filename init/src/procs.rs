//! Processes as `/proc` shows them.

use crate::folder;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parcel::wire::users;
use std::{io, path::Path, time::Duration};

/// Users whose processes are a session.
pub const SESSION_USERS: std::ops::RangeInclusive<u32> = users::CACHED.id..=users::VMM.id;

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
///
/// # Errors
/// `proc` cannot be read.
pub fn all(proc: &Path) -> io::Result<Vec<i32>> {
    let entries = folder::entries(proc)?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Processes any of whose user ids is a session's, and the session's dnsmasq.
///
/// # Errors
/// `proc`, or the status of a process that is there, cannot be read.
pub fn of_session(proc: &Path) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for pid in all(proc)? {
        let status = proc.join(pid.to_string()).join("status");
        let Some(text) = folder::text_of(&status)? else { continue };
        let Some((name, users)) = parse_status(&text) else {
            return Err(io::Error::other(format!("{} is not understood", status.display())));
        };
        if users.iter().any(|user| SESSION_USERS.contains(user) || *user == users::NOBODY.id) {
            found.push(Process { pid, name });
        }
    }
    Ok(found)
}

/// Kills the session's processes until none is left or `limit` has passed; answers what is left.
///
/// # Errors
/// Nobody can tell, even after `limit`, because `/proc` cannot be read.
pub fn kill_session(limit: Duration) -> io::Result<Vec<Process>> {
    let until = crate::clock::since_boot() + limit;
    loop {
        let left = of_session(Path::new("/proc"));
        if left.as_ref().is_ok_and(Vec::is_empty) || crate::clock::since_boot() >= until {
            return left;
        }
        for process in left.iter().flatten() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        // A dying process frees its memory before it disappears; a large guest takes a moment.
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        let mut found: Vec<i32> =
            of_session(proc.path()).unwrap().iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [7, 9]);
        // A name that is no text does not hide a process.
        fs::write(proc.path().join("7/status"), b"Name:\t\xff\xfe\nUid:\t103\t103\t103\t103\n").unwrap();
        assert_eq!(of_session(proc.path()).unwrap().len(), 2);
        // Who cannot be looked at may be anybody's.
        fs::write(proc.path().join("9/status"), "damaged").unwrap();
        assert!(of_session(proc.path()).is_err());
        fs::remove_dir_all(proc.path().join("9")).unwrap();
        fs::create_dir(proc.path().join("9")).unwrap();
        assert_eq!(of_session(proc.path()).unwrap().len(), 1, "one that is gone is nobody's");
    }

    #[test]
    fn a_broken_status_is_no_process() {
        assert_eq!(parse_status("Name:\tx\nUid:\t1\t2\n"), None);
        assert_eq!(parse_status(""), None);
    }
}
