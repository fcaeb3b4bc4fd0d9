//! The examples in `docs/formats.md` are what the types read and write.

use crate::{sample, slots::recovery};
use parcel::{
    record::{Public, Record, RecordError},
    slot::RecoveryKey,
    wire::{
        WireError,
        http::{CreateParcel, Health, LockReply, LockRequest, ParcelInfo, Rescue, SessionReply, VersionInfo},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/formats.md");

/// The text of the example that has this mark.
fn text(mark: &str) -> &'static str {
    let begin = format!("<!-- json: {mark} -->\n```json\n");
    let mut found = PAGE.split(&begin).skip(1);
    let (Some(rest), None) = (found.next(), found.next()) else { panic!("one example of {mark}") };
    rest.split("```").next().unwrap()
}

/// That example, which the type writes as it stands.
fn example<T: Serialize + DeserializeOwned>(mark: &str) -> T {
    let text = text(mark);
    let read: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{mark}: {error}"));
    let shown: Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), shown, "{mark}");
    read
}

#[test]
fn every_body_is_as_the_page_shows_it() {
    example::<SessionReply>("http::SessionReply");
    example::<Health>("http::Health");
    example::<LockReply>("http::LockReply");
    example::<VersionInfo>("http::VersionInfo");
    example::<WireError>("WireError");
    let ask: LockRequest = example("http::LockRequest");
    let info: ParcelInfo = example("http::ParcelInfo");
    assert_eq!(info.lock.unwrap().claim, ask.claim.tag());
    let Rescue { parcel, claim } = example::<CreateParcel>("http::CreateParcel").rescues.unwrap();
    assert_eq!((parcel, claim.tag()), (info.id, ask.claim.tag()));
    // The head's is the server's to read.
    assert_eq!(PAGE.matches("<!-- json: ").count(), 10);
}

#[test]
fn the_record_on_the_page_is_one() {
    let mut record =
        Record { public: example::<Public>("record::Public"), private: sample::record().private };
    let sealed = record.seal(&sample::parcel_key()).unwrap();
    assert_eq!(Public::read(&sealed).unwrap(), record.public);
    record.public.memory_lost = true;
    assert!(matches!(record.seal(&sample::parcel_key()), Err(RecordError::Invalid(_))));
}

#[test]
fn the_recovery_key_on_the_page_has_the_bytes_that_it_says() {
    let text = recovery().to_text();
    assert!(PAGE.contains(&format!("`{}`", *text)), "{}", *text);
    assert_eq!(*text.parse::<RecoveryKey>().unwrap().to_text(), *text);
}
