//! What ends a wipe, or the making of a cache, that does not end: a disk that was pulled out, or a driver that hangs, can hold a system call for ever.

use crate::{log::Log, power};
use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    time::Duration,
};

/// Longest step. The slowest honest part is the discard of a large, slow disk.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Restarts the machine unless it is dropped in time: memory is lost then, and the cache's key with it.
pub struct Watchdog(Option<Sender<()>>);

impl Watchdog {
    /// Starts to watch `what`.
    pub fn start(what: &'static str, log: &Log) -> Self {
        let log = log.clone();
        Self::over(LIMIT, move || {
            let limit = LIMIT.as_secs();
            log.line("init", &format!("{what} does not end within {limit} s: restarting the machine"));
            log.flush();
            power::restart_at_once()
        })
    }

    fn over(limit: Duration, bite: impl FnOnce() + Send + 'static) -> Self {
        let (alive, watching) = channel();
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        let started = thread.spawn(move || {
            if watching.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                bite();
            }
        });
        Self(started.is_ok().then_some(alive))
    }

    /// Whether anybody watches: there may be no thread to be had.
    pub fn watches(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bites_only_when_it_is_not_called_off() {
        let (bitten, told) = channel();
        let watchdog = Watchdog::over(Duration::from_millis(1), move || bitten.send(()).unwrap());
        assert!(watchdog.watches());
        told.recv().unwrap();
        let (bitten, told) = channel();
        drop(Watchdog::over(LIMIT, move || bitten.send(()).unwrap()));
        assert!(told.recv().is_err(), "the watch ended without a bite");
    }
}
