//! `cached.sock`: `init` and `kiosk-ui` steer the client engine. One request line, one reply line, except
//! [`Request::Watch`], after which [`Reply::Status`] lines follow, one a change, at most ten a second.

use super::{
    Code, Progress, WireError,
    http::{LockReply, ParcelInfo},
    memory::Room,
};
use crate::{
    id::{BootId, ParcelId},
    secret::SecretText,
    tag::Inventory,
};
use serde::{Deserialize, Serialize};

/// What is asked of `cached`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Request {
    /// From `kiosk-ui` after log-in: the bearer token. Replaces any earlier one.
    Session {
        /// Bearer token of the parcel server.
        token: SecretText,
    },
    /// The user's parcels. Answer: [`Reply::Parcels`].
    Parcels,
    /// A parcel's key slots, from the server. Answer: [`Reply::Slots`].
    Slots {
        /// The id of the parcel.
        parcel: ParcelId,
    },
    /// Stores key slots.
    PutSlots {
        /// The id of the parcel.
        parcel: ParcelId,
        /// JSON of `slot::Slots`.
        slots: String,
    },
    /// From `kiosk-ui`: the parcel key, opened from a slot.
    Key {
        /// The id of the parcel.
        parcel: ParcelId,
        /// 64 hexadecimal digits.
        key: SecretText,
    },
    /// Takes the lock. Answer: [`Reply::Locked`].
    Lock {
        /// The id of the parcel.
        parcel: ParcelId,
        /// Name of this kiosk.
        kiosk: String,
        /// Which boot of it.
        boot: BootId,
        /// What this kiosk has.
        inventory: Inventory,
        /// Break the lock of another session of the same user.
        #[serde(default)]
        break_lock: bool,
        /// Boot from the disk: what only a resume needs is not asked of this kiosk.
        #[serde(default)]
        cold_boot: bool,
    },
    /// Opens the locked parcel's last version and serves `guest.sock` and the disk socket.
    Open {
        /// The id of the parcel.
        parcel: ParcelId,
        /// How pieces are fetched.
        policy: Policy,
        /// Boot from the disk even though memory was saved.
        #[serde(default)]
        cold_boot: bool,
        /// The largest memory that a guest could have had on this kiosk, in MiB: what this one leaves of it is for changes and
        /// cached pieces. `None`: a share of the machine's memory is.
        #[serde(default)]
        memory_mib: Option<u64>,
    },
    /// After the VMM was told to save: uploads what changed and commits it. Answer: [`Reply::Committed`].
    Commit,
    /// The VMM has gone, or its guest cannot be read: what is committed next has a disk but no memory, as after a power cut,
    /// and says so. No VMM gets at the machine any more.
    ///
    /// What the VMM handed over whole before, if it did, is kept instead. Answer then: [`Reply::Kept`].
    MemoryLost,
    /// A save failed, and the machine goes on from here: what the VMM handed over for it is not as the machine is any more.
    GoesOn,
    /// The last engine of this session was killed: find its changes in the cache folder. The parcel key must be here. Answer:
    /// [`Reply::Recovered`]; what is committed next has a disk but no memory.
    Recover {
        /// The parcel whose changes are looked for.
        parcel: ParcelId,
    },
    /// After a commit that failed with `stale-epoch`, since the owner broke the lock elsewhere: makes a parcel of its own of
    /// what changed, and commits it there. Answer: [`Reply::Rescued`].
    Rescue,
    /// What became of the lock and of a commit whose answer is missing? Answer: [`Reply::Learned`].
    Learn,
    /// Releases the lock, also one whose answer is missing.
    Unlock,
    /// How things are. Answer: [`Reply::Status`].
    Status,
    /// Answers [`Reply::Status`] now and at every change.
    Watch,
    /// Forget keys, token and dirty state, close the sockets, and exit.
    Quit,
}

/// How the pieces of a parcel are fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Everything before the start.
    Baseline,
    /// Pieces when they are needed.
    #[default]
    Demand,
}

/// What `cached` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Ok,
    /// The user's parcels.
    Parcels {
        /// As the server lists them.
        parcels: Vec<ParcelInfo>,
    },
    /// Key slots.
    Slots {
        /// JSON of `slot::Slots`.
        slots: String,
    },
    /// The lock is ours.
    Locked(LockReply),
    /// A new version stands.
    Committed {
        /// Its number.
        version: crate::id::Version,
        /// Bytes that were sent for it.
        bytes: u64,
        /// It has a disk as after a power cut, and no memory.
        memory_lost: bool,
    },
    /// The machine was handed over whole, with its memory or after it powered itself off, and is committed so.
    Kept,
    /// The changes are here again.
    Recovered {
        /// What they are based on.
        version: crate::id::Version,
        /// There is something to commit, or the last engine has committed it.
        changed: bool,
    },
    /// What changed is in a parcel of its own.
    Rescued {
        /// The id of the parcel.
        parcel: ParcelId,
        /// Its name.
        name: String,
        /// Bytes that were sent for it.
        bytes: u64,
        /// It has a disk as after a power cut, and no memory.
        memory_lost: bool,
    },
    /// What the server says of the last lock of this session.
    Learned {
        /// It is still held.
        held: bool,
        /// Whether what was sent has become the last version; `None`: it does not tell.
        committed: Option<bool>,
    },
    /// How things are.
    Status(Status),
    /// It did not work.
    Error(WireError),
}

/// How the engine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Bytes received from the server since start.
    pub bytes_in: u64,
    /// Bytes sent to the server since start.
    pub bytes_out: u64,
    /// The long step under way: restoring memory, saving, committing.
    pub progress: Option<Progress>,
    /// Pieces that the guest waits for and that cannot be had now.
    pub waiting: Option<Waiting>,
    /// Disk chunks changed since the last commit.
    pub dirty_chunks: u64,
    /// How much room there is for more of them.
    #[serde(default)]
    pub room: Room,
}

/// Why the guest waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// How many pieces.
    pub pieces: u64,
    /// Seconds since the first was asked for.
    pub seconds: u64,
    /// The cause, as a sentence for the traveller.
    pub reason: String,
    /// The code, for IT.
    pub code: Code,
}

impl Waiting {
    /// `true` when nothing but a new log-in of the same user ends it. What waits goes on by itself after [`Request::Session`].
    pub fn needs_login(&self) -> bool {
        self.code.needs_login()
    }
}
