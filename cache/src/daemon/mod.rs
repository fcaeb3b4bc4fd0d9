//! The daemon: what `cached` holds during a session, and what it does when it is asked.

mod recover;
mod rescue;
mod serve;

pub use serve::run;

use crate::{
    budget::Budget,
    commit::{self, Author, Committed},
    disk::{changes::Origin, journal, serve::DiskServer},
    fetch::Engine,
    guest::GuestServer,
    harden::{self, Sockets},
    open::{OpenParcel, Opening, Saved},
    remote::{ServerSink, ServerSource, again},
    status::{Board, lock},
    store::Store,
    tenure::Tenure,
};
use client::api::{Api, ApiError};
use futures::FutureExt as _;
use parcel::{
    id::{BootId, ParcelId, RecordHash, Version},
    secret::ParcelKey,
    tag::Inventory,
    wire::{
        Code, Stake, WireError,
        daemon::{Policy, Reply, Request},
        hold::Claim,
        http::{LockReply, LockRequest},
        memory,
    },
};
use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// How long the medium may take to remove the kept changes, once everything is home. What is left is ciphertext, which the wipe
/// removes.
const REMOVING: Duration = Duration::from_secs(2);

/// How the daemon is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the sockets.
    pub run_dir: PathBuf,
    /// Folder of the local store.
    pub cache_dir: PathBuf,
    /// zstd level of what is sealed.
    pub zstd_level: i32,
    /// Memory for changed chunks and cached pieces, in bytes, until a parcel is opened with another.
    pub budget: u64,
    /// The most of it that opened chunks take, in bytes.
    pub ram_bytes: usize,
    /// Changed chunks beyond so many leave memory for the cache folder.
    pub dirty_in_ram: usize,
}

impl Settings {
    /// Shares of the machine's memory that leave most of it to the guest.
    pub fn sized(run_dir: PathBuf, cache_dir: PathBuf, zstd_level: i32) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total =
            meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let bytes = total.and_then(|kib| kib.trim().parse::<usize>().ok()).unwrap_or(1 << 20) << 10;
        let ram_bytes = (bytes / 64).clamp(16 << 20, 128 << 20);
        let dirty_in_ram = (bytes / 32 / parcel::chunk::CHUNK_SIZE).clamp(128, 2048);
        let budget = bytes as u64 / 4;
        Self { run_dir, cache_dir, zstd_level, budget, ram_bytes, dirty_in_ram }
    }
}

/// A lock that this kiosk has asked for.
#[derive(Clone)]
struct Held {
    parcel: ParcelId,
    ask: LockRequest,
    inventory: Inventory,
    /// `None` while the server's answer is missing.
    given: Option<Given>,
}

/// A lock that was given.
#[derive(Clone)]
struct Given {
    reply: LockReply,
    tenure: Arc<Tenure>,
}

impl Held {
    fn give(&mut self, reply: LockReply) {
        let tenure = Arc::new(Tenure::new(self.parcel, self.ask.clone(), &reply));
        self.given = Some(Given { reply, tenure });
    }
}

/// An open parcel and its sockets.
struct Running {
    parcel: Arc<OpenParcel>,
    committed: Option<Committed>,
    /// `None` once the machine can run no further.
    sockets: Option<(GuestServer, DiskServer)>,
}

#[derive(Default)]
struct Work {
    held: Option<Held>,
    /// The last lock that was given back.
    past: Option<Arc<Tenure>>,
    running: Option<Running>,
    rescue: Option<rescue::Rescue>,
}

/// The daemon of one session.
pub struct Daemon {
    settings: Settings,
    sockets: Sockets,
    api: Api,
    board: Arc<Board>,
    engine: Arc<Engine>,
    keys: Mutex<HashMap<ParcelId, ParcelKey>>,
    work: Arc<AsyncMutex<Work>>,
}

impl Daemon {
    /// A daemon that talks to the server behind `api`.
    pub fn new(settings: Settings, api: Api, board: Arc<Board>) -> io::Result<Arc<Self>> {
        let store = Arc::new(Store::open(&settings.cache_dir)?);
        let source = Arc::new(ServerSource(api.clone()));
        let budget = Budget::new(settings.budget, board.clone());
        let engine = Engine::new(store, source, board.clone(), budget, settings.ram_bytes);
        let sockets = Sockets::within(&settings.run_dir);
        Ok(Arc::new(Self {
            settings,
            sockets,
            api,
            board,
            engine,
            keys: Mutex::default(),
            work: Arc::default(),
        }))
    }

