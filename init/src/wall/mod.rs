//! The kiosk's wall clock. PCs come with an empty clock battery, and Kerberos and certificates need the time: so it is set
//! before anybody logs in, from the best that can be had, and never moved during a session.
//!
//! It is never before the time at which the image was built. Whoever tells the time is asked by the
//! [probe](crate::net::probe).

mod sources;

pub use sources::Sources;

use crate::{clock, log::Log, net::probe::Instant, net::view::Links};
use parcel::wire::{
    clock::{ClockState, Source},
    kiosk,
};
use std::{
    fs, io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Closer than this, a clock is right: HTTP tells whole seconds.
const CLOSE: u64 = 2_000;
/// No kiosk runs an image this much older than itself, in milliseconds: 20 years.
const OLDEST: i64 = 20 * 365 * 86_400 * 1_000;
/// How often the time is asked for.
const PACE: Pace = Pace { retry: Duration::from_secs(15), again: Duration::from_secs(3600) };

/// The [`rank`] of what the site's configuration names.
const OF_SITE: u8 = 2;

/// The last time that has words: the end of the year 9998.
const LAST: Duration = Duration::from_secs(253_370_764_799);

/// How soon the time is asked for again.
#[derive(Clone, Copy)]
struct Pace {
    /// While nobody tells it but perhaps a server that DHCP names.
    retry: Duration,
    /// Once a source of the site has told it.
    again: Duration,
}

/// What ends a pause between two questions.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Turn {
    /// Counts the sessions, so that the time is asked for anew after each.
    sessions: u64,
    /// Counts the calls of [`Keeper::wake`].
    wakes: u64,
}

/// A wall clock.
pub trait Clock: Send + 'static {
    /// Milliseconds since 1970.
    fn now(&self) -> i64;
    /// Sets it.
    ///
    /// # Errors
    /// The kernel refuses.
    fn set(&mut self, millis: i64) -> io::Result<()>;
}

/// The kernel's, and through it the machine's.
pub struct Kernel;

impl Clock for Kernel {
    fn now(&self) -> i64 {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME)
            .map_or(0, |now| now.tv_sec().saturating_mul(1000).saturating_add(now.tv_nsec() / 1_000_000))
    }

    fn set(&mut self, millis: i64) -> io::Result<()> {
        let nanos = millis.rem_euclid(1000) * 1_000_000;
        let time = nix::sys::time::TimeSpec::new(millis.div_euclid(1000), nanos);
        Ok(nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, time)?)
    }
}

/// When this image was built, in milliseconds since 1970; `None`: it does not say so.
pub fn built() -> Option<i64> {
    let text = fs::read_to_string(Path::new(kiosk::BUILT_PATH)).ok()?;
    text.trim().parse::<i64>().ok()?.checked_mul(1000).filter(|built| *built > 0)
}

/// Keeps the clock. Cheap to clone.
#[derive(Clone)]
pub struct Keeper(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    clock: Box<dyn Clock>,
    /// The time at which the image was built; 0: not known.
    floor: i64,
    /// A session goes on: the clock is not touched.
    held: bool,
    turn: Turn,
    state: ClockState,
    log: Log,
}

