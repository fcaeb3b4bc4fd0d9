//! The session sequence: named phases, each with its undo, then wipe, verification and the next login.
//!
//! `steps` holds what each phase does, `wait` how it waits without ever wedging, and this file how phases follow
//! each other. Nothing here touches the machine but through [`System`].
//!
//! The login screen shows the log: of an error it has the code. The words are of a session, and for its user.

mod console;
mod end;
mod recover;
mod steps;
mod wait;
mod words;

pub use steps::{DISK_ONLY, RECOVER, RESCUE, SESSION, Step, Undo};
pub use words::{cached_died, vmm_died};

use console::ConsoleSize;

use crate::{
    backoff::Backoff,
    system::{Changes, Event, Live, Lock, Network, Power, Role, Sign, System, Ticket},
};
use parcel::{
    id::{BootId, Version},
    tag::Inventory,
    wire::{
        Code, WireError, daemon,
        health::Health,
        session::{Phase, PhaseRecord, State, WipeReport},
        vmm::GuestState,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Codes that are over when the kiosk is ready after all.
const NOT_READY: [Code; 2] = [Code::NoCache, Code::NoGuestNetwork];
/// How long a fresh `cached` may take before the login screen is shown without it.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Why a phase did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// It failed: walk back to login and say so.
    Failed(WireError),
    /// The user gave the step up: walk back to login.
    GaveUp,
    /// The user logged out before anything was resumed.
    LoggedOut,
    /// The user wants the kiosk off or restarted.
    Power(Power),
    /// The owner broke the lock elsewhere before the commit: [`RESCUE`] follows.
    Broken(WireError),
    /// The machine stands still for good and its memory cannot be saved: [`DISK_ONLY`] follows.
    MemoryLost(WireError),
    /// `cached` has gone, or does not answer, while the machine's changes are not home: [`RECOVER`] follows.
    EngineLost(WireError),
    /// The machine could not be saved but is whole: undo down to [`Phase::Run`] and let it go on.
    GoOn(WireError),
}

/// What follows a wipe whose verification failed, and who this kiosk is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the kiosk.
    pub name: String,
    /// Which boot of it.
    pub boot: BootId,
    /// The name holds until the kiosk is switched off; see [`crate::identity`].
    pub passing_name: bool,
    /// Version of its image.
    pub image: String,
    /// Power off rather than return to login.
    pub power_off_on_failure: bool,
    /// How the previous manager ended, when this one is its successor.
    pub crashed: Option<String>,
    /// How long the first login screen waits for somebody to tell the time.
    pub clock_wait: Duration,
}

/// The kiosk as the sequence knows it.
pub struct Kiosk<'a> {
    sys: &'a mut dyn System,
    settings: Settings,
    state: State,
    /// Programs that run.
    alive: BTreeSet<Role>,
    /// When programs that ended are started again.
    due: BTreeMap<Role, Duration>,
    backoff: BTreeMap<Role, Backoff>,
    /// When the cache and the guest's network are tried again, if they could not be made ready.
    prepare_due: Option<Duration>,
    prepare_backoff: Backoff,
    /// Events put aside while one particular answer was waited for.
    held: VecDeque<Event>,
    /// The last that `cached` told.
    status: daemon::Status,
    /// Why a step cannot go on until the user gives it up, shown as the reason for waiting.
    stuck: Option<daemon::Waiting>,
    parcel: Option<parcel::id::ParcelId>,
    inventory: Option<Inventory>,
    /// The largest memory that a guest could have here, as it was measured before the lock was taken.
    memory_mib: Option<u64>,
    cold_boot: bool,
    break_lock: bool,
    guest: Option<GuestState>,
    console: ConsoleSize,
    live: Live,
    committed: Option<Version>,
    /// What has begun the suspend, if it was not the user.
    sign: Option<Sign>,
    /// Why the version that is committed has no memory.
    memory_lost: Option<WireError>,
    /// An engine was killed in a commit, and the server may have heard it.
    perhaps_heard: bool,
    /// A commit has found the machine's memory of no use.
    without_memory: bool,
    /// `cached` was started again in this session, and does not know of the lock yet.
    forgotten: bool,
    /// Undos are being run on the way to login, not back to the running machine.
    walking: bool,
    /// The time was waited for, once.
    clock_awaited: bool,
}

