//! Starting a session's programs: as their own users, without a way back to more rights, with their words in the log.

use crate::{log::Log, tty};
use parcel::wire::users;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
};

/// Longest line of a program's that is logged in one piece, in bytes.
const LONGEST: u64 = 8192;

/// A program of a session.
pub struct Program<'a> {
    /// Path of its binary.
    pub path: &'a str,
    /// Its arguments.
    pub args: Vec<String>,
    /// User and group.
    pub user: u32,
    /// Terminal that becomes its input, output and controlling terminal, with the value of `TERM`.
    pub terminal: Option<(File, &'static str)>,
    /// Adjustment of the kernel's choice when memory runs out, -1000 (never) to 1000 (first).
    pub oom: i32,
}

impl Program<'_> {
    /// The command that starts it.
    ///
    /// # Errors
    /// The terminal cannot be shared.
    pub fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(self.path);
        command.args(&self.args).env_clear().current_dir("/");
        command.envs(parcel::wire::ENVIRONMENT);
        let controlling = match &self.terminal {
            Some((file, term)) => {
                command.env("TERM", term).stdin(file.try_clone()?).stdout(file.try_clone()?);
                Some(file.try_clone()?)
            }
            None => {
                command.stdin(Stdio::null()).stdout(Stdio::piped());
                None
            }
        };
        command.stderr(Stdio::piped());
        let user = self.user;
        let oom = self.oom.to_string();
        // SAFETY: between fork and exec only system calls are made, on values captured before the fork; nothing
        // allocates and no lock is taken.
        unsafe { command.pre_exec(move || become_user(user, oom.as_bytes(), controlling.as_ref())) };
        Ok(command)
    }

    /// Starts it; its standard error, and its output when it has no terminal, go to the log.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn spawn(&self, name: &str, log: &Log) -> io::Result<Child> {
        let mut child = self
            .command()?
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path)))?;
        if let Some(stderr) = child.stderr.take() {
            log_lines(stderr, name, log)?;
        }
        if let Some(stdout) = child.stdout.take() {
            log_lines(stdout, name, log)?;
        }
        Ok(child)
    }
}

/// Copies lines to the log until the pipe ends.
///
/// # Errors
/// No thread.
pub fn log_lines(pipe: impl Read + Send + 'static, name: &str, log: &Log) -> io::Result<()> {
    let (name, log) = (name.to_owned(), log.clone());
    std::thread::Builder::new().name(format!("log {name}")).spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut pipe).take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => log.line(&name, String::from_utf8_lossy(&line).trim_end()),
            }
        }
    })?;
    Ok(())
}

/// Runs in the child, after fork: limits, terminal, groups, user, and no way back.
fn become_user(user: u32, oom: &[u8], terminal: Option<&File>) -> io::Result<()> {
    adjust_oom(oom);
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_NOFILE, 65_536)?;
    // Keys and fault handling live in locked memory.
    limit(libc::RLIMIT_MEMLOCK, if user == users::KIOSK_UI.id { 64 << 20 } else { libc::RLIM_INFINITY })?;
    // SAFETY: setsid takes no argument; it cannot fail in a freshly forked child, which leads no group.
    unsafe { libc::setsid() };
    if let Some(terminal) = terminal {
        // SAFETY: the descriptor was inherited over fork and is open; fchown takes plain integers.
        unsafe { libc::fchown(terminal.as_raw_fd(), user, user) };
        tty::take_control(terminal.as_fd())?;
    }
    let groups = [users::GROUP];
    // SAFETY: the list and its length belong together; the rest are plain integers. The order matters: groups first,
    // user last, because each needs the rights that the user change gives up.
    let done = unsafe {
        libc::umask(0o077);
        libc::setgroups(groups.len(), groups.as_ptr()) == 0
            && libc::setresgid(user, user, user) == 0
            && libc::setresuid(user, user, user) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Best effort: the manager's own adjustment, which is inherited, is for the manager only. Makes only system calls.
fn adjust_oom(value: &[u8]) {
    // SAFETY: the path is a C string; the descriptor is checked, written from a live buffer, and closed.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, value.as_ptr().cast(), value.len());
            libc::close(file);
        }
    }
}

fn limit(what: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: setrlimit reads one struct, which lives through the call.
    if unsafe { libc::setrlimit(what, &limit) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
