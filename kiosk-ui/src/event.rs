//! What happens to the screens, all through one channel.

use crate::trouble::Trouble;
use crossterm::event::KeyEvent;
use login::Trying;
use parcel::{
    id::ParcelId,
    slot::Proof,
    wire::{
        daemon::Status,
        http::ParcelInfo,
        session::{Login, State},
    },
};
use zeroize::Zeroizing;

/// A log-in that the realm and the parcel server both accepted.
pub struct Session {
    /// Bearer token of the parcel server.
    pub token: Zeroizing<String>,
    /// Who the server takes the user for, and for how long.
    pub login: Login,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.login.principal)
    }
}

/// Why a parcel's key was not had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// No slot opens with what was typed.
    Wrong,
    /// What was typed is a recovery key with a mistake in it.
    Slip,
    /// What was typed opens a key that is not the one in use.
    OtherKey,
    /// Something else.
    Trouble(Trouble),
}

/// Something that happened. Answers carry the number of the attempt they belong to, so that one that comes after the
/// user gave up is known as late.
#[derive(Debug)]
pub enum Event {
    /// A key.
    Key(KeyEvent),
    /// The terminal has this size now, columns and rows.
    Resize(u16, u16),
    /// A second passed; now, in seconds since 1970.
    Tick(u64),
    /// `init` says where the session stands.
    State(Box<State>),
    /// `init.sock` broke.
    InitLost,
    /// Answer to [`crate::effects::Effects::login`].
    LoggedIn {
        /// Which attempt.
        attempt: u64,
        /// How it went.
        result: Result<Session, Trouble>,
    },
    /// How far a log-in's search for a KDC is; `None`: it found one, or gave up.
    Trying {
        /// Which attempt.
        attempt: u64,
        /// The KDC that is tried.
        kdc: Option<Trying>,
    },
    /// Answer to [`crate::effects::Effects::adopt`].
    Adopted {
        /// Which attempt.
        attempt: u64,
        /// How it went.
        result: Result<(), Trouble>,
    },
    /// Answer to [`crate::effects::Effects::parcels`].
    Parcels {
        /// Which attempt.
        attempt: u64,
        /// How it went.
        result: Result<Vec<ParcelInfo>, Trouble>,
    },
    /// Answer to [`crate::effects::Effects::open`].
    Opened {
        /// Which attempt.
        attempt: u64,
        /// Which parcel.
        parcel: ParcelId,
        /// What proves the password from now on, or how it failed.
        result: Result<Proof, OpenError>,
    },
    /// Answer to [`crate::effects::Effects::prove`].
    Proved {
        /// Which attempt.
        attempt: u64,
        /// How it went.
        result: Result<(), OpenError>,
    },
    /// The guest wrote this.
    Console(Vec<u8>),
    /// `console.sock` broke or ended; it is connected again while it is wanted.
    ConsoleLost,
    /// Answer to [`crate::effects::Effects::status`].
    Status(Status),
    /// The terminal is gone, or the process was told to end.
    Quit,
}
