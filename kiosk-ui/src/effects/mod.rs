//! What the screens cause. The screens know this trait only, so that tests stand where the sockets do.

mod links;
mod real;
mod unlock;

pub use real::{Real, now};

use crate::{event::Session, password::Password};
use parcel::{id::ParcelId, slot::Proof, wire::session::Command};
use zeroize::Zeroizing;

/// How a parcel's key is looked for.
pub struct Unlock {
    /// Number of the attempt.
    pub attempt: u64,
    /// Which parcel.
    pub parcel: ParcelId,
    /// The log-in password. Tried first; when only `typed` opens, the password slot is rewritten for it.
    pub login: Option<Password>,
    /// An older password or the recovery key.
    pub typed: Option<Password>,
    /// What the session under way has opened: its slots are tried first, and no key but its key is taken.
    pub proof: Option<Proof>,
}

/// Everything the screens do to the world. Nothing waits: answers are [`crate::event::Event`]s.
pub trait Effects {
    /// Tells `init` what the user wants.
    fn command(&mut self, command: Command);
    /// Asks the realm for a ticket and the parcel server for a session. `user` may name another realm after an `@`.
    fn login(&mut self, attempt: u64, user: Zeroizing<String>, password: Password);
    /// Gives the session to `cached`.
    fn adopt(&mut self, attempt: u64, session: Session);
    /// Asks `cached` for the user's parcels.
    fn parcels(&mut self, attempt: u64);
    /// Opens a parcel's key slot and gives the key to `cached`.
    fn open(&mut self, unlock: Unlock);
    /// Checks by this proof that what was typed, a password or the recovery key, opens the parcel that is in use.
    fn prove(&mut self, attempt: u64, parcel: ParcelId, proof: Proof, typed: Password);
    /// Keeps a connection to the guest's console, or ends it.
    fn console(&mut self, wanted: bool);
    /// Types into the guest.
    fn type_into_guest(&mut self, bytes: Vec<u8>);
    /// Asks `cached` how it is.
    fn status(&mut self);
}