impl Keeper {
    /// Takes a clock over, which is then not before `floor`. It is held until [`Keeper::hold`] frees it.
    pub fn new(clock: impl Clock, floor: Option<i64>, log: Log) -> Self {
        let mut inner = Inner {
            clock: Box::new(clock),
            floor: floor.unwrap_or(0),
            held: true,
            turn: Turn { sessions: 0, wakes: 0 },
            state: ClockState::default(),
            log,
        };
        let now = inner.clock.now();
        if floor.is_none() {
            inner.log.line("clock", "the image does not say when it was built");
        }
        if now < inner.floor {
            let to = inner.floor;
            if inner.step(to, "the time at which this image was built: the machine's clock is before that") {
                inner.state.source = Source::Image;
            }
        }
        Self(Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() }))
    }

    /// While it is held, the clock is not moved. When this returns, no step is under way.
    pub fn hold(&self, held: bool) {
        let mut inner = self.lock();
        if inner.held && !held {
            inner.turn.sessions += 1;
        }
        inner.held = held;
        self.0.changed.notify_all();
    }

    /// Has the time asked for within a second, or as soon as the clock is free: something failed that a wrong clock explains.
    pub fn wake(&self) {
        self.lock().turn.wakes += 1;
    }

    /// How the clock is.
    pub fn state(&self) -> ClockState {
        self.lock().state.clone()
    }

    /// The time, in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.lock().clock.now()
    }

    /// Asks `sources` for the time and sets the clock, unless it is held by then; whether a source of the site told it.
    pub fn ask(&self, sources: &Sources) -> bool {
        let floor = self.lock().floor;
        let (told, problems) = sources.ask(|instant| judge(floor, instant).map(drop));
        let mut inner = self.lock();
        if inner.held {
            return false;
        }
        if inner.state.problems != problems {
            for problem in &problems {
                inner.log.line("clock", problem);
            }
        }
        inner.state.problems = problems;
        let Some((instant, source)) = told else { return false };
        let of_site = rank(&source) >= OF_SITE;
        inner.take(instant, source);
        of_site
    }

    /// Starts the thread that asks, whenever there is a network and no session.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn keep(
        &self,
        sources: Sources,
        links: Links,
        tell: impl Fn(ClockState) -> bool + Send + 'static,
    ) -> io::Result<()> {
        self.keep_at(PACE, sources, links, tell)
    }

    fn keep_at(
        &self,
        pace: Pace,
        sources: Sources,
        links: Links,
        tell: impl Fn(ClockState) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let keeper = self.clone();
        std::thread::Builder::new().name("clock".to_owned()).spawn(move || {
            let mut changes = 0;
            if !tell(keeper.state()) {
                return;
            }
            loop {
                let turn = keeper.until_free();
                // What changes while the sources are asked has them asked again.
                changes = links.wait(changes, Duration::ZERO);
                let mut next = pace.retry;
                if links.now().iter().any(|view| view.carrier && view.lease.is_some()) {
                    if keeper.ask(&sources) {
                        next = pace.again;
                    }
                    if !tell(keeper.state()) {
                        return;
                    }
                }
                keeper.pause(turn, &links, changes, next);
            }
        })?;
        Ok(())
    }

    /// Waits until the clock is free; answers whose turn it is.
    fn until_free(&self) -> Turn {
        let inner = self.0.changed.wait_while(self.lock(), |inner| inner.held);
        inner.unwrap_or_else(PoisonError::into_inner).turn
    }

    /// Waits until `time` is over, or a session, or until the network changes or somebody wakes it.
    fn pause(&self, turn: Turn, links: &Links, changes: u64, time: Duration) {
        let until = clock::since_boot() + time;
        loop {
            let left = until.saturating_sub(clock::since_boot());
            let now = links.wait(changes, left.min(Duration::from_secs(1)));
            if now != changes || left.is_zero() || self.lock().turn != turn {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time now, after what was told; refused where it cannot be.
///
/// # Errors
/// Why it is refused.
fn judge(floor: i64, told: Instant) -> Result<i64, String> {
    let since = clock::since_boot().saturating_sub(Duration::from_millis(told.at));
    let now = told.time.saturating_add(i64::try_from(since.as_millis()).unwrap_or(0));
    if now < floor {
        return Err(format!("its time, {}, is before this image was built", words(now)));
    }
    if floor > 0 && now > floor.saturating_add(OLDEST) {
        return Err(format!("its time, {}, is decades after this image was built", words(now)));
    }
    Ok(now)
}

/// How far a source is trusted; more is better.
fn rank(source: &Source) -> u8 {
    match source {
        Source::Machine | Source::Image => 0,
        Source::Dhcp { .. } => 1,
        Source::Ntp { .. } | Source::Server { .. } => OF_SITE,
    }
}

impl Inner {
    /// Takes a time that was told, unless a better source has told it since the kiosk was switched on: whoever only blocks the
    /// site's sources must not set its clock.
    fn take(&mut self, told: Instant, source: Source) {
        if rank(&source) < rank(&self.state.source) {
            return;
        }
        let Ok(now) = judge(self.floor, told) else { return };
        let whose = match &source {
            Source::Machine | Source::Image => String::new(),
            Source::Ntp { server } => format!("NTP server {server}"),
            Source::Server { server } => format!("the parcel server {server}, whose certificate holds then"),
            Source::Dhcp { server } => {
                format!("NTP server {server}, which DHCP names and nothing vouches for")
            }
        };
        if now.abs_diff(self.clock.now()) <= CLOSE {
            if self.state.source != source {
                self.log.line("clock", &format!("right, {whose}"));
            }
        } else if !self.step(now, &whose) {
            return;
        }
        self.state.source = source;
    }

    fn step(&mut self, to: i64, whose: &str) -> bool {
        let from = self.clock.now();
        match self.clock.set(to) {
            Ok(()) => {
                self.log.line("clock", &format!("set from {} to {}, {whose}", words(from), words(to)));
                self.state.moved = self.state.moved.saturating_add((to - from) / 1000);
                true
            }
            Err(error) => {
                self.log.line("clock", &format!("cannot be set to {}: {error}", words(to)));
                false
            }
        }
    }
}

/// A time for people, in UTC.
pub fn words(millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(LAST);
    let text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since);
    text.strip_suffix(" GMT").map_or(text.clone(), |plain| format!("{plain} UTC"))
}

#[cfg(test)]
mod tests;
