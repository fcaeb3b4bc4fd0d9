//! A serial terminal as a person reads it: bytes go through a terminal emulator, and tests wait for text on it.

use crate::process;
use anyhow::{Context, Result, bail};
use std::{
    fmt::Write as _,
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Rows of the terminal.
pub const ROWS: u16 = 25;
/// Columns of the terminal.
pub const COLS: u16 = 80;

/// The terminal at the other end of a machine's serial line.
#[derive(Debug)]
pub struct Screen {
    shared: Arc<Shared>,
    writer: UnixStream,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    parser: vt100::Parser,
    closed: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Screen {
    /// Attaches to the serial line's socket; every byte that arrives is also kept in `log`.
    pub fn attach(socket: &Path, log: &Path) -> Result<Self> {
        let stream = process::connect(socket)
            .with_context(|| format!("cannot connect to the serial line at {}", socket.display()))?;
        let log = File::create(log)?;
        let writer = stream.try_clone()?;
        let answers = stream.try_clone()?;
        let side = |n: u16| n.try_into().expect("a terminal has cells");
        let parser = vt100::Parser::new(side(ROWS), side(COLS), 0);
        let shared =
            Arc::new(Shared { inner: Mutex::new(Inner { parser, closed: false }), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || read_all(stream, answers, log, &theirs));
        Ok(Self { shared, writer })
    }

    /// The screen's text now, a line a row, trailing blanks cut.
    pub fn text(&self) -> String {
        self.inner().parser.screen().contents()
    }

    /// The screen's text once nothing has been drawn for a moment.
    pub fn settled(&self) -> String {
        let mut inner = self.inner();
        loop {
            let (next, quiet) = self
                .shared
                .changed
                .wait_timeout(inner, Duration::from_millis(400))
                .unwrap_or_else(PoisonError::into_inner);
            inner = next;
            if quiet.timed_out() || inner.closed {
                return inner.parser.screen().contents();
            }
        }
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.writer.write_all(text.as_bytes()).context("the serial line is closed")
    }

    /// Waits until `text` stands on the screen.
    pub fn expect(&self, text: &str, timeout: Duration) -> Result<()> {
        self.expect_any(&[text], timeout).map(drop)
    }

    /// Waits until one of `texts` stands on the screen, also across the end of a line; tells which.
    pub fn expect_any(&self, texts: &[&str], timeout: Duration) -> Result<usize> {
        self.until(timeout, &format!("{texts:?}"), |screen| {
            let flat = flat(screen);
            texts.iter().position(|text| screen.contains(text) || flat.contains(text))
        })
    }

    /// Waits until `find` finds something on the screen; an error shows the screen as it stood.
    pub fn until<T>(
        &self,
        timeout: Duration,
        what: &str,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.inner();
        loop {
            let text = inner.parser.screen().contents();
            if let Some(found) = find(&text) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || inner.closed {
                let why = if inner.closed {
                    "the machine ended".to_owned()
                } else {
                    format!("{} s passed", timeout.as_secs())
                };
                bail!("{why} while waiting for {what}; the screen:\n{}", framed(&text));
            }
            inner = self.shared.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets go of the line, so that somebody else can attach.
    pub fn release(&self) {
        // The machine may have closed it already.
        let _ = self.writer.shutdown(std::net::Shutdown::Both);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The screen's words in one line, without frames.
fn flat(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || ('\u{2500}'..='\u{257f}').contains(&c))
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ")
}

/// The screen with a frame, for errors.
pub fn framed(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let _ = writeln!(out, "    | {line}");
    }
    out
}

/// Asks a terminal where its cursor is.
const ASKED: &[u8] = b"\x1b[6n";

fn read_all(mut from: UnixStream, mut answers: UnixStream, mut log: File, shared: &Shared) {
    let mut buffer = [0; 4096];
    let mut asking = 0;
    loop {
        let n = from.read(&mut buffer).unwrap_or(0);
        let mut inner = shared.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if n == 0 {
            inner.closed = true;
            shared.changed.notify_all();
            return;
        }
        // A terminal tells where its cursor is when asked, before it reads on; full-screen programs learn its size that
        // way. The question may come in pieces.
        let mut done = 0;
        for (at, byte) in buffer[..n].iter().enumerate() {
            asking = match byte {
                0x1b => 1,
                byte if *byte == ASKED[asking] => asking + 1,
                _ => 0,
            };
            if asking == ASKED.len() {
                asking = 0;
                inner.parser.process(&buffer[done..=at]);
                done = at + 1;
                let (row, col) = inner.parser.screen().cursor_position();
                let _ = write!(answers, "\x1b[{};{}R", row + 1, col + 1);
            }
        }
        inner.parser.process(&buffer[done..n]);
        shared.changed.notify_all();
        drop(inner);
        let _ = log.write_all(&buffer[..n]);
    }
}
