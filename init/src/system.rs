//! What the session sequence needs of the machine, as a trait, so that the sequence is tested without being root.

use parcel::{
    id::Version,
    tag::Inventory,
    wire::{
        WireError,
        clock::ClockState,
        daemon,
        diagnosis::Diagnosis,
        session::{Command, Keyboard, State, WipeCheck},
        vmm::{self, GuestState},
    },
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A supervised program of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The client engine.
    Cached,
    /// The screens.
    KioskUi,
    /// The virtual machine.
    Vmm,
}

impl Role {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::KioskUi => "kiosk-ui",
            Self::Vmm => "vmm",
        }
    }
}

/// Pairs a request with its answer.
pub type Ticket = u64;

/// Whether the kiosk has a network, and what the traveller should know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Address and link, such as `10.0.2.15 (eth0)`; `None` while there is none.
    pub up: Option<String>,
    /// One line: the state, or why there is none.
    pub detail: String,
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// The user wants something.
    Command(Command),
    /// A supervised program ended by itself.
    Exited {
        /// The program that ended.
        role: Role,
        /// How, for people: `exit status 1`, `signal 9`.
        how: String,
    },
    /// `cached` answered.
    Cached(Ticket, Result<daemon::Reply, WireError>),
    /// The VMM answered.
    Vmm(Ticket, Result<vmm::Reply, WireError>),
    /// `vmm inventory` ended.
    Inventory(Ticket, Result<Inventory, WireError>),
    /// `cached` tells how it is.
    Status(daemon::Status),
    /// The guest's state changed.
    Guest(GuestState),
    /// The guest cannot go on, for this reason; it can be suspended.
    GuestFailed(WireError),
    /// The guest's wall clock is wrong and nothing in it sets it, or that is over.
    ClockBehind(bool),
    /// The network came or went.
    Network(Network),
    /// What is plugged in and not used, one sentence each.
    Refused(Vec<String>),
    /// The kiosk's clock was set, or nobody told the time.
    Clock(ClockState),
    /// A diagnosis ended.
    Diagnosis(Box<Diagnosis>),
    /// The machine itself wants the session to end in good order.
    Sign(Sign),
}

/// What the machine tells of its own power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Its power button was pressed.
    Button,
    /// Its lid was closed.
    Lid,
    /// It lives on batteries with so many percent left, below the site's limit; told again as long as that is so.
    Battery(u8),
    /// That is over: it has power again.
    Powered,
}

/// What becomes of the session's changes if it ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changes {
    /// There are none, or they are committed.
    None,
    /// They are lost.
    Unsaved,
    /// The commit was sent, and the server's answer is missing.
    InDoubt,
}

/// What the server holds of the parcel if the session ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// No lock of this kiosk.
    None,
    /// The lock was asked for, and the server's answer is missing.
    Asked,
    /// This kiosk's lock.
    Held,
    /// It was given back, and the server's answer is missing.
    Returned,
}

/// What is at stake in a session. A crashed manager leaves it to the next one, so that the user learns what was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The version that can be resumed.
    pub version: Version,
    /// What changed since.
    pub changes: Changes,
    /// The server's lock.
    pub lock: Lock,
}

impl Live {
    /// Nothing is at stake.
    pub const NOTHING: Self = Self { version: Version(0), changes: Changes::None, lock: Lock::None };
}

/// How the kiosk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The power goes off.
    Off,
    /// The machine starts again.
    Reboot,
}

/// The machine, as the sequence sees it. Nothing here panics; failures are answers.
pub trait System {
    /// Time since the kernel started.
    fn now(&mut self) -> Duration;
    /// Adds a line to the kiosk's log.
    fn log(&mut self, line: &str);
    /// Sends the state to every `kiosk-ui` that listens.
    fn publish(&mut self, state: &State);
    /// The next event; `None` when the clock reaches `until` first.
    fn next_event(&mut self, until: Option<Duration>) -> Option<Event>;
    /// Makes the cache and the guest's network ready for a session. Idempotent.
    fn prepare(&mut self) -> Result<(), WireError>;
    /// Starts a program; a running one of the same role is ended first.
    fn start(&mut self, role: Role) -> Result<(), WireError>;
    /// Ends a program now; no [`Event::Exited`] follows.
    fn stop(&mut self, role: Role);
    /// Starts measuring the hardware; the answer is [`Event::Inventory`].
    fn inventory(&mut self) -> Ticket;
    /// Asks `cached`; the answer is [`Event::Cached`].
    fn ask_cached(&mut self, request: daemon::Request) -> Ticket;
    /// Asks the VMM; the answer is [`Event::Vmm`].
    fn ask_vmm(&mut self, request: vmm::Request) -> Ticket;
    /// Hangs up on every request under way: whoever was asked stops, and no answer follows.
    fn cancel(&mut self);
    /// Keeps `live` where a successor finds it; `None`: nothing to tell.
    fn remember(&mut self, live: Option<&Live>);
    /// What a crashed predecessor left.
    fn recall(&mut self) -> Option<Live>;
    /// Uses a keyboard layout, or the site's own, and tells which there are; `None`: this kiosk's terminal has no keyboard
    /// that could be told.
    fn set_keyboard(&mut self, layout: Option<&str>) -> Option<Keyboard>;
    /// While it is held, the kiosk's clock is not moved.
    fn hold_clock(&mut self, held: bool);
    /// Starts finding out what stands between this kiosk and a log-in, unless that is under way; the answer is
    /// [`Event::Diagnosis`].
    fn diagnose(&mut self);
    /// Destroys everything of a session. Idempotent; events of that session are dropped.
    fn wipe(&mut self);
    /// Looks for what the wipe should have destroyed.
    fn verify(&mut self) -> Vec<WipeCheck>;
}
