//! What is said of parcels: descriptions and refusals.

use super::Result;
use crate::{
    head::Head,
    refusal::{Code, Refusal},
    store::StoreError,
};
use parcel::{
    id::{ParcelId, Version},
    keyring::ImageKind,
    record::Public,
    wire::http::{CreateParcel, ParcelInfo},
};

/// Longest name of a parcel or kiosk, in characters.
const MAX_NAME: usize = 64;

/// A parcel as its owner sees it; `last` is the public part of its last version.
pub(super) fn describe(id: ParcelId, head: &Head, last: Option<&Public>) -> ParcelInfo {
    ParcelInfo {
        id,
        name: head.name.clone(),
        owner: head.owner.clone(),
        version: head.version,
        epoch: head.epoch,
        lock: head.lock.clone(),
        tag: last.map(|last| last.tag.clone()),
        suspended_at: last.map(|last| last.created_at),
        suspended_on: last.map(|last| last.kiosk.clone()),
        disk_bytes: last.and_then(|last| last.image(ImageKind::Disk)).map_or(0, |disk| disk.bytes),
        suspended: last.is_some_and(Public::suspended),
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