    /// The sockets that it serves.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The status board.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Forgets keys, token, plaintext and dirty state.
    pub fn forget(&self) {
        lock(&self.keys).clear();
        self.api.forget_token();
        self.engine.forget();
        if let Ok(mut work) = self.work.try_lock() {
            work.running = None;
        }
    }

    /// Does what is asked, except [`Request::Watch`] and [`Request::Quit`], which the connection sees to.
    pub async fn answer(&self, request: Request) -> Result<Reply, WireError> {
        match request {
            Request::Session { token } => {
                self.api.set_token(token.into_text());
                Ok(Reply::Ok)
            }
            Request::Parcels => {
                let mut parcels = self.api.parcels().await.map_err(|e| e.to_wire())?;
                // One without a version is being made, or was not finished.
                parcels.retain(|parcel| parcel.version > Version(0));
                Ok(Reply::Parcels { parcels })
            }
            Request::Slots { parcel } => {
                let slots = self.api.slots(&parcel).await.map_err(|e| e.to_wire())?;
                let slots = String::from_utf8(slots.to_vec()).map_err(|_| {
                    WireError::new(Code::SlotsUnreadable, "the parcel's key slots are damaged")
                })?;
                Ok(Reply::Slots { slots })
            }
            Request::PutSlots { parcel, slots } => self.put_slots(parcel, slots).await,
            Request::Key { parcel, key } => self.take_key(parcel, key.expose()),
            Request::Lock { parcel, kiosk, boot, inventory, break_lock, cold_boot } => {
                self.lock(parcel, kiosk, boot, inventory, break_lock, cold_boot).await
            }
            Request::Open { parcel, policy, cold_boot, memory_mib } => {
                self.open(parcel, policy, cold_boot, memory_mib).await
            }
            Request::Commit => self.commit().await,
            Request::MemoryLost => self.memory_lost(),
            Request::GoesOn => self.goes_on(),
            Request::Recover { parcel } => self.recover(parcel).await,
            Request::Rescue => self.rescue().await,
            Request::Learn => self.learn().await,
            Request::Unlock => self.unlock().await,
            Request::Status | Request::Watch => Ok(Reply::Status(self.board.status())),
            Request::Quit => {
                self.forget();
                Ok(Reply::Ok)
            }
        }
    }

    /// Steps of a session follow each other; whoever comes between them is told so.
    fn working(&self) -> Result<OwnedMutexGuard<Work>, WireError> {
        let busy = "another step of this session is under way; wait for it";
        self.work.clone().try_lock_owned().map_err(|_| WireError::new(Code::StepUnderWay, busy))
    }

    async fn put_slots(&self, parcel: ParcelId, slots: String) -> Result<Reply, WireError> {
        let held = self.work.try_lock().ok().and_then(|work| work.held.clone());
        let given = held.filter(|held| held.parcel == parcel).and_then(|held| held.given);
        let hold = given.map(|given| given.tenure.hold());
        self.api.put_slots(&parcel, hold.as_ref(), slots.into()).await.map_err(|e| e.to_wire())?;
        Ok(Reply::Ok)
    }

    fn take_key(&self, parcel: ParcelId, key: &str) -> Result<Reply, WireError> {
        let key = ParcelKey::from_hex(key).map_err(|e| WireError::new(Code::BadKey, e.to_string()))?;
        harden::keep_in_ram(key.expose());
        lock(&self.keys).insert(parcel, key);
        Ok(Reply::Ok)
    }