impl<'a> Kiosk<'a> {
    /// A kiosk that has just booted, or whose manager was just restarted.
    pub fn new(sys: &'a mut dyn System, settings: Settings, network: Network) -> Self {
        let state = State {
            kiosk: settings.name.clone(),
            image: settings.image.clone(),
            phase: Phase::Boot,
            doing: "Starting".to_owned(),
            progress: None,
            network: network.up,
            network_detail: network.detail,
            login: None,
            parcel: None,
            parcel_id: None,
            proof: None,
            locked: false,
            failures: 0,
            presses: 0,
            notice: None,
            wishes_missed: Vec::new(),
            waiting: None,
            clock_behind: false,
            report: None,
            keyboard: None,
            health: Health { passing_name: settings.passing_name, ..Health::default() },
            console: false,
            timeline: Vec::new(),
        };
        Self {
            sys,
            settings,
            state,
            alive: BTreeSet::new(),
            due: BTreeMap::new(),
            backoff: BTreeMap::new(),
            prepare_due: None,
            prepare_backoff: Backoff::default(),
            held: VecDeque::new(),
            status: daemon::Status::default(),
            stuck: None,
            parcel: None,
            inventory: None,
            memory_mib: None,
            cold_boot: false,
            break_lock: false,
            guest: None,
            console: ConsoleSize::default(),
            live: Live::NOTHING,
            committed: None,
            sign: None,
            memory_lost: None,
            perhaps_heard: false,
            without_memory: false,
            forgotten: false,
            walking: false,
            clock_awaited: false,
        }
    }

    /// Sessions until the kiosk is powered off or restarted.
    pub fn run(&mut self) -> Power {
        if let Some(power) = self.boot() {
            return power;
        }
        loop {
            if let Some(power) = self.cycle() {
                return power;
            }
        }
    }

    /// The first wipe, before anyone can log in; a predecessor's crash is told to the user.
    pub fn boot(&mut self) -> Option<Power> {
        self.state.keyboard = self.sys.set_keyboard(None);
        self.sys.publish(&self.state);
        if let Some(how) = self.settings.crashed.clone() {
            let left = self.sys.recall();
            self.sys.log(&format!("the session manager ended ({how}); starting from a wipe"));
            if let Some(live) = left {
                let home = Some(live.version).filter(|version| *version > Version(0));
                let losses = words::losses(&live, home);
                let text = format!("This kiosk had to restart its software during your session.{losses}");
                self.state.notice = Some(WireError::new(Code::KioskRestarted, text));
            }
            return self.wipe_and_verify();
        }
        self.sys.wipe();
        let checks = self.sys.verify();
        if checks.iter().any(|check| !check.ok) {
            return self.judge(WipeReport { verified: false, committed: None, checks });
        }
        let seconds = self.sys.now().as_secs_f64();
        self.record(Phase::Boot, seconds, (0, 0), true);
        None
    }

    /// One session, from login to the end of the wipe's verification. `Some`: the kiosk ends.
    pub fn cycle(&mut self) -> Option<Power> {
        self.begin();
        let mut entered: Vec<usize> = Vec::new();
        let mut at = 0;
        let mut power = None;
        while let Some(step) = SESSION.get(at) {
            entered.push(at);
            let mut went = self.enter(step);
            if let Err(Stop::GoOn(error)) = went {
                match self.back_to(Phase::Run, &mut entered) {
                    Ok(run) => {
                        self.state.notice = Some(words::extend(error, words::SHUT_DOWN));
                        at = run;
                        continue;
                    }
                    Err(worse) => {
                        self.sys.log(&format!("going on failed [{}]", worse.code));
                        went = Err(Stop::MemoryLost(error));
                    }
                }
            }
            if let Err(Stop::Broken(_)) = went {
                went = self.enter(&RESCUE);
            }
            match went.or_else(|stop| self.keep_disk(stop).map(|()| at = place(Phase::Save))) {
                Ok(()) => at += 1,
                Err(Stop::Power(how)) => {
                    power = Some(how);
                    self.walk_back(&mut entered, Stop::Power(how));
                    break;
                }
                Err(stop) => {
                    self.walk_back(&mut entered, stop);
                    break;
                }
            }
        }
        self.wipe_and_verify().or(power)
    }

