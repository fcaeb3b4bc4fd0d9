//! The daemon: what `cached` holds during a session, and what it does when it is asked.

mod serve;

pub use serve::run;

use crate::{
    commit::{self, Author, Committed},
    disk::serve::DiskServer,
    fetch::Engine,
    guest::GuestServer,
    harden::{self, Sockets},
    open::{OpenParcel, Opening},
    remote::{ServerSink, ServerSource, SinkError, again},
    status::{Board, lock},
    store::Store,
};
use client::api::Api;
use futures::FutureExt as _;
use parcel::{
    id::{Epoch, ParcelId, Version},
    secret::ParcelKey,
    tag::Inventory,
    wire::{
        WireError,
        daemon::{NEEDS_LOGIN, Policy, Reply, Request},
        http::{LockReply, LockRequest},
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

/// How long an unlock is tried before the caller hears of it.
const UNLOCKING: Duration = Duration::from_secs(30);

/// How the daemon is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the sockets.
    pub run_dir: PathBuf,
    /// Folder of the local store.
    pub cache_dir: PathBuf,
    /// zstd level of what is sealed.
    pub zstd_level: i32,
    /// Memory for opened chunks, in bytes.
    pub ram_bytes: usize,
    /// Changed chunks kept in memory, at most.
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
        Self { run_dir, cache_dir, zstd_level, ram_bytes, dirty_in_ram }
    }
}

/// A lock that this kiosk holds.
#[derive(Clone)]
struct Held {
    parcel: ParcelId,
    kiosk: String,
    inventory: Inventory,
    reply: LockReply,
}

/// An open parcel and its sockets.
struct Running {
    parcel: Arc<OpenParcel>,
    committed: Option<Committed>,
    _guest: GuestServer,
    _disk: DiskServer,
}

