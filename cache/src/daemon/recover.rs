//! After the last engine of this session was killed: what changed is found again in the cache folder, once the parcel key is
//! here, and can be committed under the lock that was held. The machine's memory is lost.

use super::{Daemon, Given, Held, Running};
use crate::{
    commit::Committed,
    disk::{
        changes::Origin,
        journal::{Journal, LeftError},
    },
    open::{OpenParcel, Opening, Saved},
    remote::{Made, again},
    status::lock,
    tenure::Tenure,
};
use futures::FutureExt as _;
use parcel::{
    changes::HeadError,
    id::{ParcelId, RecordHash, Version},
    tag::Inventory,
    wire::{
        Code, Stake, WireError,
        daemon::Reply,
        http::{LockReply, LockRequest},
    },
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an engine writes for its successor.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    /// What the work is based on.
    version: Version,
    record: RecordHash,
    /// What was asked of the server for the lock; what it answered follows.
    ask: LockRequest,
    reply: LockReply,
    /// The kiosk as the server was told of it: a version names its maker.
    inventory: Inventory,
}

impl Note {
    /// The note of a session that begins on this record.
    pub(super) fn of(held: &Held, given: &Given, record: RecordHash) -> Result<Vec<u8>, WireError> {
        let (ask, reply) = (LockRequest { inventory: None, ..held.ask.clone() }, given.reply.clone());
        let note = Self { version: reply.version, record, ask, reply, inventory: held.inventory.clone() };
        serde_json::to_vec(&note).map_err(|e| WireError::new(Code::InternalError, e.to_string()))
    }
}

impl Daemon {
    /// The user's work is at stake: what does not prove that it is lost is tried again.
    pub(super) async fn recover(&self, parcel: ParcelId) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        if let Some(running) = &work.running {
            return Ok(reply_of(running));
        }
        let key = lock(&self.keys).get(&parcel).cloned();
        let key =
            key.ok_or_else(|| WireError::new(Code::NoKey, "the parcel's key is not here; log in again"))?;
        let (cache, opener) = (self.settings.cache_dir.clone(), key.clone());
        let replaying = tokio::task::spawn_blocking(move || Journal::replay(&cache, &opener, &parcel));
        let left = replaying.await.map_err(|e| WireError::new(Code::InternalError, e.to_string()))?;
        let left = left.map_err(refused)?;
        let note: Note = serde_json::from_slice(&left.note).map_err(|_| {
            WireError::new(Code::ChangesDamaged, "the note beside the kept changes is not understood")
        })?;
        let Note { version, record: base, ask, reply, inventory } = note;
        let tenure = Arc::new(Tenure::new(parcel, ask.clone(), &reply));
        tenure.based_on(version, base);
        tenure.was_sent(&left.sent);
        let hints = || self.api.token_renewals();
        let record = again(&self.board, hints(), Stake::Work, || {
            let (api, hold) = (self.api.clone(), tenure.clone());
            async move {
                let asking = hold.under(&api, |hold| async {
                    let hold = hold;
                    api.held_version(&parcel, &hold, version).await
                });
                let record = match asking.await {
                    // The lock was broken. What is here is still found, for a rescue.
                    Err(error) if error.code() == Code::StaleEpoch => api.version(&parcel, version).await,
                    asked => asked,
                };
                let record = record.map_err(|e| e.to_wire())?;
                match RecordHash::of(&record) == base {
                    true => Ok(record),
                    false => {
                        let text =
                            format!("version {version} is not the one that the kept changes are based on");
                        Err(WireError::new(Code::OtherStore, text))
                    }
                }
            }
            .boxed()
        });
        let record = record.await?;
        let seen = again(&self.board, hints(), Stake::Work, || {
            async { self.api.parcel(&parcel).await.map_err(|e| e.to_wire()) }.boxed()
        });
        let seen = seen.await?;
        // What the last engine sent may have become the next version, unheard. The journal may not have it, if the medium did not
        // take it; then nobody but this lock's holder can have made the version.
        let sent = Made::last(&seen).filter(|made| left.sent.contains(&(seen.version, made.record)));
        let home = sent.or_else(|| tenure.made(&seen, version.next()));
        let committed = home.map(|made| Committed::before(seen.version, made));
        let chunks = left.chunks.len();
        let opening = Opening {
            parcel,
            version,
            cold_boot: true,
            cache: &self.settings.cache_dir,
            dirty_in_ram: self.settings.dirty_in_ram,
            changes: Origin::Left(Box::new(left)),
        };
        let open = OpenParcel::new(&self.engine, key, &record, opening)?;
        open.save(Saved::MemoryLost);
        tracing::warn!(%version, chunks, whole = committed.is_some(), "the changes of a killed engine are here again");
        work.held = Some(Held { parcel, ask, inventory, given: Some(Given { reply, tenure }) });
        let running = work.running.insert(Running { parcel: open, committed, sockets: None });
        Ok(reply_of(running))
    }
}

fn reply_of(running: &Running) -> Reply {
    let changed = running.committed.is_some() || !running.parcel.disk.changes().is_empty();
    Reply::Recovered { version: running.parcel.record.public.version, changed }
}

fn refused(error: LeftError) -> WireError {
    let code = match error {
        LeftError::None => Code::NoChanges,
        LeftError::Head(HeadError::Sealed) => Code::WrongKey,
        LeftError::Head(_) | LeftError::Damaged(_) => Code::ChangesDamaged,
        LeftError::Io(_) => Code::CacheMedium,
    };
    WireError::new(code, error.to_string())
}
