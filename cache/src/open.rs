//! An open parcel: one version of it, its disk, and what the VMM has of it.

use crate::{
    disk::{
        Disk,
        changes::{Changes, Origin},
    },
    fetch::{Class, Engine, Keep, Plain},
    harden,
    keyring::Keyring,
    memory::SharedMemory,
    status::lock,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use parcel::{
    chunk::CHUNK_SIZE,
    id::{ParcelId, Version},
    keyring::ImageKind,
    record::{Record, RecordError},
    secret::ParcelKey,
    wire::{Code, WireError, daemon::Policy},
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

/// What the VMM handed over at the end.
#[derive(Clone)]
pub enum Saved {
    /// It was paused, with its memory.
    Suspended {
        /// The memory.
        memory: SharedMemory,
        /// The VMM's own state.
        state: Arc<Plain>,
        /// One bit a page: may have changed since the start.
        dirty: Arc<Vec<u8>>,
        /// The device model of the state.
        device_model: u32,
    },
    /// The guest powered itself off.
    PoweredOff,
    /// Its memory cannot be had any more. Its disk is as after a power cut.
    MemoryLost,
}

/// What the VMM handed over, and when.
#[derive(Clone)]
pub struct HandedOver {
    /// The saved machine.
    pub saved: Saved,
    /// Seconds since 1970. A commit that is made again is the same commit, so it does not look at the clock itself.
    pub at: u64,
    /// How many requests the disk had been asked by then.
    requests: u64,
}

/// A version of a parcel that a machine runs from.
pub struct OpenParcel {
    /// The version's record.
    pub record: Record,
    /// The parcel key.
    pub key: ParcelKey,
    /// Where its pieces are.
    pub keyring: Arc<Keyring>,
    /// Its disk.
    pub disk: Arc<Disk>,
    /// `true`: its memory is resumed; `false`: it boots.
    pub restored: bool,
    saved: Mutex<Option<HandedOver>>,
}

/// How a version is opened.
pub struct Opening<'a> {
    /// Which parcel.
    pub parcel: ParcelId,
    /// Which version.
    pub version: Version,
    /// Boot although memory was saved.
    pub cold_boot: bool,
    /// The cache folder.
    pub cache: &'a Path,
    /// Changed chunks beyond so many leave memory for the cache folder.
    pub dirty_in_ram: usize,
    /// Where its changes come from.
    pub changes: Origin<'a>,
}

impl OpenParcel {
    /// Opens the version whose sealed record is `record`.
    pub fn new(
        engine: &Arc<Engine>,
        key: ParcelKey,
        record: &[u8],
        how: Opening<'_>,
    ) -> Result<Arc<Self>, WireError> {
        let record = Record::open(record, &key, &how.parcel).map_err(|error| {
            let code = match error {
                RecordError::Sealed => Code::WrongKey,
                RecordError::Format(_) => Code::FormatTooNew,
                _ => Code::RecordDamaged,
            };
            WireError::new(code, error.to_string())
        })?;
        if record.public.version != how.version {
            let text = format!(
                "the server gave version {} for version {}; ask your administrator",
                record.public.version, how.version
            );
            return Err(WireError::new(Code::RecordDamaged, text));
        }
        let secrets = Arc::new(record.private.secrets.clone());
        secrets.iter().for_each(|secret| harden::keep_in_ram(secret.expose()));
        let keyring = Keyring::new(engine.clone(), how.parcel, key.clone(), secrets, &record.public.images)
            .map_err(|e| WireError::new(Code::RecordDamaged, e.to_string()))?;
        let keyring = Arc::new(keyring);
        let whose = (&how.parcel, &key);
        let changes = Changes::new(how.cache, whose, how.changes, engine.clone(), how.dirty_in_ram);
        let changes = changes.map_err(|e| {
            let folder = how.cache.display();
            let text = format!(
                "the kiosk's cache folder {folder} cannot be written ({e}); restart the kiosk, or use another"
            );
            WireError::new(Code::CacheMedium, text)
        })?;
        let disk = Disk::new(keyring.clone(), changes);
        let restored = record.public.suspended() && !how.cold_boot;
        Ok(Arc::new(Self { record, key, keyring, disk, restored, saved: Mutex::new(None) }))
    }

    /// Memory in pages.
    pub fn pages(&self) -> u64 {
        self.record.public.machine.memory_mib << 8
    }

    /// What the VMM handed over, if it did. If the machine has asked its disk for anything since, it went on, and what was
    /// handed over does not go with its disk any more.
    pub fn saved(&self) -> Option<HandedOver> {
        lock(&self.saved).clone().filter(|over| over.requests == self.disk.requests())
    }

    /// Takes over what the VMM hands over.
    pub fn save(&self, saved: Saved) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        *lock(&self.saved) = Some(HandedOver { saved, at, requests: self.disk.requests() });
    }

    /// The machine goes on: what the VMM handed over is not as it is any more.
    pub fn forget_saved(&self) {
        *lock(&self.saved) = None;
    }

    /// Gets what `policy` wants here before the start.
    pub async fn prepare(self: &Arc<Self>, policy: Policy) {
        if policy == Policy::Demand {
            return;
        }
        let memory = self.restored.then_some([ImageKind::PageMap, ImageKind::Packs, ImageKind::State]);
        let boot = (!self.restored).then_some([ImageKind::Kernel, ImageKind::Initrd]);
        let kinds = std::iter::once(ImageKind::Disk)
            .chain(memory.into_iter().flatten())
            .chain(boot.into_iter().flatten());
        let step = self.keyring.engine().board().step(0);
        for kind in kinds {
            let refs = self.keyring.references(kind).await;
            let here: Vec<u64> = (0..).zip(refs).filter_map(|(chunk, one)| one.map(|_| chunk)).collect();
            step.grow((here.len() * CHUNK_SIZE) as u64);
            let fetching = stream::iter(here)
                .map(|chunk| self.keyring.chunk(kind, chunk, Class::Demand, Keep::Store).boxed());
            fetching
                .buffer_unordered(12)
                .for_each(|_| {
                    step.add(CHUNK_SIZE as u64);
                    std::future::ready(())
                })
                .await;
        }
    }
}
