//! Parcels: what an authenticated principal may do with them, over any store.

mod turns;
mod words;

use crate::{
    auth::names::Realms,
    commit::{self, Obstacle},
    head::{Acquirer, Head, Step, Writer, unreadable},
    quota::Quotas,
    refusal::{Code, Refusal},
    store::{Etag, Key, Object, Shelf, Store},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use parcel::{
    id::{ChunkName, Epoch, ParcelId, RecordHash, Version},
    record::Public,
    slot::Slots,
    tag::{Miss, Start},
    wire::{
        hold::{Hold, StoreIdentity},
        http::{Base, CreateParcel, LockReply, LockRequest, ParcelInfo, Rescue, VersionInfo},
    },
};
use std::{collections::BTreeSet, sync::Arc};
use turns::Turns;
use words::{Last, bad_record, busy, check_name, describe, exists, not_the_base, other_store, store_error};

/// How often a change is tried anew because somebody else changed the same object in between.
const ATTEMPTS: usize = 16;
/// By how many an owner's parcels may exceed the quota when they take work that would be lost: whoever breaks locks of his own has a
/// reason for one more each time.
const RESCUES: u64 = 16;
/// Objects that are read at the same time for a list.
const AT_ONCE: usize = 8;

/// The parcels in a store.
#[derive(Debug)]
pub struct Parcels {
    store: Arc<dyn Store>,
    admins: BTreeSet<String>,
    realms: Realms,
    quotas: Quotas,
    /// Held from looking for a name among an owner's parcels to making the parcel.
    creating: Turns,
    /// Each held while a change takes several steps, by the first byte of the parcel's id: two commits of one number
    /// under one epoch must not come between each other's record and head, and nothing may be put into a parcel while
    /// it is taken away. Where the lock changes hands in between, the epoch decides.
    changing: [tokio::sync::Mutex<()>; 256],
}

type Result<T> = std::result::Result<T, Refusal>;

impl Parcels {
    /// The parcels in `store`; `admins` may make parcels for others.
    pub fn new(store: Arc<dyn Store>, admins: impl IntoIterator<Item = String>) -> Self {
        Self {
            store,
            admins: admins.into_iter().collect(),
            realms: Realms::default(),
            quotas: Quotas::default(),
            creating: Turns::default(),
            changing: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }

    /// With names and quotas as the configuration has them.
    pub fn with_rules(mut self, realms: Realms, quotas: Quotas) -> Self {
        (self.realms, self.quotas) = (realms, quotas);
        self
    }

    /// Which names are the same person's.
    pub fn realms(&self) -> &Realms {
        &self.realms
    }

    /// Which store they are in.
    pub fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    /// Is a lock from this store, as it is now?
    ///
    /// # Errors
    /// `other-store`.
    pub fn recognise(&self, hold: &Hold) -> Result<()> {
        if hold.store == self.identity() { Ok(()) } else { Err(other_store()) }
    }

    /// The parcels that the caller owns or holds, by name.
    ///
    /// # Errors
    /// `store`.
    pub async fn list(&self, caller: &str) -> Result<Vec<ParcelInfo>> {
        let mut found = Vec::new();
        for (id, head) in self.heads().await? {
            if head.visible_to(caller) {
                // A parcel whose last record is damaged is shown without what the record would tell, not hidden.
                found.push(
                    self.info(id, &head).await.unwrap_or_else(|_| describe(id, &head, self.identity(), None)),
                );
            }
        }
        found.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(found)
    }

    /// Makes an empty parcel that the caller holds. Asked again with the same claim, it changes nothing, and tells the parcel's
    /// name and version as they are, also once a version is committed and the lock given back.
    ///
    /// # Errors
    /// `bad-request`, `not-admin`, `may-not-create`, `exists`, `name-taken`, `quota-parcels`, `unknown-claim`, `store`,
    /// `store-full`.
    pub async fn create(&self, caller: &str, ask: &CreateParcel, now: u64) -> Result<LockReply> {
        check_name("name", &ask.name)?;
        check_name("kiosk", &ask.kiosk)?;
        if !crate::auth::is_principal(&ask.owner) {
            let text =
                format!("The owner {:?} is not a Kerberos principal; write it as user@REALM.", ask.owner);
            return Err(Refusal::new(Code::BadRequest, text));
        }
        let ask = &CreateParcel { owner: self.realms.canonical(&ask.owner), ..ask.clone() };
        let (admin, right) = (self.admins.contains(caller), self.quotas.of(&ask.owner));
        if ask.owner != caller && !admin {
            let text = format!(
                "Only an administrator may make a parcel for {}; ask IT, or make it your own.",
                ask.owner
            );
            return Err(Refusal::new(Code::NotAdmin, text));
        }
        // Work that would be lost is not new work; whether it is such is looked at below.
        let rescues = ask.rescues.is_some();
        if !admin && !right.create && !rescues {
            let text = format!("{caller} may not make parcels on this server; ask IT to make one for you.");
            return Err(Refusal::new(Code::MayNotCreate, text));
        }
        let mut owned = 0;
        let by =
            Acquirer { principal: caller, kiosk: &ask.kiosk, boot: ask.boot, claim: ask.claim.tag(), now };
        let _turn = self.creating.of(caller).await;
        let heads = self.heads().await?;
        if let Some((_, head)) = heads.iter().find(|(id, _)| *id == ask.id) {
            return self.create_again(ask, head, &by);
        }
        for (_, head) in heads {
            if head.owner != ask.owner {
                continue;
            }
            if head.name == ask.name {
                let text = format!("{} has a parcel {:?} already; choose another name.", ask.owner, ask.name);
                return Err(Refusal::new(Code::NameTaken, text));
            }
            owned += 1;
        }
        if owned >= right.parcels + if rescues { RESCUES } else { 0 } {
            let text = format!(
                "{} has {owned} parcels and may have {} on this server; discard one that was never finished, or ask IT for a larger quota.",
                ask.owner, right.parcels
            );
            return Err(Refusal::new(Code::QuotaParcels, text));
        }
        if let Some(rescue) = &ask.rescues {
            self.rescue(caller, ask.id, rescue).await?;
        }
        let head = Head::create(&ask.name, &ask.owner, &by);
        if !self.store.swap(Key::Head(ask.id), None, head.encode().into()).await.map_err(store_error)? {
            return Err(exists(ask));
        }
        Ok(self.locked(&head, head.epoch, Vec::new()))
    }

    /// A parcel.
    ///
    /// # Errors
    /// `no-such-parcel`, `store`.
    pub async fn show(&self, caller: &str, id: ParcelId) -> Result<ParcelInfo> {
        let (head, _) = self.head(caller, id).await?;
        self.info(id, &head).await
    }

    /// The committed versions of a parcel, in ascending order.
    ///
    /// # Errors
    /// `no-such-parcel`, `store`.
    pub async fn versions(&self, caller: &str, id: ParcelId) -> Result<Vec<VersionInfo>> {
        let (head, _) = self.head(caller, id).await?;
        let numbers = self.store.records(id).await.map_err(store_error)?;
        // A record beyond the head is what a commit left that did not come to its end.
        let numbers: Vec<_> = numbers.into_iter().filter(|n| *n <= head.version).collect();
        let mut records = stream::iter(numbers).map(|n| self.last(id, n)).buffered(AT_ONCE);
        let mut versions = Vec::new();
        while let Some(record) = records.next().await {
            let record = record?.public;
            versions.push(VersionInfo {
                version: record.version,
                parent: record.parent,
                created_at: record.created_at,
                kiosk: record.kiosk.clone(),
                suspended: record.suspended(),
                memory_lost: record.memory_lost,
            });
        }
        Ok(versions)
    }

    /// A version record.
    ///
    /// # Errors
    /// `no-such-parcel`, `no-such-version`, `store`.
    pub async fn record(&self, caller: &str, id: ParcelId, n: Version) -> Result<Bytes> {
        let (head, _) = self.head(caller, id).await?;
        let record = if n <= head.version { self.get(Key::Record(id, n)).await? } else { None };
        record.map(|record| record.bytes).ok_or_else(|| {
            let text =
                format!("The parcel {:?} has no version {n}; its last is {}.", head.name, head.version);
            Refusal::new(Code::NoSuchVersion, text)
        })
    }

    /// Commits a version: checks the record and that all it names is stored, writes the record, moves the head.
    /// Sent again after its answer was lost, it changes nothing and succeeds.
    ///
    /// # Errors
    /// `no-such-parcel`, `stale-epoch`, `unknown-claim`, `locked`, `bad-record`, `wrong-parent`, `missing-objects`, `store`,
    /// `store-full`, `busy`.
    pub async fn commit(
        &self,
        caller: &str,
        id: ParcelId,
        n: Version,
        hold: &Hold,
        bytes: Bytes,
    ) -> Result<ParcelInfo> {
        let (head, _) = self.head(caller, id).await?;
        head.may_write(writer(caller, hold))?;
        let public = Public::read(&bytes).map_err(|e| bad_record(n, &e))?;
        if public.parcel != id || public.version != n {
            return Err(bad_record(
                n,
                &format!("it is version {} of parcel {}", public.version, public.parcel),
            ));
        }
        if head.may_commit(public.parent, n)? == Step::Next {
            let parent = if public.parent > Version(0) {
                Some(self.last(id, public.parent).await?.public)
            } else {
                None
            };
            commit::check(&*self.store, shelf(id, &head), &public, parent.as_ref()).await.map_err(
                |obstacle| match obstacle {
                    Obstacle::Refused(refusal) => refusal,
                    Obstacle::Store(e) => store_error(e),
                },
            )?;
        }
        let _one_at_a_time = self.one_at_a_time(&id).await;
        for _ in 0..ATTEMPTS {
            // The order matters. The record is read before the head says that this epoch still holds: whoever takes
            // the lock later writes the record later, so it differs from what was read and is not overwritten.
            let there = self.get(Key::Record(id, n)).await?;
            let (mut head, head_tag) = self.head(caller, id).await?;
            head.may_write(writer(caller, hold))?;
            match head.may_commit(public.parent, n)? {
                Step::Again if there.as_ref().is_some_and(|there| there.bytes == bytes) => {
                    return self.info(id, &head).await;
                }
                Step::Again => {
                    let text = format!(
                        "The parcel {:?} has another version {n} already; nothing was changed. Open it and commit from there.",
                        head.name
                    );
                    return Err(Refusal::new(Code::WrongParent, text));
                }
                Step::Next => {}
            }
            if n == Version(1) {
                self.store.adopt(id).await.map_err(store_error)?;
            }
            let there = there.map(|there| there.etag);
            if !self.swap(Key::Record(id, n), there, bytes.clone()).await? {
                continue;
            }
            head.version = n;
            if self.swap(Key::Head(id), Some(head_tag), head.encode().into()).await? {
                tracing::info!(parcel = %id, version = %n, epoch = %hold.epoch, caller, "committed");
                return self.info(id, &head).await;
            }
        }
        Err(busy(id))
    }

    /// Gives the caller the lock; with `break_lock`, whoever holds it. The kiosk's inventory is held against the tag
    /// first, and the lock is not given to a kiosk that lacks what the tag demands.
    ///
    /// # Errors
    /// `no-such-parcel`, `bad-request`, `hardware`, `locked`, `not-owner`, `stale-epoch`, `other-store`, `wrong-parent`,
    /// `store`, `store-full`, `busy`.
    pub async fn lock(
        &self,
        caller: &str,
        id: ParcelId,
        ask: &LockRequest,
        break_lock: bool,
        now: u64,
    ) -> Result<LockReply> {
        check_name("kiosk", &ask.kiosk)?;
        if ask.again.is_some_and(|base| base.store != self.identity().id) {
            return Err(other_store());
        }
        let by =
            Acquirer { principal: caller, kiosk: &ask.kiosk, boot: ask.boot, claim: ask.claim.tag(), now };
        for _ in 0..ATTEMPTS {
            let (mut head, tag) = self.head(caller, id).await?;
            let before = head.epoch;
            let epoch = if break_lock { head.take_over(&by)? } else { head.acquire(&by)? };
            if epoch == before {
                return Ok(self.locked(&head, epoch, self.misses(id, &head, ask).await?));
            }
            if let Some(base) = &ask.again {
                self.is_last(id, &head, base).await?;
            }
            let misses = self.misses(id, &head, ask).await?;
            if self.swap(Key::Head(id), Some(tag), head.encode().into()).await? {
                tracing::info!(parcel = %id, %epoch, caller, kiosk = ask.kiosk, broken = break_lock, "locked");
                return Ok(self.locked(&head, epoch, misses));
            }
        }
        Err(busy(id))
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// `no-such-parcel`, `stale-epoch`, `unknown-claim`, `locked`, `store`, `store-full`, `busy`.
    pub async fn unlock(&self, caller: &str, id: ParcelId, hold: &Hold) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (mut head, tag) = self.head(caller, id).await?;
            head.release(writer(caller, hold))?;
            if self.swap(Key::Head(id), Some(tag), head.encode().into()).await? {
                tracing::info!(parcel = %id, epoch = %hold.epoch, caller, "unlocked");
                return Ok(());
            }
        }
        Err(busy(id))
    }

    /// Takes away a parcel that has no version, with all that was sent for it: what its maker does when he gives up.
    ///
    /// # Errors
    /// `no-such-parcel`, `stale-epoch`, `unknown-claim`, `locked`, `has-versions`, `store`, `busy`.
    pub async fn discard(&self, caller: &str, id: ParcelId, hold: &Hold) -> Result<()> {
        let _one_at_a_time = self.one_at_a_time(&id).await;
        for _ in 0..ATTEMPTS {
            let (head, tag) = self.head(caller, id).await?;
            head.may_write(writer(caller, hold))?;
            if head.version > Version(0) {
                let text = format!(
                    "The parcel {:?} has {} versions and stays; only one that was never finished can be taken away.",
                    head.name, head.version
                );
                return Err(Refusal::new(Code::HasVersions, text));
            }
            if self.store.discard(id, tag).await.map_err(store_error)? {
                tracing::info!(parcel = %id, epoch = %hold.epoch, caller, "discarded");
                return Ok(());
            }
        }
        Err(busy(id))
    }

    /// The key slots, JSON.
    ///
    /// # Errors
    /// `no-such-parcel`, `no-slots`, `store`.
    pub async fn slots(&self, caller: &str, id: ParcelId) -> Result<Bytes> {
        let (head, _) = self.head(caller, id).await?;
        self.get(Key::Slots(id)).await?.map(|slots| slots.bytes).ok_or_else(|| {
            let text = format!(
                "The parcel {:?} has no key slots yet; whoever made it must finish that first.",
                head.name
            );
            Refusal::new(Code::NoSlots, text)
        })
    }

    /// Replaces the key slots. The owner needs no lock for that: a password changes at any time.
    ///
    /// # Errors
    /// `no-such-parcel`, `stale-epoch`, `unknown-claim`, `locked`, `bad-slots`, `not-owner`, `store`, `store-full`, `busy`.
    pub async fn put_slots(
        &self,
        caller: &str,
        id: ParcelId,
        hold: Option<&Hold>,
        bytes: Bytes,
    ) -> Result<()> {
        Slots::from_json(&bytes)
            .map_err(|e| Refusal::new(Code::BadSlots, format!("The key slots cannot be stored: {e}")))?;
        let _one_at_a_time = self.one_at_a_time(&id).await;
        for _ in 0..ATTEMPTS {
            // As in a commit: first the object, then the right to replace it.
            let there = self.get(Key::Slots(id)).await?.map(|slots| slots.etag);
            let (head, _) = self.head(caller, id).await?;
            match hold {
                Some(hold) => head.may_write(writer(caller, hold))?,
                None if head.owner == caller => {}
                None => {
                    let text = format!(
                        "Only {}, its owner, may change the key slots of the parcel {:?} without its lock.",
                        head.owner, head.name
                    );
                    return Err(Refusal::new(Code::NotOwner, text));
                }
            }
            if self.swap(Key::Slots(id), there, bytes.clone()).await? {
                return Ok(());
            }
        }
        Err(busy(id))
    }

    /// May the caller send objects for this parcel, and where do they go?
    ///
    /// # Errors
    /// `no-such-parcel`, `stale-epoch`, `unknown-claim`, `locked`, `store`.
    pub async fn may_upload(&self, caller: &str, id: ParcelId, hold: &Hold) -> Result<Shelf> {
        let (head, _) = self.head(caller, id).await?;
        head.may_write(writer(caller, hold))?;
        Ok(shelf(id, &head))
    }

    /// Stores an object whose name is that of its bytes, on the shelf that [`Self::may_upload`] has named.
    ///
    /// # Errors
    /// `bad-name`, `busy`, `store`, `store-full`.
    pub async fn put_chunk(&self, shelf: Shelf, name: ChunkName, bytes: Bytes) -> Result<()> {
        let real = parcel::chunk::name_of(&bytes);
        if real != name {
            let text = format!(
                "The {} bytes sent as {name} are {real}; they were damaged on their way, send them again.",
                bytes.len()
            );
            return Err(Refusal::new(Code::BadName, text));
        }
        if self.store.put_chunk(shelf, name, bytes).await.map_err(store_error)? {
            return Ok(());
        }
        let text =
            format!("The parcel was finished or taken away while {name} was sent for it; send it again.");
        Err(Refusal::new(Code::Busy, text))
    }

    /// A sealed object of some parcel that has a version. Any authenticated principal may have it: it is worth nothing without its key.
    ///
    /// # Errors
    /// `no-such-chunk`, `store`.
    pub async fn chunk(&self, name: ChunkName) -> Result<Bytes> {
        self.store.chunk(Shelf::Common, name).await.map_err(store_error)?.ok_or_else(|| {
            Refusal::new(
                Code::NoSuchChunk,
                format!("The server has no object {name}; try another source, or send it anew."),
            )
        })
    }

    /// Which of these objects are stored.
    ///
    /// # Errors
    /// `no-such-parcel`, `store`.
    pub async fn have(&self, caller: &str, id: ParcelId, names: Vec<ChunkName>) -> Result<Vec<bool>> {
        let (head, _) = self.head(caller, id).await?;
        self.store.have(shelf(id, &head), names).await.map_err(store_error)
    }

    async fn one_at_a_time(&self, id: &ParcelId) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing[usize::from(id.as_bytes()[0])].lock().await
    }

    async fn misses(&self, id: ParcelId, head: &Head, ask: &LockRequest) -> Result<Vec<Miss>> {
        let Some(inventory) = &ask.inventory else { return Ok(Vec::new()) };
        if head.version == Version(0) {
            return Ok(Vec::new());
        }
        let public = self.last(id, head.version).await?.public;
        let start = if ask.cold_boot || !public.suspended() { Start::ColdBoot } else { Start::Resume };
        let misses = public.tag.check(inventory, start);
        let lacking: Vec<_> = misses.iter().filter(|miss| miss.must).map(|miss| miss.item.as_str()).collect();
        if lacking.is_empty() {
            return Ok(misses);
        }
        let text = match misses.iter().find(|miss| miss.must && miss.item == "memory") {
            Some(miss) if lacking.len() == 1 => format!(
                "The kiosk {} has too little memory for {:?}: it needs {}, and {} are free beside what the kiosk itself needs. \
                 The parcel was not locked; use another kiosk.",
                ask.kiosk, head.name, miss.needed, miss.found
            ),
            _ => format!(
                "The kiosk {} cannot run the parcel {:?}, it lacks: {}. The parcel was not locked; use another kiosk.",
                ask.kiosk,
                head.name,
                lacking.join(", ")
            ),
        };
        let mut refusal = Refusal::new(Code::Hardware, text);
        refusal.error.misses = misses;
        Err(refusal)
    }

    fn create_again(&self, ask: &CreateParcel, head: &Head, by: &Acquirer<'_>) -> Result<LockReply> {
        // The claim tells that it is the same creation. Whoever asks may have forgotten the name, and how far it came.
        let holds =
            head.lock.as_ref().is_some_and(|lock| lock.principal == by.principal && lock.claim == by.claim);
        let done = head.version > Version(0) && head.ended(by.claim).is_some();
        if head.owner == ask.owner && (holds || done) {
            Ok(self.locked(head, head.epoch, Vec::new()))
        } else {
            Err(exists(ask))
        }
    }

    /// Lets whoever held a lock that was broken make one parcel, `new`, for its work. Asked again, it changes nothing.
    async fn rescue(&self, caller: &str, new: ParcelId, rescue: &Rescue) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (mut head, tag) = self.head(caller, rescue.parcel).await?;
            let name = head.name.clone();
            let refused = |why: &str| {
                Refusal::new(
                    Code::UnknownClaim,
                    format!("The work on the parcel {name:?} cannot be taken into a new one: {why}."),
                )
            };
            let broken = head
                .broken(rescue.claim.tag())
                .ok_or_else(|| refused("no lock with this claim was broken"))?;
            match broken.rescue {
                Some(there) if there == new => return Ok(()),
                Some(there) => return Err(refused(&format!("it was taken into {there} already"))),
                None => broken.rescue = Some(new),
            }
            if self.swap(Key::Head(rescue.parcel), Some(tag), head.encode().into()).await? {
                return Ok(());
            }
        }
        Err(busy(rescue.parcel))
    }

    /// Is this the last version of the parcel?
    async fn is_last(&self, id: ParcelId, head: &Head, base: &Base) -> Result<()> {
        if head.version == base.version
            && head.version > Version(0)
            && self.last(id, head.version).await?.hash == base.record
        {
            return Ok(());
        }
        Err(not_the_base(head, base))
    }

    fn locked(&self, head: &Head, epoch: Epoch, misses: Vec<Miss>) -> LockReply {
        LockReply {
            store: self.identity(),
            name: head.name.clone(),
            owner: head.owner.clone(),
            epoch,
            version: head.version,
            misses,
        }
    }

    /// Every head that can be read; others are told to the log, so that one damaged parcel does not hide the rest.
    async fn heads(&self) -> Result<Vec<(ParcelId, Head)>> {
        let ids = self.store.parcels().await.map_err(store_error)?;
        let mut heads = stream::iter(ids)
            .map(|id| async move { (id, self.get(Key::Head(id)).await) })
            .buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        while let Some((id, head)) = heads.next().await {
            let Some(object) = head? else { continue };
            match self.decode(&object.bytes) {
                Ok(head) => found.push((id, head)),
                Err(error) => tracing::error!(parcel = %id, error, "skipped in a list"),
            }
        }
        Ok(found)
    }

    async fn head(&self, caller: &str, id: ParcelId) -> Result<(Head, Etag)> {
        let Object { bytes, etag } =
            self.get(Key::Head(id)).await?.ok_or_else(|| Refusal::no_such_parcel(&id))?;
        let head = self.decode(&bytes).map_err(|error| {
            tracing::error!(parcel = %id, error, "a head cannot be read");
            unreadable(&id)
        })?;
        if head.visible_to(caller) { Ok((head, etag)) } else { Err(Refusal::no_such_parcel(&id)) }
    }

    /// A stored head, with names as they are compared.
    fn decode(&self, bytes: &[u8]) -> std::result::Result<Head, String> {
        let mut head = Head::decode(bytes)?;
        head.owner = self.realms.canonical(&head.owner);
        if let Some(lock) = &mut head.lock {
            lock.principal = self.realms.canonical(&lock.principal);
        }
        Ok(head)
    }

    async fn info(&self, id: ParcelId, head: &Head) -> Result<ParcelInfo> {
        let last = if head.version > Version(0) { Some(self.last(id, head.version).await?) } else { None };
        Ok(describe(id, head, self.identity(), last.as_ref()))
    }

    /// A committed record.
    async fn last(&self, id: ParcelId, n: Version) -> Result<Last> {
        let problem = |error: String| {
            tracing::error!(parcel = %id, version = %n, error, "a version record cannot be read");
            unreadable(&id)
        };
        let record =
            self.get(Key::Record(id, n)).await?.ok_or_else(|| problem("it is not there".to_owned()))?;
        let public = Public::read(&record.bytes).map_err(|e| problem(e.to_string()))?;
        Ok(Last { hash: RecordHash::of(&record.bytes), public })
    }

    async fn get(&self, key: Key) -> Result<Option<Object>> {
        self.store.get(key).await.map_err(store_error)
    }

    async fn swap(&self, key: Key, expected: Option<Etag>, bytes: Bytes) -> Result<bool> {
        self.store.swap(key, expected, bytes).await.map_err(store_error)
    }
}

fn writer<'a>(principal: &'a str, hold: &Hold) -> Writer<'a> {
    Writer { principal, epoch: hold.epoch, claim: hold.claim.tag() }
}

/// Where what is sent for a parcel goes. Before its first version it can still be taken away, and all that with it.
fn shelf(id: ParcelId, head: &Head) -> Shelf {
    if head.version == Version(0) { Shelf::Own(id) } else { Shelf::Common }
}

#[cfg(test)]
mod tests;
