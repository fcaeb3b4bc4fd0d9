//! A machine that is a script: it answers by plan, its user acts by plan, and its clock jumps.

use parcel::{
    id::{Epoch, Generation, ParcelId, StoreId, Version},
    secret::ParcelKey,
    slot::{Proof, Slots},
    tag::Inventory,
    wire::{
        Code, Progress, WireError, daemon,
        diagnosis::Diagnosis,
        hold::StoreIdentity,
        http::LockReply,
        session::{Command, Keyboard, Login, Phase, State, WipeCheck},
        vmm::{self, GuestState},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use waystation_init::system::{Event, Live, Role, System, Ticket};

/// How something asked goes.
#[derive(Debug, Clone)]
pub enum Go {
    /// As it should.
    Well,
    /// With this error.
    Wrong(WireError),
    /// No answer ever comes.
    Silent,
    /// The program asked dies instead.
    Dies,
    /// The connection breaks before anything else is known.
    HangsUp,
}

/// An error with a code only.
pub fn wrong(code: Code) -> Go {
    Go::Wrong(WireError::new(code, format!("It went wrong ({code}).")))
}

/// What the server says of the session's lock and of a commit whose answer is missing.
#[derive(Debug, Clone, Copy)]
pub struct Learned {
    pub held: bool,
    pub committed: Option<bool>,
}

/// What `cached` tells while it waits for that.
pub fn waiting(code: Code) -> daemon::Status {
    let waiting = daemon::Waiting { pieces: 1, seconds: 3, reason: "it waits".into(), code };
    daemon::Status { waiting: Some(waiting), ..daemon::Status::default() }
}

#[derive(Default)]
pub struct Fake {
    pub clock: Duration,
    pub queue: VecDeque<Event>,
    pub next: Ticket,
    /// What goes how, in the order of asking; what is not listed goes well.
    pub plan: BTreeMap<&'static str, VecDeque<Go>>,
    /// Whether the VMM hands the machine over in the saves that come, also in one that then fails.
    pub hands_over: VecDeque<bool>,
    /// The machine is with `cached` as it is.
    pub handed_over: bool,
    /// The server heard the commit of the engine that died, which had the machine's memory.
    pub heard: bool,
    /// What is committed has no memory.
    pub memory_lost: bool,
    /// What follows the next answer of `cached` to something asked.
    pub follows: BTreeMap<&'static str, Event>,
    /// What happens when a phase begins, once each.
    pub script: BTreeMap<Phase, VecDeque<Vec<Event>>>,
    /// What is done when nothing happens any more; when it is used up, the kiosk is wedged.
    pub patience: VecDeque<Event>,
    pub alive: BTreeSet<Role>,
    pub guest: Option<GuestState>,
    /// Everything that was asked or done, in order.
    pub calls: Vec<String>,
    pub log: Vec<String>,
    pub states: Vec<State>,
    pub live: Option<Live>,
    /// Every change of it, and the phase in which it was made.
    pub kept: Vec<(Phase, Option<Live>)>,
    /// What the verification finds after the nth wipe.
    pub findings: VecDeque<Vec<WipeCheck>>,
    /// Version of the parcel before the session.
    pub version: u64,
    /// What the server says when it is asked, if not that the lock is free and nothing was committed.
    pub learned: Option<Learned>,
    /// Every keyboard layout that was set; `None`: the site's.
    pub layouts: Vec<Option<String>>,
    /// The memory that the engine was told with the last opening.
    pub opened: Option<u64>,
    /// Every piece of a commit has been sent.
    pub all_sent: bool,
    /// Chunks of the disk that the guest has changed.
    pub dirty_chunks: u64,
    /// The clock may be moved.
    pub clock_free: bool,
}

impl Fake {
    /// A user who logs in, resumes and suspends.
    pub fn with_user() -> Self {
        let mut fake = Self { version: 2, dirty_chunks: 3, ..Self::default() };
        fake.on(Phase::Login, vec![Event::Command(log_in(1))]);
        fake.on(Phase::Choose, chosen());
        fake.on(Phase::Run, vec![Event::Command(Command::Suspend)]);
        fake
    }

    pub fn on(&mut self, phase: Phase, events: Vec<Event>) {
        self.script.entry(phase).or_default().push_back(events);
    }

    /// Like [`Fake::on`], and nothing else the first time.
    pub fn only(&mut self, phase: Phase, events: Vec<Event>) {
        self.script.remove(&phase);
        self.on(phase, events);
    }

    pub fn goes(&mut self, what: &'static str, how: Go) {
        self.plan.entry(what).or_default().push_back(how);
    }

    pub fn last(&self) -> &State {
        self.states.last().expect("something was published")
    }

    pub fn undos(&self) -> Vec<&str> {
        self.log
            .iter()
            .filter_map(|line| line.strip_prefix("undo ")?.split(':').next())
            .filter(|w| !w.contains(' '))
            .collect()
    }

    pub fn asked(&self, what: &str) -> usize {
        self.calls.iter().filter(|call| *call == what).count()
    }

    fn how(&mut self, what: &'static str) -> Go {
        self.calls.push(what.to_owned());
        self.plan.get_mut(what).and_then(VecDeque::pop_front).unwrap_or(Go::Well)
    }

    fn dies(&mut self, role: Role) {
        if self.alive.remove(&role) {
            self.queue.push_back(Event::Exited { role, how: "signal 9".into() });
        }
    }

    fn event(&mut self, event: Event) -> Event {
        match &event {
            Event::Exited { role, .. } => {
                self.alive.remove(role);
                self.calls.push(format!("lost {}", role.name()));
            }
            Event::Guest(state) => self.guest = Some(*state),
            _ => {}
        }
        event
    }
}

/// The user logged in, until then.
pub fn log_in(ends: u64) -> Command {
    Command::LoggedIn(Login { principal: "shanta@R".into(), ends, began: 0 })
}

/// What shows that a password opens the parcel.
pub fn proof() -> Proof {
    Proof::new(Slots::default(), &ParcelKey::from_bytes([9; 32]))
}

/// A parcel is opened and resumed.
pub fn chosen() -> Vec<Event> {
    [Command::Opened(proof()), resume()].map(Event::Command).into()
}

/// The command to resume a parcel.
pub fn resume() -> Command {
    Command::Resume { parcel: ParcelId([7; 16]), name: "work".into(), cold_boot: false, break_lock: false }
}

fn inventory() -> Inventory {
    Inventory {
        vendor: "AuthenticAMD".into(),
        cpu_model: "test".into(),
        features: BTreeSet::new(),
        cpus: 2,
        memory_mib: 1024,
        device_models: BTreeSet::from([1]),
        kvm: true,
        screen: None,
        sound: false,
        kbit_per_s: None,
    }
}

impl System for Fake {
    fn now(&mut self) -> Duration {
        self.clock
    }

    fn log(&mut self, line: &str) {
        self.log.push(line.to_owned());
    }

    fn publish(&mut self, state: &State) {
        assert!(
            !self.clock_free || state.phase <= Phase::Login,
            "the clock may jump in the phase {:?}",
            state.phase
        );
        let began = self.states.last().is_none_or(|last| last.phase != state.phase);
        self.states.push(state.clone());
        if began && let Some(events) = self.script.get_mut(&state.phase).and_then(VecDeque::pop_front) {
            self.queue.extend(events);
        }
    }

    fn next_event(&mut self, until: Option<Duration>) -> Option<Event> {
        // A kiosk that waits without a clock and without anyone to act would wait for ever.
        loop {
            if let Some(event) = self.queue.pop_front() {
                self.clock += Duration::from_millis(1);
                return Some(self.event(event));
            }
            if let Some(until) = until {
                self.clock = self.clock.max(until);
                return None;
            }
            match self.patience.pop_front() {
                Some(event) => self.queue.push_back(event),
                None => panic!("wedged in {:?}; log: {:#?}", self.states.last().map(|s| s.phase), self.log),
            }
        }
    }

    fn prepare(&mut self) -> Result<(), WireError> {
        match self.how("prepare") {
            Go::Wrong(error) => Err(error),
            _ => Ok(()),
        }
    }

    fn start(&mut self, role: Role) -> Result<(), WireError> {
        let what = match role {
            Role::Cached => "start cached",
            Role::KioskUi => "start kiosk-ui",
            Role::Vmm => "start vmm",
        };
        match self.how(what) {
            Go::Wrong(error) => return Err(error),
            go => {
                self.alive.insert(role);
                match (role, &go) {
                    (Role::Vmm, Go::Well) => self.queue.push_back(Event::Guest(GuestState::Running)),
                    (Role::Cached, Go::Well) => {
                        self.queue.push_back(Event::Status(daemon::Status::default()))
                    }
                    _ => {}
                }
                if matches!(go, Go::Dies) {
                    self.dies(role);
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, role: Role) {
        self.calls.push(format!("stop {}", role.name()));
        self.alive.remove(&role);
        self.queue.retain(|event| !matches!(event, Event::Exited { role: of, .. } if *of == role));
    }

    fn inventory(&mut self) -> Ticket {
        self.next += 1;
        let reply = match self.how("inventory") {
            Go::Well => Ok(inventory()),
            Go::Wrong(error) => Err(error),
            Go::Silent | Go::Dies | Go::HangsUp => return self.next,
        };
        self.queue.push_back(Event::Inventory(self.next, reply));
        self.next
    }

    fn ask_cached(&mut self, request: daemon::Request) -> Ticket {
        use daemon::{Reply, Request};
        self.next += 1;
        let (what, well) = match request {
            Request::Lock { cold_boot, .. } => {
                (self.memory_lost, self.handed_over) = (false, false);
                let reply = LockReply {
                    store: StoreIdentity { id: StoreId([1; 16]), generation: Generation([1; 8]) },
                    name: "work".into(),
                    owner: "shanta@R".into(),
                    epoch: Epoch(5),
                    version: Version(self.version),
                    misses: Vec::new(),
                };
                (if cold_boot { "lock to boot" } else { "lock" }, Reply::Locked(reply))
            }
            Request::Open { memory_mib, .. } => {
                self.opened = memory_mib;
                ("open", Reply::Ok)
            }
            Request::Commit => {
                let memory_lost = self.memory_lost;
                ("commit", Reply::Committed { version: Version(self.version + 1), bytes: 9, memory_lost })
            }
            Request::MemoryLost => {
                self.memory_lost = !self.handed_over;
                ("memory lost", if self.memory_lost { Reply::Ok } else { Reply::Kept })
            }
            Request::GoesOn => {
                self.handed_over = false;
                ("go on", Reply::Ok)
            }
            Request::Recover { .. } => {
                self.memory_lost = !self.heard;
                let changed = self.dirty_chunks > 0;
                ("recover", Reply::Recovered { version: Version(self.version), changed })
            }
            Request::Unlock => ("unlock", Reply::Ok),
            Request::Status => {
                let bytes = self.calls.len() as u64;
                let progress = Progress { done: if self.all_sent { 9 } else { 8 }, total: 9, rate: 0 };
                let status = daemon::Status {
                    bytes_in: bytes,
                    bytes_out: bytes,
                    progress: Some(progress),
                    dirty_chunks: self.dirty_chunks,
                    ..Default::default()
                };
                ("status", Reply::Status(status))
            }
            Request::Quit => ("quit", Reply::Ok),
            Request::Learn => {
                let nothing = Learned { held: false, committed: Some(false) };
                let Learned { held, committed } = self.learned.unwrap_or(nothing);
                ("learn", Reply::Learned { held, committed })
            }
            Request::Rescue => {
                let name = "work, rescued from A".into();
                let memory_lost = self.memory_lost;
                ("rescue", Reply::Rescued { parcel: ParcelId([8; 16]), name, bytes: 9, memory_lost })
            }
            _ => ("other", Reply::Ok),
        };
        let go = if self.alive.contains(&Role::Cached) {
            self.how(what)
        } else {
            Go::Wrong(WireError::new(Code::CachedDied, "nobody there"))
        };
        match go {
            Go::Well => self.queue.push_back(Event::Cached(self.next, Ok(well))),
            Go::Wrong(error) => self.queue.push_back(Event::Cached(self.next, Ok(Reply::Error(error)))),
            Go::Silent => {}
            Go::Dies => self.dies(Role::Cached),
            Go::HangsUp => {
                let error = WireError::new(Code::CachedDied, "it hung up");
                self.queue.push_back(Event::Cached(self.next, Err(error)));
            }
        }
        self.queue.extend(self.follows.remove(what));
        self.next
    }

    fn ask_vmm(&mut self, request: vmm::Request) -> Ticket {
        use vmm::{Reply, Request};
        self.next += 1;
        let what = match request {
            Request::Save => {
                self.handed_over = self.hands_over.pop_front().unwrap_or(false);
                "save"
            }
            Request::Resume => "resume",
            Request::Quit => "end vmm",
            Request::ConsoleSize { .. } => "console size",
            _ => "other",
        };
        let go = self.how(what);
        match go {
            Go::Well => {
                self.queue.push_back(Event::Vmm(self.next, Ok(Reply::Ok)));
                if what == "end vmm" {
                    self.dies(Role::Vmm);
                }
            }
            Go::Wrong(error) => self.queue.push_back(Event::Vmm(self.next, Ok(Reply::Error(error)))),
            Go::Silent | Go::HangsUp => {}
            Go::Dies => self.dies(Role::Vmm),
        }
        self.next
    }

    fn cancel(&mut self) {
        self.calls.push("cancel".into());
        self.queue
            .retain(|event| !matches!(event, Event::Cached(..) | Event::Vmm(..) | Event::Inventory(..)));
    }

    fn remember(&mut self, live: Option<&Live>) {
        self.live = live.cloned();
        let phase = self.states.last().map_or(Phase::Boot, |state| state.phase);
        self.kept.push((phase, live.cloned()));
    }

    fn recall(&mut self) -> Option<Live> {
        self.live.clone()
    }

    fn hold_clock(&mut self, held: bool) {
        self.clock_free = !held;
    }

    fn diagnose(&mut self) {
        self.calls.push("diagnose".to_owned());
        let found = Diagnosis { log: vec!["what was found".to_owned()], ..Diagnosis::default() };
        self.queue.push_back(Event::Diagnosis(Box::new(found)));
    }

    fn set_keyboard(&mut self, layout: Option<&str>) -> Option<Keyboard> {
        self.layouts.push(layout.map(str::to_owned));
        Some(Keyboard { layout: layout.unwrap_or("us").to_owned(), layouts: Vec::new() })
    }

    fn wipe(&mut self) {
        self.calls.push("wipe".into());
        self.alive.clear();
        self.queue.clear();
    }

    fn verify(&mut self) -> Vec<WipeCheck> {
        self.calls.push("verify".into());
        let well = || {
            vec![WipeCheck {
                what: "nothing is left".into(),
                ok: self.alive.is_empty(),
                found: String::new(),
            }]
        };
        self.findings.pop_front().unwrap_or_else(well)
    }
}
