//! A lock that is held, for as long as it is: what every write shows of it, and what is done when the server does not
//! know it any more.
//!
//! A server that answers with another store (an empty mount point), or with an earlier state of it (a restored backup),
//! ends no tenure. The holder asks for its lock again, under the same claim, and gets it only where its work still
//! fits: nobody else holds the parcel, and the version that the work is based on is still the last one. Until then it
//! waits. Only the owner ends a tenure, by breaking the lock; a server proves that by remembering the broken claim.

use crate::{remote::Made, status::lock};
use client::api::{Api, ApiError};
use parcel::{
    id::{ParcelId, RecordHash, StoreId, Version},
    wire::{
        Code, WireError,
        hold::{Claim, Hold},
        http::{Base, LockReply, LockRequest, ParcelInfo},
    },
};
use std::sync::Mutex;

/// Codes with which a server says that it does not know a hold, without saying that it has ended.
const NOT_KNOWN: [Code; 2] = [Code::OtherStore, Code::UnknownClaim];

/// A lock that was given.
pub struct Tenure {
    /// The parcel.
    pub parcel: ParcelId,
    /// The parcel's name.
    pub name: String,
    /// Who owns it.
    pub owner: String,
    ask: LockRequest,
    state: Mutex<State>,
}

struct State {
    hold: Hold,
    /// What the work is based on, once it is known.
    base: Option<(Version, RecordHash)>,
    /// What was sent to be the next version.
    sent: Vec<(Version, RecordHash)>,
    /// An engine that was killed may have sent more.
    perhaps_more: bool,
}

impl State {
    /// A commit that is asked for again is the same one.
    fn note_sent(&mut self, sent: (Version, RecordHash)) {
        if !self.sent.contains(&sent) {
            self.sent.push(sent);
        }
    }
}

impl Tenure {
    /// The lock that `ask` was answered with.
    pub fn new(parcel: ParcelId, ask: LockRequest, reply: &LockReply) -> Self {
        let hold = Hold { store: reply.store, epoch: reply.epoch, claim: ask.claim.clone() };
        let state = Mutex::new(State { hold, base: None, sent: Vec::new(), perhaps_more: false });
        Self { parcel, name: reply.name.clone(), owner: reply.owner.clone(), ask, state }
    }

    /// What a write shows now.
    pub fn hold(&self) -> Hold {
        lock(&self.state).hold.clone()
    }

    /// What it was asked for with.
    pub fn ask(&self) -> &LockRequest {
        &self.ask
    }

    /// The acquisition.
    pub fn claim(&self) -> &Claim {
        &self.ask.claim
    }

    /// Which store gave it.
    pub fn store(&self) -> StoreId {
        lock(&self.state).hold.store.id
    }

    /// From here on the work is based on this record.
    pub fn based_on(&self, version: Version, record: RecordHash) {
        lock(&self.state).base = Some((version, record));
    }

    /// This record is being sent to be the next version.
    pub fn sends(&self, version: Version, record: &[u8]) {
        lock(&self.state).note_sent((version, RecordHash::of(record)));
    }

    /// This version was made under the lock, and what follows is based on it.
    pub fn came_home(&self, version: Version, record: RecordHash) {
        let mut state = lock(&self.state);
        state.note_sent((version, record));
        state.base = Some((version, record));
    }

    /// An engine that was killed sent these, and perhaps more that it could not note.
    pub fn was_sent(&self, sent: &[(Version, RecordHash)]) {
        let mut state = lock(&self.state);
        state.sent.extend_from_slice(sent);
        state.perhaps_more = true;
    }

    /// Whether what was sent has become the last version; `None`: this store does not tell.
    pub fn committed(&self, seen: &ParcelInfo) -> Option<bool> {
        let state = lock(&self.state);
        if seen.store != state.hold.store {
            return None;
        }
        let is = |(version, record): &(Version, RecordHash)| {
            seen.version == *version && seen.record == Some(*record)
        };
        if state.sent.iter().any(is) {
            return Some(true);
        }
        let nothing_came = state.base.is_some_and(|(base, _)| seen.version <= base);
        let another = !state.perhaps_more && state.sent.iter().all(|(version, _)| seen.version <= *version);
        (nothing_came || another).then_some(false)
    }

    /// Is this the lock as the parcel has it?
    pub fn is(&self, seen: &ParcelInfo) -> bool {
        seen.store.id == self.store()
            && seen.lock.as_ref().is_some_and(|lock| lock.claim == self.ask.claim.tag())
    }

    /// What `version` is, if it is the last one of the parcel as it was `seen` and nobody but this lock's holder can have made it.
    pub fn made(&self, seen: &ParcelInfo, version: Version) -> Option<Made> {
        Made::last(seen).filter(|_| seen.version == version && self.is(seen))
    }

    /// Makes a request under the lock. When the server does not know it, asks for it again and repeats the request.
    ///
    /// # Errors
    /// The request's, or, when the lock is not given again, `other-store` with the reason; a lock that was broken is
    /// `stale-epoch`.
    pub async fn under<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        api: &Api,
        request: impl Fn(Hold) -> F,
    ) -> Result<T, ApiError> {
        let first = match request(self.hold()).await {
            Err(error) if NOT_KNOWN.contains(&error.code()) => error,
            done => return done,
        };
        self.again(api, first).await?;
        request(self.hold()).await
    }

    async fn again(&self, api: &Api, first: ApiError) -> Result<(), ApiError> {
        let (base, store) = {
            let state = lock(&self.state);
            (state.base, state.hold.store.id)
        };
        let Some((version, record)) = base else { return Err(first) };
        let again = Some(Base { store, version, record });
        let ask = LockRequest { again, inventory: None, ..self.ask.clone() };
        match api.lock(&self.parcel, &ask, false).await {
            Ok(reply) => {
                tracing::warn!(store = %reply.store, epoch = %reply.epoch, "the store was restored; the lock is ours again");
                let mut state = lock(&self.state);
                state.hold.store = reply.store;
                state.hold.epoch = reply.epoch;
                Ok(())
            }
            // That it is over is what breaking it elsewhere says; all else is to be waited for.
            Err(ApiError::Refused { status, error }) if error.code != Code::StaleEpoch && status != 401 => {
                Err(ApiError::Refused { status, error: not_here(error) })
            }
            Err(error) => Err(error),
        }
    }
}

/// What is told while a store does not fit.
fn not_here(error: WireError) -> WireError {
    let message = match error.code {
        Code::NoSuchParcel => {
            "The parcel server has another store, in which your computer is not. Tell IT. The kiosk keeps \
                             your work and asks again."
                .to_owned()
        }
        Code::Locked => format!(
            "The parcel server runs on an earlier state of its store, in which somebody else holds your computer: {} The \
             kiosk keeps your work and asks again.",
            error.message
        ),
        _ => error.message,
    };
    WireError::new(Code::OtherStore, message).with_holder(error.holder)
}