    async fn lock(
        &self,
        parcel: ParcelId,
        kiosk: String,
        boot: BootId,
        inventory: Inventory,
        breaking: bool,
        cold_boot: bool,
    ) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let ask = match &work.held {
            // Asked again, because the answer was lost: the same acquisition.
            Some(held) if held.parcel == parcel && held.ask.kiosk == kiosk && held.ask.boot == boot => {
                if let Some(given) = &held.given {
                    return Ok(Reply::Locked(given.reply.clone()));
                }
                held.ask.clone()
            }
            Some(_) => {
                return Err(WireError::new(
                    Code::OtherParcelLocked,
                    "this kiosk holds the lock of another parcel; unlock it first",
                ));
            }
            None => {
                let inventory = Some(inventory.clone());
                LockRequest { kiosk, boot, claim: claim()?, again: None, inventory, cold_boot }
            }
        };
        let api = self.api.clone();
        // Seen through even when whoever asked has gone: the server may have given the lock, and an unlock must find it.
        let taking = tokio::spawn(async move {
            let mut held = Held { parcel, ask, inventory, given: None };
            work.held = Some(held.clone());
            match api.lock(&parcel, &held.ask, breaking).await {
                Ok(reply) => {
                    held.give(reply.clone());
                    work.held = Some(held);
                    Ok(Reply::Locked(reply))
                }
                Err(error) => {
                    if error.refused() {
                        work.held = None;
                    }
                    Err(error.to_wire())
                }
            }
        });
        taking.await.map_err(|e| WireError::new(Code::InternalError, e.to_string()))?
    }

    async fn open(
        &self,
        parcel: ParcelId,
        policy: Policy,
        cold_boot: bool,
        memory_mib: Option<u64>,
    ) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let held = work.held.clone().filter(|held| held.parcel == parcel).ok_or_else(not_locked)?;
        let given = held.given.clone().ok_or_else(not_locked)?;
        let tenure = &given.tenure;
        let version = given.reply.version;
        if version == Version(0) {
            let text = "this parcel is empty: its import or cloning did not finish; do it again";
            return Err(WireError::new(Code::ParcelEmpty, text));
        }
        let key = lock(&self.keys).get(&parcel).cloned();
        let key =
            key.ok_or_else(|| WireError::new(Code::NoKey, "the parcel's key is not here; log in again"))?;
        if work.running.take().is_none() && journal::left(&self.settings.cache_dir) {
            let text =
                "the changes of a session that did not end are still here; this kiosk has to be wiped first";
            return Err(WireError::new(Code::ChangesLeft, text));
        }
        let record = again(&self.board, self.api.token_renewals(), Stake::Lock, || {
            async { self.api.version(&parcel, version).await.map_err(|e| e.to_wire()) }.boxed()
        });
        let record = record.await?;
        let base = RecordHash::of(&record);
        tenure.based_on(version, base);
        let note = recover::Note::of(&held, &given, base)?;
        let opening = Opening {
            parcel,
            version,
            cold_boot,
            cache: &self.settings.cache_dir,
            dirty_in_ram: self.settings.dirty_in_ram,
            changes: Origin::New(&note),
        };
        let open = OpenParcel::new(&self.engine, key, &record, opening)?;
        let guest = open.record.public.machine.memory_mib;
        let budget = memory_mib.map_or(self.settings.budget, |most| memory::engine_bytes(most, guest));
        self.engine.budget().set(budget);
        tracing::info!(guest_mib = guest, budget_mib = budget >> 20, "memory is shared out");
        open.prepare(policy).await;
        let socket = |error: io::Error| {
            WireError::new(Code::Socket, format!("a socket cannot be made ({error}); restart the kiosk"))
        };
        let disk = DiskServer::start(&self.sockets.disk, open.disk.clone(), parcel).map_err(socket)?;
        let guest =
            GuestServer::start(&self.sockets.guest, &self.sockets.disk, open.clone()).map_err(socket)?;
        self.board.set_dirty(0);
        work.running = Some(Running { parcel: open, committed: None, sockets: Some((guest, disk)) });
        Ok(Reply::Ok)
    }

    async fn commit(&self) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let held = work.held.clone().ok_or_else(not_locked)?;
        let tenure = held.given.as_ref().ok_or_else(not_locked)?.tenure.clone();
        let running = work.running.as_mut().ok_or_else(not_open)?;
        let done = match &running.committed {
            Some(done) => done.clone(),
            None => {
                let sink = self.sink(tenure.clone());
                let level = self.settings.zstd_level;
                let done = commit::commit(&running.parcel, &author(&held), level, sink).await?;
                tracing::info!(version = %done.version, bytes = done.bytes, "committed");
                running.committed = Some(done.clone());
                done
            }
        };
        tenure.came_home(done.version, done.record);
        // What is opened next under this lock is what was committed last.
        if let Some(given) = work.held.as_mut().and_then(|held| held.given.as_mut()) {
            given.reply.version = done.version;
        }
        Ok(Reply::Committed { version: done.version, bytes: done.bytes, memory_lost: done.memory_lost })
    }

    fn memory_lost(&self) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let running = work.running.as_mut().ok_or_else(not_open)?;
        // What the guest still asks of its disk is given up before the disk is looked at.
        running.sockets = None;
        if running.parcel.saved().is_some() {
            tracing::warn!("the VMM ended after it handed the machine over");
            return Ok(Reply::Kept);
        }
        running.parcel.save(Saved::MemoryLost);
        tracing::warn!("the machine's memory is lost; its disk is kept as it is now");
        Ok(Reply::Ok)
    }

    fn goes_on(&self) -> Result<Reply, WireError> {
        let work = self.working()?;
        work.running.as_ref().ok_or_else(not_open)?.parcel.forget_saved();
        Ok(Reply::Ok)
    }

    fn sink(&self, tenure: Arc<Tenure>) -> Arc<ServerSink> {
        Arc::new(ServerSink { api: self.api.clone(), tenure })
    }

    async fn learn(&self) -> Result<Reply, WireError> {
        let work = self.working()?;
        let given = work.held.as_ref().and_then(|held| held.given.as_ref()).map(|given| &given.tenure);
        let tenure = given.or(work.past.as_ref()).ok_or_else(not_locked)?;
        let seen = self.api.parcel(&tenure.parcel).await.map_err(|e| e.to_wire())?;
        Ok(Reply::Learned { held: tenure.is(&seen), committed: tenure.committed(&seen) })
    }

    async fn unlock(&self) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        work.running = None;
        self.give_up_rescue(&mut work).await;
        let Some(held) = work.held.as_mut() else { return Ok(Reply::Ok) };
        let unlocking = again(&self.board, self.api.token_renewals(), Stake::Lock, || {
            let tried = self.unlock_once(held.parcel, held.ask.clone(), held.given.clone());
            async move {
                match tried.await {
                    // The lock of the store that is served now is somebody else's, which is what unlocking is for.
                    Err(error) if error.conflict() && error.code() != Code::OtherStore => Ok(()),
                    tried => tried.map_err(|e| e.to_wire()),
                }
            }
            .boxed()
        });
        unlocking.await?;
        // Everything is home, or its owner gave it up.
        let cache = self.settings.cache_dir.clone();
        let removing = tokio::task::spawn_blocking(move || journal::remove(&cache));
        match tokio::time::timeout(REMOVING, removing).await {
            Ok(Ok(Ok(()))) => {}
            failed => tracing::warn!(?failed, "the kept changes are left to the wipe"),
        }
        work.past = work.held.take().and_then(|held| held.given).map(|given| given.tenure);
        Ok(Reply::Ok)
    }

    /// Gives the lock back; one whose answer is missing is asked for again first, which tells what it is.
    async fn unlock_once(
        &self,
        parcel: ParcelId,
        ask: LockRequest,
        given: Option<Given>,
    ) -> Result<(), ApiError> {
        let hold = match given {
            Some(given) => given.tenure.hold(),
            None => {
                let reply = self.api.lock(&parcel, &ask, false).await?;
                Tenure::new(parcel, ask, &reply).hold()
            }
        };
        self.api.unlock(&parcel, &hold).await
    }
}

/// Who commits.
fn author(held: &Held) -> Author {
    Author { kiosk: held.ask.kiosk.clone(), vendor: held.inventory.vendor.clone() }
}

/// Draws a claim.
fn claim() -> Result<Claim, WireError> {
    random().map(Claim::from_bytes)
}

fn random() -> Result<[u8; 16], WireError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        WireError::new(
            Code::InternalError,
            format!("the kernel gives no random numbers ({e}); restart the kiosk"),
        )
    })?;
    Ok(bytes)
}

fn not_open() -> WireError {
    WireError::new(Code::NotOpen, "no parcel is open, so there is nothing to commit; open one first")
}

fn not_locked() -> WireError {
    WireError::new(Code::NotLocked, "this kiosk does not hold the parcel's lock; take it first")
}
