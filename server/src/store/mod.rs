//! The object store: what the server keeps, and what it asks of the place where it keeps it.
//!
//! Two kinds of objects. *Chunks* are immutable and named by their content, so they are only ever added. The few
//! others ([`Key`]) change, and only ever by compare-and-swap. A parcel that has no version yet keeps what is sent for
//! it on a shelf of its own ([`Shelf`]), so that it can be taken away whole. A backend promises:
//!
//! - when a write has returned, it outlives a crash and a power failure;
//! - an object is there whole or not at all;
//! - of several concurrent [`Store::swap`]s that expect the same, exactly one succeeds;
//! - what a read has returned outlives a crash, too, unless it was replaced.
//!
//! `conformance` holds every backend to that.

#[cfg(test)]
mod conformance;
pub mod local;

use bytes::Bytes;
use futures::future::BoxFuture;
use parcel::{
    id::{ChunkName, ParcelId, Version},
    wire::hold::StoreIdentity,
};
use std::fmt;

/// An object that changes, or, as a version record, is written once its predecessor is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// `parcels/<id>/head`.
    Head(ParcelId),
    /// `parcels/<id>/slots`.
    Slots(ParcelId),
    /// `parcels/<id>/versions/<n>`.
    Record(ParcelId, Version),
}

impl Key {
    /// The parcel that it belongs to.
    pub fn parcel(&self) -> &ParcelId {
        match self {
            Key::Head(id) | Key::Slots(id) | Key::Record(id, _) => id,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Head(id) => write!(f, "parcels/{id}/head"),
            Key::Slots(id) => write!(f, "parcels/{id}/slots"),
            Key::Record(id, n) => write!(f, "parcels/{id}/versions/{n}"),
        }
    }
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// `chunks/`: for all parcels, and to stay.
    Common,
    /// `parcels/<id>/new/`: a parcel's own, until its first version is committed. Nobody else was ever told that such a
    /// chunk is there, so it may go with its parcel. What is common is found on every shelf.
    Own(ParcelId),
}

/// Tells one content of an object from another; its meaning is the backend's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(String);

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its content.
    pub bytes: Bytes,
    /// What a swap that replaces this content must expect.
    pub etag: Etag,
}

/// The store cannot do what it should. The particulars are for the log, not for clients.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space is left.
    #[error("no space left in the store, while {0}")]
    Full(String),
    /// Reading or writing fails.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, to what.
        doing: String,
        /// Why it fails.
        source: std::io::Error,
    },
}

/// What a store's operations return.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A place where the server keeps its state.
pub trait Store: Send + Sync + fmt::Debug {
    /// Which store this is. Does not change while it is open.
    fn identity(&self) -> StoreIdentity;

    /// Stores a chunk. The caller has checked that the name is that of the bytes. One that is there already stays,
    /// but for one whose bytes were damaged, which is made whole. `false`: there is no such shelf (any more), and
    /// nothing was stored.
    fn put_chunk(&self, shelf: Shelf, name: ChunkName, bytes: Bytes) -> Answer<'_, bool>;

    /// A chunk's bytes, unchecked: whoever opens it checks them.
    fn chunk(&self, shelf: Shelf, name: ChunkName) -> Answer<'_, Option<Bytes>>;

    /// Which of these chunks are there, in the same order.
    fn have(&self, shelf: Shelf, names: Vec<ChunkName>) -> Answer<'_, Vec<bool>>;

    /// Makes all that is on a parcel's own shelf common, and takes the shelf away. Done again, it goes on where it
    /// stopped.
    fn adopt(&self, parcel: ParcelId) -> Answer<'_, ()>;

    /// Takes a parcel away whole, its own shelf with it, if its head still is as `expected` says. `false`: it is not,
    /// and nothing was changed.
    fn discard(&self, parcel: ParcelId, expected: Etag) -> Answer<'_, bool>;

    /// A mutable object.
    fn get(&self, key: Key) -> Answer<'_, Option<Object>>;

    /// Replaces an object if it still is as `expected` says (`None`: if it does not exist). `false`: it is not, and
    /// nothing was changed. A parcel's first head comes with a shelf of its own.
    fn swap(&self, key: Key, expected: Option<Etag>, bytes: Bytes) -> Answer<'_, bool>;

    /// Every parcel that may have a head; some may turn out not to have one.
    fn parcels(&self) -> Answer<'_, Vec<ParcelId>>;

    /// Numbers of the stored records of a parcel, in ascending order.
    fn records(&self, parcel: ParcelId) -> Answer<'_, Vec<Version>>;
}
