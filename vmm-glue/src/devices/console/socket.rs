//! `console.sock`: raw bytes to and from whoever watches the guest's console.

use crate::error::{Error, Result};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixListener, unix::net::UnixStream},
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Most watchers at one time.
const WATCHERS: usize = 8;
/// A watcher that is this many bytes behind is caught up with a fresh drawing instead.
const BACKLOG: usize = 1 << 20;

struct Watcher {
    stream: UnixStream,
    backlog: VecDeque<u8>,
    /// What epoll waits for.
    interest: EventSet,
    /// Too far behind: the backlog was dropped.
    lost: bool,
}

/// The socket and its watchers. Epoll tokens are `base` for the socket and `base + 1 + id` for watcher `id`.
pub struct Watchers {
    listener: UnixListener,
    base: u64,
    watchers: BTreeMap<u64, Watcher>,
    next: u64,
}

/// What came of a watcher's event.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// It typed this.
    Bytes(Vec<u8>),
    /// It has gone.
    Gone,
}

impl Watchers {
    /// Listens, with tokens from `base`.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new(listener: UnixListener, base: u64, epoll: &Epoll) -> Result<Self> {
        listener.set_nonblocking(true).map_err(Error::io("console socket"))?;
        let event = EpollEvent::new(EventSet::IN, base);
        epoll
            .ctl(ControlOperation::Add, listener.as_raw_fd(), event)
            .map_err(Error::io("waiting for the console socket"))?;
        Ok(Self { listener, base, watchers: BTreeMap::new(), next: 0 })
    }

    /// Takes a watcher in and sends it the drawing.
    pub fn accept(&mut self, epoll: &Epoll, drawing: &[u8]) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if self.watchers.len() == WATCHERS || stream.set_nonblocking(true).is_err() {
            tracing::warn!("a watcher of the console was turned away");
            return;
        }
        let id = self.next;
        let event = EpollEvent::new(EventSet::IN, self.base + 1 + id);
        if epoll.ctl(ControlOperation::Add, stream.as_raw_fd(), event).is_ok() {
            self.next += 1;
            let backlog = drawing.iter().copied().collect();
            self.watchers.insert(id, Watcher { stream, backlog, interest: EventSet::IN, lost: false });
            self.flush(id);
        }
    }

    /// Sends what the guest wrote to everybody. `drawing` is asked for when somebody lags too far behind.
    pub fn send(&mut self, bytes: &[u8], drawing: impl Fn() -> Vec<u8>) {
        let ids: Vec<u64> = self.watchers.keys().copied().collect();
        for id in ids {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            if watcher.backlog.len() + bytes.len() > BACKLOG {
                watcher.lost = true;
            }
            if watcher.lost {
                watcher.backlog.clear();
                watcher.backlog.extend(drawing());
                watcher.lost = false;
            } else {
                watcher.backlog.extend(bytes);
            }
            self.flush(id);
        }
    }

    /// Handles an event of a watcher; `room` bytes may be typed.
    pub fn event(&mut self, token: u64, set: EventSet, room: usize) -> Option<Typed> {
        let id = token.checked_sub(self.base + 1)?;
        self.flush(id);
        let watcher = self.watchers.get_mut(&id)?;
        if room == 0 {
            return if set.contains(EventSet::HANG_UP) { self.gone(id) } else { None };
        }
        let mut bytes = vec![0; room.min(4096)];
        match watcher.stream.read(&mut bytes) {
            Ok(0) => self.gone(id),
            Ok(count) => {
                bytes.truncate(count);
                Some(Typed::Bytes(bytes))
            }
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => None,
            Err(_) => self.gone(id),
        }
    }

    /// Makes epoll wait for what each watcher can do now.
    pub fn update_interests(&mut self, epoll: &Epoll, room: bool) {
        for (id, watcher) in &mut self.watchers {
            let mut wanted = if room { EventSet::IN } else { EventSet::empty() };
            if !watcher.backlog.is_empty() {
                wanted |= EventSet::OUT;
            }
            let event = EpollEvent::new(wanted, self.base + 1 + id);
            if wanted != watcher.interest
                && epoll.ctl(ControlOperation::Modify, watcher.stream.as_raw_fd(), event).is_ok()
            {
                watcher.interest = wanted;
            }
        }
    }

    /// Lets the watcher of an event go, if it is one's: it may come again.
    pub fn drop_one(&mut self, token: u64) {
        if let Some(id) = token.checked_sub(self.base + 1) {
            self.watchers.remove(&id);
        }
    }

    fn gone(&mut self, id: u64) -> Option<Typed> {
        // Closing the last descriptor takes it out of epoll.
        self.watchers.remove(&id).map(|_| Typed::Gone)
    }

    fn flush(&mut self, id: u64) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        while !watcher.backlog.is_empty() {
            let (first, _) = watcher.backlog.as_slices();
            match watcher.stream.write(first) {
                Ok(0) => return,
                Ok(count) => drop(watcher.backlog.drain(..count)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.watchers.remove(&id);
                    return;
                }
            }
        }
    }
}
