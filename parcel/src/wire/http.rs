//! Bodies of the parcel server's HTTPS interface. Routes are listed in `docs/formats.md`.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `POST /v1/session` with `Authorization: Negotiate …` | – | [`SessionReply`] |
//! | `GET /v1/health` | – | [`Health`], no authentication |
//! | `GET /v1/parcels` | – | list of [`ParcelInfo`] the caller owns or holds |
//! | `POST /v1/parcels` | [`CreateParcel`] | [`LockReply`]: the creator holds the lock |
//! | `GET /v1/parcels/{id}` | – | [`ParcelInfo`] |
//! | `DELETE /v1/parcels/{id}` H | – | 204: a parcel without a version is gone, and all that was sent for it |
//! | `GET /v1/parcels/{id}/versions` | – | list of [`VersionInfo`] |
//! | `GET /v1/parcels/{id}/versions/{n}` | – | the version record, octets |
//! | `PUT /v1/parcels/{id}/versions/{n}` H | the version record | [`ParcelInfo`]: head now at `n` |
//! | `POST /v1/parcels/{id}/lock` | [`LockRequest`] | [`LockReply`] |
//! | `DELETE /v1/parcels/{id}/lock` H | – | 204 |
//! | `POST /v1/parcels/{id}/lock/break` | [`LockRequest`] | [`LockReply`] |
//! | `GET /v1/parcels/{id}/slots` | – | the key slots, JSON of `slot::Slots` |
//! | `PUT /v1/parcels/{id}/slots` H | the key slots | 204; the owner may leave the hold out |
//! | `GET /v1/chunks/{name}` | – | a sealed object, octets |
//! | `PUT /v1/parcels/{id}/chunks/{name}` H | a sealed object | 204 |
//! | `POST /v1/parcels/{id}/chunks/have` | 20-byte names, one after the other | one byte 0 or 1 for each |
//!
//! H: the request carries a [`super::hold::Hold`] in the header [`super::hold::HEADER`]. Any other may; the server answers
//! `other-store` if the lock is from another store or generation than its own.
//!
//! Everything but the first two needs `Authorization: Bearer <token>`. An answer other than 2xx has a
//! [`super::WireError`] as its body.

use super::hold::{Claim, ClaimTag, StoreIdentity};
use crate::{
    id::{BootId, Epoch, ParcelId, RecordHash, StoreId, Version},
    secret::SecretText,
    tag::{Inventory, Miss, Tag},
};
use serde::{Deserialize, Serialize};

/// Answer to a SPNEGO log-in.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionReply {
    /// Bearer token for what follows.
    pub token: SecretText,
    /// Who the server takes the caller for.
    pub principal: String,
    /// Seconds until the token ends; never longer than the ticket.
    pub expires_in: u64,
}

/// The server is up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Always `true`.
    pub ok: bool,
    /// Name and version of the program.
    pub server: String,
    /// Seconds since 1970, so that a client can name a wrong clock.
    pub time: u64,
    /// What it serves.
    pub store: StoreIdentity,
}

/// Who holds a parcel's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// Kerberos principal.
    pub principal: String,
    /// Name of the kiosk, or of the command that took it.
    pub kiosk: String,
    /// Which boot of the kiosk, or run of the command.
    pub boot: BootId,
    /// Which acquisition.
    pub claim: ClaimTag,
    /// Epoch under which the holder writes.
    pub epoch: Epoch,
    /// Seconds since 1970 at which it was taken.
    pub since: u64,
}

/// A parcel as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParcelInfo {
    /// Its id.
    pub id: ParcelId,
    /// Its name for people.
    pub name: String,
    /// Kerberos principal that owns it.
    pub owner: String,
    /// The store that it is in.
    pub store: StoreIdentity,
    /// Last committed version; 0 before the first.
    pub version: Version,
    /// Its record.
    pub record: Option<RecordHash>,
    /// Current epoch.
    pub epoch: Epoch,
    /// Who holds it, if anyone.
    pub lock: Option<LockInfo>,
    /// Tag of the last version.
    pub tag: Option<Tag>,
    /// Seconds since 1970 of the last commit.
    pub suspended_at: Option<u64>,
    /// Kiosk of the last commit.
    pub suspended_on: Option<String>,
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// `true` when the last version holds a running machine, `false` when it would boot from its disk.
    pub suspended: bool,
    /// It boots because its memory could not be saved: its disk is as after a power cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_lost: bool,
}

/// Makes an empty parcel, locked by its creator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateParcel {
    /// Chosen by the client at random.
    pub id: ParcelId,
    /// 1 to 64 characters, unique among the owner's.
    pub name: String,
    /// Only an administrator may name somebody else.
    pub owner: String,
    /// Name of the client, for the lock.
    pub kiosk: String,
    /// Which run of it.
    pub boot: BootId,
    /// Drawn by the client for this acquisition.
    pub claim: Claim,
    /// Whose unsaved work it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescues: Option<Rescue>,
}

/// A hold that was broken with work that was not committed: its holder may make one parcel for it, whatever the quota.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rescue {
    /// The parcel that was held.
    pub parcel: ParcelId,
    /// The acquisition that was broken.
    pub claim: Claim,
}

/// Asks for a parcel's lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LockRequest {
    /// Name of the kiosk.
    pub kiosk: String,
    /// Which boot of it, or which run of a command.
    pub boot: BootId,
    /// Drawn by the client for this acquisition. Asked again with the same claim, it is the same acquisition.
    pub claim: Claim,
    /// From a holder that the store does not know any more: what its work is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Base>,
    /// What the kiosk has; held against the tag before the lock is given. `None`: not to run it (administration).
    pub inventory: Option<Inventory>,
    /// The machine will boot from its disk, so what only a resume needs is not held against the inventory.
    #[serde(default)]
    pub cold_boot: bool,
}

/// The version that a holder works on. The lock is given only where that is still the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The store that gave the lock.
    pub store: StoreId,
    /// The version's number.
    pub version: Version,
    /// Its record.
    pub record: RecordHash,
}

/// The lock is the caller's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LockReply {
    /// The store that gives the lock.
    pub store: StoreIdentity,
    /// The parcel's name.
    pub name: String,
    /// Kerberos principal that owns it.
    pub owner: String,
    /// Every write names this epoch.
    pub epoch: Epoch,
    /// The version that the caller builds on.
    pub version: Version,
    /// Wishes that the kiosk does not meet.
    #[serde(default)]
    pub misses: Vec<Miss>,
}

/// One committed version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Its number.
    pub version: Version,
    /// The one it was made from.
    pub parent: Version,
    /// Seconds since 1970, by the committing kiosk's clock.
    pub created_at: u64,
    /// Kiosk that committed it.
    pub kiosk: String,
    /// `true` when it holds a running machine.
    pub suspended: bool,
    /// Its memory could not be saved: its disk is as after a power cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_lost: bool,
}