    /// Where the machine's memory is lost, sees to it that its disk can be committed; every other stop stays.
    fn keep_disk(&mut self, mut stop: Stop) -> Result<(), Stop> {
        loop {
            self.perhaps_heard |= self.state.phase == Phase::Commit && matches!(stop, Stop::EngineLost(_));
            let (why, step) = match stop {
                Stop::MemoryLost(why) => (why, &DISK_ONLY),
                Stop::EngineLost(why) => (why, &RECOVER),
                other => return Err(other),
            };
            // The first reason is the user's: what follows, follows from it.
            self.memory_lost.get_or_insert(why);
            match self.enter(step) {
                Ok(()) => return Ok(()),
                Err(next) => stop = next,
            }
        }
    }

    /// What is home tells whether memory is lost. An engine that died had perhaps sent all before.
    fn came_home(&mut self, memory_lost: bool) {
        self.memory_lost = match self.memory_lost.take() {
            why if memory_lost => why.or_else(|| Some(words::vmm_died("unknown"))),
            _ => None,
        };
    }

    /// Forgets the last session and brings the login screen up.
    fn begin(&mut self) {
        self.walking = false;
        self.alive.clear();
        self.due.clear();
        self.held.clear();
        self.prepare_due = None;
        self.status = daemon::Status::default();
        self.stuck = None;
        self.parcel = None;
        self.inventory = None;
        self.memory_mib = None;
        self.console = ConsoleSize::default();
        self.cold_boot = false;
        self.break_lock = false;
        self.guest = None;
        self.live = Live::NOTHING;
        self.committed = None;
        self.sign = None;
        self.memory_lost = None;
        self.perhaps_heard = false;
        self.without_memory = false;
        self.forgotten = false;
        self.state.phase = Phase::Boot;
        self.show_nobody();
        self.state.wishes_missed.clear();
        self.state.doing = "Getting ready".to_owned();
        // The fresh screens are to show this: neither the wipe, nor a login form that nobody answers yet.
        self.publish();
        self.start(Role::KioskUi);
        self.prepare();
        self.wait_until_ready();
        self.wait_for_the_time();
    }

    /// Kerberos needs the time: a log-in right after the start should not fail for want of it.
    fn wait_for_the_time(&mut self) {
        if std::mem::replace(&mut self.clock_awaited, true) || self.settings.clock_wait.is_zero() {
            return;
        }
        self.sys.hold_clock(false);
        let until = self.sys.now() + self.settings.clock_wait;
        while !self.state.health.clock.source.is_told() && self.state.health.clock.problems.is_empty() {
            match self.sys.next_event(Some(until)) {
                Some(event) => self.put_aside(event),
                None => return,
            }
        }
    }

