//! A child process that is watched until it ends, and ended without a race on its process id.

use crate::{backoff::Backoff, clock, log::Log};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long an ended process may take to free its memory and disappear.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Nobody wants it any more.
    ending: AtomicBool,
    /// It, or its successors, run.
    alive: AtomicBool,
}

#[derive(Default)]
struct Inner {
    /// The process, while it may be signalled.
    pid: Option<Pid>,
    /// It ended and no other will be started.
    done: bool,
}

/// A watched child.
pub struct Service(Arc<Shared>);

impl Service {
    /// Watches `child` and calls `ended` when it ends by itself.
    ///
    /// # Errors
    /// No thread; the child is killed then.
    pub fn watch(name: &str, child: Child, ended: impl FnOnce(String) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.adopt(&child);
        let watcher = shared.clone();
        let thread = std::thread::Builder::new().name(format!("wait {name}"));
        let started = thread.spawn(move || {
            let how = watcher.reap(child);
            watcher.alive.store(false, Ordering::Release);
            watcher.leave();
            if !watcher.ending.load(Ordering::Acquire) {
                ended(how);
            }
        });
        let service = Self(shared);
        match started {
            Ok(_) => Ok(service),
            Err(error) => {
                service.signal();
                Err(error)
            }
        }
    }

    /// Starts a program again and again, with back-off, until it is ended.
    ///
    /// # Errors
    /// The first start fails.
    pub fn keep(
        name: &'static str,
        log: Log,
        mut start: impl FnMut() -> io::Result<Child> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let first = start()?;
        shared.adopt(&first);
        let watcher = shared.clone();
        std::thread::Builder::new().name(format!("keep {name}")).spawn(move || {
            let mut backoff = Backoff::default();
            let mut child = Some(first);
            backoff.started(clock::since_boot());
            loop {
                if let Some(child) = child.take() {
                    let how = watcher.reap(child);
                    if watcher.ending.load(Ordering::Acquire) {
                        break;
                    }
                    log.line(name, &format!("ended: {how}; starting it again"));
                }
                watcher.pause(backoff.ended(clock::since_boot()));
                if watcher.ending.load(Ordering::Acquire) {
                    break;
                }
                backoff.started(clock::since_boot());
                match start() {
                    Ok(fresh) => {
                        watcher.adopt(&fresh);
                        child = Some(fresh);
                    }
                    Err(error) => log.line(name, &format!("cannot be started: {error}")),
                }
            }
            watcher.leave();
        })?;
        Ok(Self(shared))
    }

    /// Tells whether the process still runs.
    pub fn alive(&self) -> impl Fn() -> bool + Clone + Send + Sync + use<> {
        let shared = self.0.clone();
        move || shared.alive.load(Ordering::Acquire)
    }

    /// Kills it and waits until it is gone.
    pub fn end(self) {
        {
            // Under the lock, or a watcher that is about to pause would not be woken.
            let _inner = self.0.lock();
            self.0.ending.store(true, Ordering::Release);
            self.0.alive.store(false, Ordering::Release);
        }
        self.signal();
        self.0.changed.notify_all();
        let inner = self.0.lock();
        let _ = self.0.changed.wait_timeout_while(inner, PATIENCE, |inner| !inner.done);
    }

    fn signal(&self) {
        if let Some(pid) = self.0.lock().pid {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt(&self, child: &Child) {
        let mut inner = self.lock();
        inner.pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
        self.alive.store(true, Ordering::Release);
        // Ended between two starts: the newcomer was not signalled.
        if self.ending.load(Ordering::Acquire)
            && let Some(pid) = inner.pid
        {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Waits for the end, and only then gives the process id back to the kernel, so that nobody signals a stranger.
    fn reap(&self, mut child: Child) -> String {
        let pid = self.lock().pid;
        if let Some(pid) = pid {
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
                == Err(nix::errno::Errno::EINTR)
            {}
        }
        let mut held = self.lock();
        let how = match child.wait() {
            Ok(status) => told(status),
            Err(error) => error.to_string(),
        };
        held.pid = None;
        how
    }

    fn leave(&self) {
        self.lock().done = true;
        self.changed.notify_all();
    }

    /// Waits for `time`, or until nobody wants the process any more.
    fn pause(&self, time: Duration) {
        let inner = self.lock();
        let _ = self.changed.wait_timeout_while(inner, time, |_| !self.ending.load(Ordering::Acquire));
    }
}

/// How a process ended, for people.
pub fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        process::Command,
        sync::mpsc::{RecvTimeoutError, channel},
    };

    fn shell(script: &str) -> Child {
        Command::new("/bin/sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn an_end_of_its_own_is_told() {
        for (script, how) in [("exit 3", "exit status 3"), ("kill -9 $$", "signal 9")] {
            let (tx, rx) = channel();
            let service = Service::watch("test", shell(script), move |how| tx.send(how).unwrap()).unwrap();
            assert_eq!(rx.recv().unwrap(), how);
            assert!(!(service.alive())());
            service.end();
        }
    }

    #[test]
    fn an_end_that_was_wanted_is_not_told_and_leaves_no_process() {
        let (tx, rx) = channel();
        let child = shell("exec sleep 1000");
        let pid = Pid::from_raw(child.id().cast_signed());
        let service = Service::watch("test", child, move |how| tx.send(how).unwrap()).unwrap();
        assert!((service.alive())());
        service.end();
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
        assert_eq!(rx.recv_timeout(Duration::from_secs(5)), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_kept_program_comes_back_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), None);
        let (tx, rx) = channel();
        let service = Service::keep("test", log, move || {
            let child = shell("exec sleep 1000");
            tx.send(Pid::from_raw(child.id().cast_signed())).unwrap();
            Ok(child)
        })
        .unwrap();
        let first = rx.recv().unwrap();
        kill(first, Signal::SIGKILL).unwrap();
        let second = rx.recv().unwrap();
        service.end();
        assert_eq!(kill(second, None), Err(nix::errno::Errno::ESRCH));
        assert_ne!(first, second);
    }
}
