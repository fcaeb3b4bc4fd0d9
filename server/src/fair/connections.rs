//! The open connections, and which one gives way when there are too many.

use futures::task::AtomicWaker;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Times `idle`: how long a connection on which nobody has logged in may ask for nothing.
const STRANGERS_IDLE: u32 = 2;
/// Times `idle`: how long a connection of somebody who has logged in may ask for nothing.
const IDLE: u32 = 20;

/// How many connections there may be, and how long one may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// All together. A quarter of it is for those on which nobody has logged in yet.
    pub all: usize,
    /// Of one principal.
    pub own: usize,
    /// How long nothing of an answer may be taken.
    pub idle: Duration,
}

impl Bounds {
    fn strangers(&self) -> usize {
        self.all.div_ceil(4)
    }

    fn known(&self) -> usize {
        self.all - self.strangers()
    }
}

/// The open connections.
#[derive(Debug)]
pub struct Connections {
    bounds: Bounds,
    by_peer: Mutex<HashMap<SocketAddr, Arc<Connection>>>,
    /// Sockets that are not closed yet, those that were told to end among them.
    open: Arc<AtomicUsize>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    opened: Instant,
    state: Mutex<State>,
    pub(super) ended: AtomicBool,
    pub(super) waker: AtomicWaker,
}

#[derive(Debug)]
struct State {
    principal: Option<Arc<str>>,
    /// Requests that were begun, up to the last byte of their answers.
    requests: usize,
    /// Answers that are not taken yet.
    answers: usize,
    /// Bytes of [`super::shares`] that are held for it.
    bytes: usize,
    logging_in: bool,
    /// When a request began, or a piece of an answer was taken.
    moved: Instant,
}

/// The principal has as many connections as one may have, and each is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany(pub usize);

