//! What is said of parcels: descriptions and refusals.

use super::Result;
use crate::{
    head::Head,
    refusal::{Code, Refusal},
    store::StoreError,
};
use parcel::{
    id::{ParcelId, RecordHash, Version},
    keyring::ImageKind,
    record::Public,
    wire::{
        hold::StoreIdentity,
        http::{Base, CreateParcel, ParcelInfo},
    },
};

/// Longest name of a parcel or kiosk, in characters.
const MAX_NAME: usize = 64;

/// A committed record.
pub(super) struct Last {
    /// Of its bytes.
    pub hash: RecordHash,
    /// What it says to the server.
    pub public: Public,
}

/// A parcel as its owner sees it; `last` is the public part of its last version.
pub(super) fn describe(id: ParcelId, head: &Head, store: StoreIdentity, last: Option<&Last>) -> ParcelInfo {
    let record = last.map(|last| last.hash);
    let last = last.map(|last| &last.public);
    ParcelInfo {
        id,
        name: head.name.clone(),
        owner: head.owner.clone(),
        store,
        version: head.version,
        record,
        epoch: head.epoch,
        lock: head.lock.clone(),
        tag: last.map(|last| last.tag.clone()),
        suspended_at: last.map(|last| last.created_at),
        suspended_on: last.map(|last| last.kiosk.clone()),
        disk_bytes: last.and_then(|last| last.image(ImageKind::Disk)).map_or(0, |disk| disk.bytes),
        suspended: last.is_some_and(Public::suspended),
        memory_lost: last.is_some_and(|last| last.memory_lost),
    }
}

pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let count = name.chars().count();
    if count == 0 || count > MAX_NAME || name.chars().any(char::is_control) || name.trim() != name {
        let text = format!(
            "The {what} {name:?} must be 1 to {MAX_NAME} characters, without control characters or spaces at its ends; choose another."
        );
        return Err(Refusal::new(Code::BadRequest, text));
    }
    Ok(())
}

pub(super) fn bad_record(n: Version, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::BadRecord, format!("The record sent as version {n} was not committed: {why}."))
}

pub(super) fn exists(ask: &CreateParcel) -> Refusal {
    Refusal::new(Code::Exists, format!("There is a parcel {} already; choose another id.", ask.id))
}

pub(super) fn other_store() -> Refusal {
    Refusal::new(
        Code::OtherStore,
        "The parcel server has another store than the one that gave this lock, or an earlier state of it from a backup; \
         nothing was changed. Tell IT. The kiosk keeps your work and asks again.",
    )
}

pub(super) fn not_the_base(head: &Head, base: &Base) -> Refusal {
    Refusal::new(
        Code::WrongParent,
        format!(
            "The work is based on a version {} of the parcel {:?} that is not the server's last, which is version {}; \
             nothing was changed. Tell IT that the store lacks it. The kiosk keeps your work and asks again.",
            base.version, head.name, head.version
        ),
    )
}

pub(super) fn busy(id: ParcelId) -> Refusal {
    Refusal::new(Code::Busy, format!("The parcel {id} is being changed by many at once; try again."))
}

pub(super) fn store_error(e: StoreError) -> Refusal {
    tracing::error!(error = %e, "the store fails");
    match e {
        StoreError::Full(_) => Refusal::new(
            Code::StoreFull,
            "The server has no space left and stored nothing; what is committed is safe. Tell IT, and try again when there is space.",
        ),
        StoreError::Io { .. } => Refusal::new(
            Code::Store,
            "The server cannot read or write its store; what is committed is safe. Tell IT, who finds the reason in the server's log.",
        ),
    }
}
