//! What a person at the terminal sees of a build.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Tells on standard error what is being done and how long it took. On a terminal a long step's line moves.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    moving: bool,
    started: Instant,
    /// One line at a time.
    line: Mutex<()>,
}

impl Progress {
    /// For standard error as it is; `quiet` says nothing at all.
    pub fn new(quiet: bool) -> Self {
        let moving = !quiet && std::io::stderr().is_terminal();
        Self { quiet, moving, started: Instant::now(), line: Mutex::new(()) }
    }

    /// Does a step and says that it is done, with its seconds.
    pub fn step<T>(&self, doing: &str, work: impl FnOnce() -> T) -> T {
        if self.moving {
            self.say(&format!("\r\x1b[K{doing} …"));
        }
        let begin = Instant::now();
        let result = work();
        self.done(doing, begin);
        result
    }

    /// Does a step whose bytes can be counted meanwhile.
    pub fn watch<T>(
        &self,
        doing: &str,
        total: u64,
        bytes: impl Fn() -> u64 + Send,
        work: impl FnOnce() -> T,
    ) -> T {
        let begin = Instant::now();
        if !self.moving {
            self.say(&format!("{doing}, {:.1} MB …\n", total as f64 / 1e6));
        }
        let result = thread::scope(|scope| {
            let (finished, wait) = channel::<()>();
            if self.moving {
                scope.spawn(move || {
                    while wait.recv_timeout(Duration::from_millis(250)) == Err(RecvTimeoutError::Timeout) {
                        let (done, seconds) = (bytes(), begin.elapsed().as_secs_f64());
                        let left = if done > 0 {
                            seconds / done as f64 * total.saturating_sub(done) as f64
                        } else {
                            0.0
                        };
                        self.say(&format!(
                            "\r\x1b[K{doing}: {:.1} of {:.1} MB, {left:.0} s to go",
                            done as f64 / 1e6,
                            total as f64 / 1e6
                        ));
                    }
                });
            }
            let result = work();
            drop(finished);
            result
        });
        self.done(doing, begin);
        result
    }

    /// Says a sentence that the person should know of.
    pub fn note(&self, text: &str) {
        let clear = if self.moving { "\r\x1b[K" } else { "" };
        self.say(&format!("{clear}{text}\n"));
    }

    /// Seconds since the build began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn done(&self, doing: &str, begin: Instant) {
        let clear = if self.moving { "\r\x1b[K" } else { "" };
        self.say(&format!("{clear}{doing}: {:.1} s\n", begin.elapsed().as_secs_f64()));
    }

    fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        let _one_at_a_time = self.line.lock();
        // Nobody listening is no reason to stop building.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