impl Connections {
    /// None yet.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, by_peer: Mutex::default(), open: Arc::default() })
    }

    /// Watches over the connections as long as somebody holds on to them.
    pub async fn watch(watched: Weak<Self>) {
        loop {
            let Some(all) = watched.upgrade() else { return };
            all.end_idle(Instant::now());
            let pause = (all.bounds.idle / 8).clamp(Duration::from_millis(50), Duration::from_secs(1));
            drop(all);
            tokio::time::sleep(pause).await;
        }
    }

    /// A new connection. Where there are too many on which nobody has logged in, one of them ends: the oldest of the
    /// network that has most of them, so that a flood from one place ends only its own. `None`: no socket is left.
    pub fn admit(&self, peer: SocketAddr) -> Option<Arc<Connection>> {
        let mut by_peer = self.lock();
        let strangers = by_peer.values().filter(|one| one.principal().is_none());
        let mut networks: HashMap<IpAddr, (usize, &Arc<Connection>)> = HashMap::new();
        let mut count = 0;
        for one in strangers {
            count += 1;
            let (many, oldest) = networks.entry(network(one.peer.ip())).or_insert((0, one));
            *many += 1;
            if one.opened < oldest.opened {
                *oldest = one;
            }
        }
        if count >= self.bounds.strangers() {
            let most = networks.into_values().max_by_key(|(many, _)| *many);
            if let Some(victim) = most.map(|(_, oldest)| Arc::clone(oldest)) {
                end(&mut by_peer, &victim, "many wait for a log-in");
            }
        }
        // Those that were told to end need a moment for it.
        if self.open.load(Ordering::SeqCst) >= self.bounds.all + self.bounds.strangers() {
            return None;
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        let now = Instant::now();
        let new = Arc::new(Connection {
            peer,
            opened: now,
            state: Mutex::new(State {
                principal: None,
                requests: 0,
                answers: 0,
                bytes: 0,
                logging_in: false,
                moved: now,
            }),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        by_peer.insert(peer, Arc::clone(&new));
        Some(new)
    }

    /// The connection from this address and port.
    pub fn of(&self, peer: &SocketAddr) -> Option<Arc<Connection>> {
        self.lock().get(peer).cloned()
    }

    /// Somebody has shown a good token on this connection. Where he has too many, his oldest that rests ends; where all
    /// together are too many, one of whoever has most.
    ///
    /// # Errors
    /// None of his rests.
    pub fn known(&self, connection: &Arc<Connection>, principal: &str) -> Result<(), TooMany> {
        if connection.principal().as_deref() == Some(principal) {
            return Ok(());
        }
        let mut by_peer = self.lock();
        let mut owners: HashMap<Arc<str>, Vec<&Arc<Connection>>> = HashMap::new();
        for one in by_peer.values().filter(|one| !Arc::ptr_eq(one, connection)) {
            if let Some(owner) = one.principal() {
                owners.entry(owner).or_default().push(one);
            }
        }
        let known: usize = owners.values().map(Vec::len).sum();
        let own = owners.get(principal).map_or(0, Vec::len);
        let victim = if own >= self.bounds.own {
            let resting = owners[principal].iter().filter(|one| !one.rest().0);
            let oldest = resting.min_by_key(|one| one.rest());
            Some(oldest.copied().cloned().ok_or(TooMany(self.bounds.own))?)
        } else if known >= self.bounds.known() {
            let most = owners.values().max_by_key(|of| of.len());
            most.and_then(|of| of.iter().min_by_key(|one| one.rest())).copied().cloned()
        } else {
            None
        };
        if let Some(victim) = victim {
            end(&mut by_peer, &victim, "its owner has most connections");
        }
        let name = owners_name(&by_peer, principal);
        connection.state().principal = Some(name);
        Ok(())
    }

    /// Ends the connection that stands still longest among those of whoever holds most bytes, when that is more than
    /// `principal` holds.
    pub fn free_bytes(&self, principal: &str) {
        let mut by_peer = self.lock();
        let mut held: HashMap<Arc<str>, usize> = HashMap::new();
        for one in by_peer.values() {
            if let Some(owner) = one.principal() {
                *held.entry(owner).or_default() += one.state().bytes;
            }
        }
        let own = held.get(principal).copied().unwrap_or(0);
        let Some((most, bytes)) = held.into_iter().max_by_key(|(_, bytes)| *bytes) else { return };
        if bytes <= own {
            return;
        }
        let victim = by_peer
            .values()
            .filter(|one| one.principal().as_deref() == Some(&*most) && one.state().bytes > 0)
            .min_by_key(|one| one.state().moved)
            .cloned();
        if let Some(victim) = victim {
            end(&mut by_peer, &victim, "its owner holds most memory");
        }
    }

    fn end_idle(&self, now: Instant) {
        let mut by_peer = self.lock();
        let all: Vec<_> = by_peer.values().cloned().collect();
        for one in all {
            let (still, answers, requests, known) = {
                let state = one.state();
                let still = now.saturating_duration_since(state.moved);
                (still, state.answers, state.requests, state.principal.is_some())
            };
            let patience = self.bounds.idle * if known { IDLE } else { STRANGERS_IDLE };
            if answers > 0 && still > self.bounds.idle {
                end(&mut by_peer, &one, "nothing of an answer is taken");
            } else if requests == 0 && still > patience {
                end(&mut by_peer, &one, "nothing is asked for");
            }
        }
    }

    pub(super) fn closed(&self, connection: &Arc<Connection>) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        let mut by_peer = self.lock();
        // The peer may have come back with the same port meanwhile.
        if by_peer.get(&connection.peer).is_some_and(|one| Arc::ptr_eq(one, connection)) {
            by_peer.remove(&connection.peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Connection>>> {
        // Only whole entries are put in and taken out, so a panic elsewhere leaves the map good.
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name as another connection of the same principal has it, so that it is in memory once.
fn owners_name(by_peer: &HashMap<SocketAddr, Arc<Connection>>, principal: &str) -> Arc<str> {
    let same = by_peer.values().find_map(|one| one.principal().filter(|name| **name == *principal));
    same.unwrap_or_else(|| principal.into())
}

fn end(by_peer: &mut HashMap<SocketAddr, Arc<Connection>>, victim: &Arc<Connection>, why: &'static str) {
    tracing::debug!(peer = %victim.peer, why, "a connection is ended");
    by_peer.remove(&victim.peer);
    victim.ended.store(true, Ordering::SeqCst);
    victim.waker.wake();
}

/// An address of IPv4, or the 64 bits of IPv6 that one customer has at least.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers and times: good whatever happened to the last holder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn principal(&self) -> Option<Arc<str>> {
        self.state().principal.clone()
    }

    /// Whether it works, and since when it stands as it does.
    fn rest(&self) -> (bool, Instant) {
        let state = self.state();
        (state.requests > 0, state.moved)
    }

    /// A request begins; it ends when what is returned is dropped.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = self.state();
        state.requests += 1;
        state.moved = Instant::now();
        drop(state);
        UnderWay { connection: Arc::clone(self), bytes: 0, answering: false }
    }

    /// `None`: a log-in is under way here.
    pub fn begin_log_in(self: &Arc<Self>) -> Option<LoggingIn> {
        let mut state = self.state();
        if state.logging_in {
            return None;
        }
        state.logging_in = true;
        drop(state);
        Some(LoggingIn(Arc::clone(self)))
    }

    /// A piece of an answer was taken.
    pub fn moved(&self) {
        self.state().moved = Instant::now();
    }
}

/// A log-in on this connection: one at a time, since a ticket is large.
#[derive(Debug)]
pub struct LoggingIn(Arc<Connection>);

impl Drop for LoggingIn {
    fn drop(&mut self) {
        self.0.state().logging_in = false;
    }
}

/// A request that is not done.
#[derive(Debug)]
pub struct UnderWay {
    connection: Arc<Connection>,
    bytes: usize,
    answering: bool,
}

impl UnderWay {
    /// Says how many bytes are held for it.
    pub fn hold(&mut self, bytes: usize) {
        let mut state = self.connection.state();
        state.bytes = state.bytes + bytes - self.bytes;
        self.bytes = bytes;
    }

    /// From now on it is for the client to take the answer.
    pub fn answer(&mut self) {
        if !self.answering {
            let mut state = self.connection.state();
            state.answers += 1;
            state.moved = Instant::now();
            self.answering = true;
        }
    }

    /// Its connection.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.requests -= 1;
        state.answers -= usize::from(self.answering);
        state.bytes -= self.bytes;
        state.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests;