    /// Runs one phase and records how it went.
    fn enter(&mut self, step: &Step) -> Result<(), Stop> {
        let began = self.sys.now();
        let before = (self.status.bytes_in, self.status.bytes_out);
        self.state.phase = step.phase;
        self.state.doing = step.doing.to_owned();
        self.state.progress = None;
        self.state.health.diagnosis = None;
        // A clock that jumps would end the log-in before its time, or after it.
        self.sys.hold_clock(step.phase != Phase::Login);
        self.sys.log(&format!("phase {}", name(step.phase)));
        self.publish();
        let went = (step.run)(self);
        self.stuck = None;
        if step.phase != Phase::Login {
            // So that each phase's bytes are its own.
            self.ask_status();
        }
        let seconds = self.sys.now().saturating_sub(began).as_secs_f64();
        let bytes =
            (self.status.bytes_in.saturating_sub(before.0), self.status.bytes_out.saturating_sub(before.1));
        if step.phase == Phase::Login {
            self.state.timeline.clear();
        }
        self.record(step.phase, seconds, bytes, went.is_ok());
        if let Err(
            Stop::Failed(error)
            | Stop::GoOn(error)
            | Stop::Broken(error)
            | Stop::MemoryLost(error)
            | Stop::EngineLost(error),
        ) = &went
        {
            self.sys.log(&format!("phase {} failed [{}]", name(step.phase), error.code));
        }
        went
    }

    /// Undoes everything entered, last first, and leaves the notice that explains it.
    fn walk_back(&mut self, entered: &mut Vec<usize>, stop: Stop) {
        self.walking = true;
        // What is still being asked would keep the undos from being heard.
        self.sys.cancel();
        while let Some(at) = entered.pop() {
            let _ = self.undo(at);
        }
        self.state.notice = match stop {
            Stop::Failed(error)
            | Stop::GoOn(error)
            | Stop::Broken(error)
            | Stop::MemoryLost(error)
            | Stop::EngineLost(error) => Some(self.with_losses(error)),
            Stop::GaveUp if self.live.changes != Changes::None || self.live.lock != Lock::None => {
                Some(self.with_losses(WireError::new(Code::GaveUp, "You gave the session up.")))
            }
            Stop::GaveUp | Stop::LoggedOut | Stop::Power(_) => None,
        };
    }

    /// Undoes what was entered after `phase`; answers that phase's place in [`SESSION`].
    fn back_to(&mut self, phase: Phase, entered: &mut Vec<usize>) -> Result<usize, WireError> {
        while let Some(at) = entered.pop() {
            match SESSION.get(at) {
                Some(step) if step.phase == phase => return Ok(at),
                _ => self.undo(at)?,
            }
        }
        Err(WireError::new(Code::NoWayBack, format!("The session has no phase {}.", name(phase))))
    }

    /// Everything up to `version` is on the server.
    fn home(&mut self, version: Version) {
        self.committed = Some(version);
        self.live.version = version;
        self.live.changes = Changes::None;
    }

    fn undo(&mut self, at: usize) -> Result<(), WireError> {
        let Some(step) = SESSION.get(at) else { return Ok(()) };
        self.sys.log(&format!("undo {}: {}", name(step.phase), step.undo.what));
        let undone = (step.undo.run)(self);
        if let Err(error) = &undone {
            self.sys.log(&format!("undo {} failed [{}]", name(step.phase), error.code));
        }
        undone
    }

    /// Adds to an error what it cost the user.
    fn with_losses(&self, error: WireError) -> WireError {
        let mut losses = words::losses(&self.live, self.committed);
        if self.memory_lost.is_some() && self.committed.is_some() {
            losses.push_str(words::MEMORY_LOST);
        }
        words::extend(error, &losses)
    }

    fn record(&mut self, phase: Phase, seconds: f64, (bytes_in, bytes_out): (u64, u64), ok: bool) {
        let kiosk = self.settings.name.clone();
        let record = PhaseRecord { kiosk, phase, seconds, bytes_in, bytes_out, ok };
        self.log_json("timeline", &record);
        self.state.timeline.push(record);
    }

    fn log_json<T: serde::Serialize>(&mut self, word: &str, value: &T) {
        match serde_json::to_string(value) {
            Ok(json) => self.sys.log(&format!("{word} {json}")),
            Err(error) => self.sys.log(&format!("{word} could not be written: {error}")),
        }
    }

