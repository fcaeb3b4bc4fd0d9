//! The kiosk's log: a bounded file in `/run/log` and, if IT wants it, a terminal. Nothing in it outlives the power,
//! and nothing secret is written to it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    time::Duration,
};

/// Folder of the log.
pub const FOLDER: &str = "/run/log";
/// The file grows to this many bytes and is then kept once as `.old`.
const MOST: u64 = 1 << 20;
/// Longest line that is kept, in bytes.
const LONGEST: usize = 8192;
/// Who says nothing of a session, and so is shown to whoever stands at the login screen.
const SHOWN_TO_ALL: [&str; 11] = [
    "cache", "clock", "init", "kernel", "keyboard", "lockdown", "modprobe", "modules", "network", "switches",
    "wipe",
];
/// Longest line that [`Log::tail`] gives, in characters.
const SHOWN: usize = 400;

/// Where lines go. Cheap to clone; never blocks and never fails: a log that stops the kiosk is worse than a hole in it.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Sink>>);

/// What the terminal's thread is given.
enum Item {
    Line(String),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

struct Sink {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    terminal: Option<SyncSender<Item>>,
    dropped: u64,
}

impl Log {
    /// A log in `folder`, copied to the terminal `terminal` (`ttyS1`) if that can be opened.
    pub fn open(folder: &Path, terminal: Option<&str>) -> Self {
        let _ = fs::create_dir_all(folder);
        let path = folder.join("waystation.log");
        let file = append(&path);
        let bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        let terminal = terminal.and_then(writer);
        Self(Arc::new(Mutex::new(Sink { path, file, bytes, terminal, dropped: 0 })))
    }

    /// Adds `who: line`, stamped with the seconds since the kernel started.
    pub fn line(&self, who: &str, line: &str) {
        let text: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        let text = format!("[{:10.3}] {who}: {text}\n", crate::clock::since_boot().as_secs_f64());
        let mut sink = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sink.write(&text);
    }
}

impl Log {
    /// The last lines of the kiosk itself, the oldest first. What others said, a session's programs first of all, is left
    /// out: whoever reads this need not be whose session it was.
    pub fn tail(&self, most: usize) -> Vec<String> {
        let sink = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        let text = [read(&sink.path.with_extension("old")), read(&sink.path)].concat();
        drop(sink);
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<String> = text
            .lines()
            .rev()
            .filter(|line| is_of_kiosk(line))
            .take(most)
            .map(|line| line.chars().take(SHOWN).collect())
            .collect();
        lines.reverse();
        lines
    }

    /// Waits until the terminal has all lines so far, but not long: for the end of the process.
    pub fn flush(&self) {
        let terminal = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).terminal.clone();
        let (done, waiting) = channel();
        if terminal.is_some_and(|terminal| terminal.try_send(Item::Flush(done)).is_ok()) {
            let _ = waiting.recv_timeout(Duration::from_secs(1));
        }
    }
}

impl Sink {
    fn write(&mut self, text: &str) {
        if self.bytes > MOST {
            let _ = fs::rename(&self.path, self.path.with_extension("old"));
            self.file = append(&self.path);
            self.bytes = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(text.as_bytes()).is_ok()
        {
            self.bytes += text.len() as u64;
        }
        let Some(terminal) = &self.terminal else { return };
        let line = match self.dropped {
            0 => text.to_owned(),
            dropped => format!("({dropped} lines were too fast for this terminal)\n{text}"),
        };
        match terminal.try_send(Item::Line(line)) {
            Ok(()) => self.dropped = 0,
            Err(TrySendError::Full(_)) => self.dropped += 1,
            Err(TrySendError::Disconnected(_)) => self.terminal = None,
        }
    }
}

/// Whether a line, `[  12.345] who: what`, is of the kiosk itself.
fn is_of_kiosk(line: &str) -> bool {
    let who = line.split_once("] ").and_then(|(_, rest)| rest.split_once(": ")).map(|(who, _)| who);
    who.is_some_and(|who| SHOWN_TO_ALL.contains(&who))
}

fn append(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok()
}

/// A thread that writes to the terminal, so that a slow or blocked line never holds the kiosk up.
fn writer(name: &str) -> Option<SyncSender<Item>> {
    let mut terminal = crate::tty::open_log(name).ok()?;
    let (lines, queue) = sync_channel::<Item>(1024);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            for item in queue {
                match item {
                    Item::Line(line) => {
                        if terminal.write_all(line.replace('\n', "\r\n").as_bytes()).is_err() {
                            return;
                        }
                    }
                    Item::Flush(done) => drop(done),
                }
            }
        })
        .ok()?;
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Role;

    #[test]
    fn its_end_holds_nothing_of_a_session() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), None);
        log.line("init", "phase login: as it is");
        let roles = [Role::Cached, Role::KioskUi, Role::Vmm].map(Role::name);
        for program in roles.into_iter().chain(["dnsmasq", "one that is new"]) {
            log.line(program, "init: of a traveller");
        }
        log.line("network", &"x".repeat(1000));
        let tail = log.tail(10);
        assert_eq!(tail.len(), 2, "{tail:?}");
        assert!(tail[0].ends_with("init: phase login: as it is"));
        assert_eq!(tail[1].chars().count(), SHOWN);
        assert_eq!(log.tail(1), tail[1..]);
    }

    #[test]
    fn the_file_is_bounded_and_lines_stay_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), None);
        log.line("test", "two\nlines\u{1b}[2J");
        let text = fs::read_to_string(folder.path().join("waystation.log")).unwrap();
        assert!(text.ends_with("test: two lines [2J\n"), "{text:?}");
        for _ in 0..1000 {
            log.line("test", &"x".repeat(9000));
        }
        let kept: u64 =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(kept <= 2 * (MOST + 2 * LONGEST as u64), "{kept}");
    }
}