#[derive(Default)]
struct Work {
    held: Option<Held>,
    running: Option<Running>,
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
        let engine = Engine::new(store, source, board.clone(), settings.ram_bytes);
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
                let slots = String::from_utf8(slots.to_vec())
                    .map_err(|_| WireError::new("bad-slots", "the parcel's key slots are damaged"))?;
                Ok(Reply::Slots { slots })
            }
            Request::PutSlots { parcel, slots } => self.put_slots(parcel, slots).await,
            Request::Key { parcel, key } => self.take_key(parcel, key.expose()),
            Request::Lock { parcel, kiosk, inventory, break_lock } => {
                self.lock(parcel, kiosk, inventory, break_lock).await
            }
            Request::Open { parcel, policy, cold_boot } => self.open(parcel, policy, cold_boot).await,
            Request::Commit => self.commit().await,
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
        self.work.clone().try_lock_owned().map_err(|_| WireError::new("busy", busy))
    }

    async fn put_slots(&self, parcel: ParcelId, slots: String) -> Result<Reply, WireError> {
        let held = self.work.try_lock().ok().and_then(|work| work.held.clone());
        let epoch = held.filter(|held| held.parcel == parcel).map(|held| held.reply.epoch);
        self.api.put_slots(&parcel, epoch, slots.into()).await.map_err(|e| e.to_wire())?;
        Ok(Reply::Ok)
    }

    fn take_key(&self, parcel: ParcelId, key: &str) -> Result<Reply, WireError> {
        let key = ParcelKey::from_hex(key).map_err(|e| WireError::new("bad-key", e.to_string()))?;
        harden::keep_in_ram(key.expose());
        lock(&self.keys).insert(parcel, key);
        Ok(Reply::Ok)
    }

    async fn lock(
        &self,
        parcel: ParcelId,
        kiosk: String,
        inventory: Inventory,
        breaking: bool,
    ) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        if let Some(held) = &work.held {
            if held.parcel == parcel && held.kiosk == kiosk {
                return Ok(Reply::Locked(held.reply.clone()));
            }
            return Err(WireError::new(
                "busy",
                "this kiosk holds the lock of another parcel; unlock it first",
            ));
        }
        let body = LockRequest { kiosk: kiosk.clone(), inventory: Some(inventory.clone()) };
        let api = self.api.clone();
        // Seen through even when whoever asked has gone: the server may have given the lock, and an unlock must find it.
        let taking = tokio::spawn(async move {
            let reply = api.lock(&parcel, &body, breaking).await.map_err(|e| e.to_wire())?;
            work.held = Some(Held { parcel, kiosk, inventory, reply: reply.clone() });
            Ok(Reply::Locked(reply))
        });
        taking.await.map_err(|e| WireError::new("internal-error", e.to_string()))?
    }

    async fn open(&self, parcel: ParcelId, policy: Policy, cold_boot: bool) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let held = work.held.as_ref().filter(|held| held.parcel == parcel);
        let version = held.ok_or_else(not_locked)?.reply.version;
        if version == Version(0) {
            let text = "this parcel is empty: its import or cloning did not finish; do it again";
            return Err(WireError::new("parcel-empty", text));
        }
        let key = lock(&self.keys).get(&parcel).cloned();
        let key =
            key.ok_or_else(|| WireError::new("no-key", "the parcel's key is not here; log in again"))?;
        work.running = None;
        let record = again(self.board.clone(), self.api.token_renewals(), || {
            async { self.api.version(&parcel, version).await.map_err(SinkError::patient) }.boxed()
        });
        let record = record.await.map_err(|e| e.error)?;
        let opening = Opening {
            parcel,
            version,
            cold_boot,
            cache: &self.settings.cache_dir,
            dirty_in_ram: self.settings.dirty_in_ram,
        };
        let open = OpenParcel::new(&self.engine, key, &record, &opening)?;
        open.prepare(policy).await;
        let socket = |error: io::Error| {
            WireError::new("socket", format!("a socket cannot be made ({error}); restart the kiosk"))
        };
        let disk = DiskServer::start(&self.sockets.disk, open.disk.clone(), parcel).map_err(socket)?;
        let guest =
            GuestServer::start(&self.sockets.guest, &self.sockets.disk, open.clone()).map_err(socket)?;
        self.board.set_dirty(0);
        work.running = Some(Running { parcel: open, committed: None, _guest: guest, _disk: disk });
        Ok(Reply::Ok)
    }

    async fn commit(&self) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        let held = work.held.clone().ok_or_else(not_locked)?;
        let running = work.running.as_mut().ok_or_else(|| {
            WireError::new("not-open", "no parcel is open, so there is nothing to commit; open one first")
        })?;
        let done = match &running.committed {
            Some(done) => done.clone(),
            None => {
                let author = Author {
                    kiosk: held.kiosk,
                    vendor: held.inventory.vendor,
                    device_model: held.inventory.device_models.last().copied().unwrap_or(0),
                };
                let sink = Arc::new(self.sink(held.parcel, held.reply.epoch));
                let done = commit::commit(&running.parcel, &author, self.settings.zstd_level, sink).await?;
                tracing::info!(version = %done.version, bytes = done.bytes, "committed");
                running.committed = Some(done.clone());
                done
            }
        };
        // What is opened next under this lock is what was committed last.
        if let Some(held) = work.held.as_mut() {
            held.reply.version = done.version;
        }
        Ok(Reply::Committed { version: done.version, bytes: done.bytes })
    }

    fn sink(&self, parcel: ParcelId, epoch: Epoch) -> ServerSink {
        ServerSink { api: self.api.clone(), parcel, epoch, judge: SinkError::patient }
    }

    async fn unlock(&self) -> Result<Reply, WireError> {
        let mut work = self.working()?;
        work.running = None;
        let Some(held) = work.held.clone() else { return Ok(Reply::Ok) };
        // When only a new log-in was missing, whoever asked must hear that.
        let log_in = Mutex::new(None);
        let unlocking = again(self.board.clone(), self.api.token_renewals(), || {
            async {
                let tried = self.api.unlock(&held.parcel, held.reply.epoch).await.map_err(SinkError::patient);
                let error = tried.as_ref().err().map(|tried| tried.error.clone());
                *lock(&log_in) = error.filter(|error| NEEDS_LOGIN.contains(&error.code.as_str()));
                tried
            }
            .boxed()
        });
        match tokio::time::timeout(UNLOCKING, unlocking).await {
            Ok(Ok(())) => {}
            // Broken meanwhile: the lock is somebody else's, which is what unlocking is for.
            Ok(Err(error)) if error.conflict => {}
            Ok(Err(error)) => return Err(error.error),
            Err(_) => {
                let text = "the parcel server does not answer, so the parcel stays locked; break the lock at the next log-in";
                let log_in = lock(&log_in).take();
                return Err(log_in.unwrap_or_else(|| WireError::new("still-locked", text)));
            }
        }
        work.held = None;
        Ok(Reply::Ok)
    }
}

fn not_locked() -> WireError {
    WireError::new("not-locked", "this kiosk does not hold the parcel's lock; take it first")
}