    /// Makes cache and guest network ready and starts `cached` on them; on failure says so and tries again later.
    fn prepare(&mut self) {
        self.prepare_due = None;
        let now = self.sys.now();
        self.prepare_backoff.started(now);
        match self.sys.prepare() {
            Ok(()) => {
                if self.state.notice.as_ref().is_some_and(|notice| NOT_READY.contains(&notice.code)) {
                    self.state.notice = None;
                }
                self.start(Role::Cached);
            }
            Err(error) => {
                self.sys.log(&format!("this kiosk is not ready for a session: {error}"));
                self.prepare_due = Some(now + self.prepare_backoff.ended(now));
                self.not_ready(error);
            }
        }
        self.publish();
    }

    /// Says that nobody can log in, but not in the place of what the last user has not read yet.
    fn not_ready(&mut self, error: WireError) {
        self.state.notice.get_or_insert(error);
    }

    /// Waits for the first that `cached` tells of itself, but not for ever: a kiosk that is not ready says so at login.
    fn wait_until_ready(&mut self) {
        let until = self.sys.now() + READY_LIMIT;
        while self.alive.contains(&Role::Cached) {
            match self.sys.next_event(Some(until)) {
                Some(Event::Status(status)) => {
                    self.status = status;
                    return;
                }
                Some(gone @ Event::Exited { role: Role::Cached, .. }) => {
                    self.held.push_back(gone);
                    return;
                }
                Some(other) => self.put_aside(other),
                None => return,
            }
        }
    }

    fn start(&mut self, role: Role) {
        self.due.remove(&role);
        let now = self.sys.now();
        self.backoff.entry(role).or_default().started(now);
        match self.sys.start(role) {
            Ok(()) => {
                self.alive.insert(role);
            }
            Err(error) => {
                self.sys.log(&format!("{} cannot be started: {error}", role.name()));
                self.restart_later(role);
                self.not_ready(error);
            }
        }
    }

    fn restart_later(&mut self, role: Role) {
        self.alive.remove(&role);
        let now = self.sys.now();
        let delay = self.backoff.entry(role).or_default().ended(now);
        self.due.insert(role, now + delay);
    }

    fn publish(&mut self) {
        let waiting = self.stuck.as_ref().or(self.status.waiting.as_ref());
        self.state.waiting = waiting.cloned();
        self.sys.publish(&self.state);
    }

    /// Asks `cached` how it is now; `None` when it does not say so at once.
    fn ask_status(&mut self) -> Option<&daemon::Status> {
        if !self.alive.contains(&Role::Cached) {
            return None;
        }
        let ticket = self.sys.ask_cached(daemon::Request::Status);
        match self.answer_within(ticket, Duration::from_secs(1)) {
            Some(Ok(daemon::Reply::Status(status))) => {
                self.status = status;
                Some(&self.status)
            }
            _ => None,
        }
    }

    /// The answer of `cached` to `ticket`, with all other events put aside; `None` when it does not come in time.
    fn answer_within(&mut self, ticket: Ticket, limit: Duration) -> Option<Result<daemon::Reply, WireError>> {
        let until = self.sys.now() + limit;
        loop {
            match self.sys.next_event(Some(until))? {
                Event::Cached(got, reply) if got == ticket => return Some(reply),
                gone @ Event::Exited { role: Role::Cached, .. } => {
                    self.alive.remove(&Role::Cached);
                    self.held.push_back(gone);
                    return None;
                }
                other => self.put_aside(other),
            }
        }
    }
}

/// Where a phase is in [`SESSION`].
fn place(phase: Phase) -> usize {
    SESSION.iter().position(|step| step.phase == phase).unwrap_or(SESSION.len())
}

/// A phase's name as on the wire.
pub fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Boot => "boot",
        Phase::Login => "login",
        Phase::Choose => "choose",
        Phase::Check => "check",
        Phase::Lock => "lock",
        Phase::Open => "open",
        Phase::Restore => "restore",
        Phase::Run => "run",
        Phase::Save => "save",
        Phase::Commit => "commit",
        Phase::Rescue => "rescue",
        Phase::Unlock => "unlock",
        Phase::Wipe => "wipe",
        Phase::Verify => "verify",
    }
}
