//! The keyring of an open version: its images' leaves, loaded when they are needed.

use crate::{
    fetch::{Class, Engine, Keep, Plain},
    status::lock,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use parcel::{
    chunk::{CHUNK_SIZE, name_of},
    id::{ChunkName, ParcelId},
    keyring::{ChunkRef, ImageKind, LEAF_REFS, Leaf, LeafError, chunks_for, leaves_for, locate},
    record::ImageInfo,
    secret::{ParcelKey, Secret},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

/// A version record that does not fit together although it is authentic: another program's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the version record's {image:?} image does not fit together ({why}); resume an earlier version")]
pub struct BadImage {
    image: ImageKind,
    why: &'static str,
}

/// Leaves have at most one part in this many of the budget, or a few if that is less.
const PART: u64 = 8;
const FEW: u64 = 1 << 20;

struct Image {
    bytes: u64,
    leaves: Vec<Option<ChunkName>>,
}

/// A leaf that is being loaded, or is.
#[derive(Default)]
struct Slot {
    leaf: Arc<OnceCell<Arc<Leaf>>>,
    /// When it was last wanted.
    tick: u64,
    /// Bytes that it takes, once it is loaded.
    bytes: u64,
}

/// Loaded leaves, least recently used out first.
#[derive(Default)]
struct Leaves {
    slots: BTreeMap<(ImageKind, u32), Slot>,
    tick: u64,
    bytes: u64,
}

impl Leaves {
    /// The leaf in that place, loaded or not.
    fn want(&mut self, place: (ImageKind, u32)) -> Arc<OnceCell<Arc<Leaf>>> {
        self.tick += 1;
        let slot = self.slots.entry(place).or_default();
        slot.tick = self.tick;
        slot.leaf.clone()
    }

    /// One was loaded. Lets others go until all take at most `most` bytes.
    fn loaded(&mut self, place: (ImageKind, u32), leaf: &Arc<OnceCell<Arc<Leaf>>>, bytes: u64, most: u64) {
        let slot = self.slots.get_mut(&place);
        if let Some(slot) = slot.filter(|slot| Arc::ptr_eq(&slot.leaf, leaf) && slot.bytes == 0) {
            slot.bytes = bytes;
            self.bytes += bytes;
        }
        while self.bytes > most {
            let others = self.slots.iter().filter(|(other, slot)| slot.bytes > 0 && **other != place);
            let Some(oldest) = others.min_by_key(|(_, slot)| slot.tick).map(|(other, _)| *other) else {
                return;
            };
            self.bytes -= self.slots.remove(&oldest).map_or(0, |slot| slot.bytes);
        }
    }
}

/// Opens the leaf that a version names. Its sealing vouches for parcel, image and place, which the leaves of all versions
/// share: only the name, which the version record vouches for, tells this version's leaf from an older one's.
pub fn open_leaf(
    bytes: &[u8],
    name: &ChunkName,
    key: &ParcelKey,
    parcel: &ParcelId,
    image: ImageKind,
    index: u32,
) -> Result<Leaf, LeafError> {
    if name_of(bytes) != *name {
        return Err(LeafError::Place { image, index });
    }
    Leaf::open(bytes, key, parcel, image, index)
}

/// The images of one version. Leaves that were wanted lately are in memory.
pub struct Keyring {
    engine: Arc<Engine>,
    parcel: ParcelId,
    key: ParcelKey,
    secrets: Arc<Vec<Secret>>,
    images: BTreeMap<ImageKind, Image>,
    leaves: Mutex<Leaves>,
}

impl Drop for Keyring {
    fn drop(&mut self) {
        self.engine.budget().remove_leaves(lock(&self.leaves).bytes);
    }
}

impl Keyring {
    /// The keyring of `images`, which come from an authentic version record.
    pub fn new(
        engine: Arc<Engine>,
        parcel: ParcelId,
        key: ParcelKey,
        secrets: Arc<Vec<Secret>>,
        images: &[ImageInfo],
    ) -> Result<Self, BadImage> {
        let mut found = BTreeMap::new();
        for info in images {
            let bad = |why| BadImage { image: info.kind, why };
            if info.leaves.len() as u64 != leaves_for(info.bytes) {
                return Err(bad("the number of its leaves is not that of its size"));
            }
            let image = Image { bytes: info.bytes, leaves: info.leaves.clone() };
            if found.insert(info.kind, image).is_some() {
                return Err(bad("it is there twice"));
            }
        }
        Ok(Self { engine, parcel, key, secrets, images: found, leaves: Mutex::default() })
    }

    /// The engine beneath.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Size of an image in bytes, if the version has it.
    pub fn bytes(&self, image: ImageKind) -> Option<u64> {
        self.images.get(&image).map(|image| image.bytes)
    }

    /// Names of an image's leaves.
    pub fn leaf_names(&self, image: ImageKind) -> Vec<Option<ChunkName>> {
        self.images.get(&image).map_or_else(Vec::new, |image| image.leaves.clone())
    }

    /// A leaf, loaded if need be; beyond the image, and where all is holes, an empty one.
    pub async fn leaf(&self, image: ImageKind, index: u32) -> Arc<Leaf> {
        let name = self.images.get(&image).and_then(|found| found.leaves.get(index as usize).copied());
        let Some(name) = name.flatten() else { return Arc::default() };
        let place = (image, index);
        let slot = lock(&self.leaves).want(place);
        let load = async || {
            let (key, parcel) = (self.key.clone(), self.parcel);
            let open =
                move |bytes: &[u8]| Ok(Arc::new(open_leaf(bytes, &name, &key, &parcel, image, index)?));
            self.engine.demand(&name, open).await
        };
        let leaf = slot.get_or_init(load).await.clone();
        let bytes = (size_of::<Leaf>() + leaf.refs.len() * size_of::<Option<ChunkRef>>()) as u64;
        let (budget, mut leaves) = (self.engine.budget(), lock(&self.leaves));
        let before = leaves.bytes;
        leaves.loaded(place, &slot, bytes, (budget.most() / PART).max(FEW));
        match leaves.bytes {
            now if now > before => budget.add_leaves(now - before),
            now if now < before => budget.remove_leaves(before - now),
            _ => {}
        }
        drop(leaves);
        leaf
    }

    /// What a chunk is called and how it is opened; `None` is a hole.
    pub async fn reference(&self, image: ImageKind, chunk: u64) -> Option<ChunkRef> {
        let (leaf, place) = locate(chunk);
        self.leaf(image, leaf).await.refs.get(place).cloned().flatten()
    }

    /// All references of an image, one a chunk.
    pub async fn references(&self, image: ImageKind) -> Vec<Option<ChunkRef>> {
        let chunks = chunks_for(self.bytes(image).unwrap_or(0)) as usize;
        let mut all = Vec::with_capacity(chunks);
        for index in 0..chunks.div_ceil(LEAF_REFS) {
            let mut refs = self.leaf(image, index as u32).await.refs.clone();
            refs.resize(LEAF_REFS.min(chunks - all.len()), None);
            all.append(&mut refs);
        }
        all
    }

    /// A chunk's plaintext; `None` is a hole. May be shorter than the chunk: the rest is zeros.
    pub async fn chunk(&self, image: ImageKind, chunk: u64, class: Class, keep: Keep) -> Option<Arc<Plain>> {
        let want = self.reference(image, chunk).await?;
        Some(self.engine.chunk(&self.secrets, &want, class, keep).await)
    }

    /// A whole small image, such as a kernel; `None` when the version has none.
    pub async fn whole(&self, image: ImageKind, progress: impl Fn(u64) + Sync) -> Option<Plain> {
        let bytes = self.bytes(image)? as usize;
        let mut all = Zeroizing::new(vec![0; bytes]);
        let pieces = (0..chunks_for(bytes as u64))
            .map(|chunk| self.chunk(image, chunk, Class::Demand, Keep::No).boxed());
        let mut pieces = stream::iter(pieces).buffered(8);
        let mut at = 0;
        while let Some(piece) = pieces.next().await {
            let room = CHUNK_SIZE.min(bytes - at);
            if let Some(piece) = piece {
                let have = piece.len().min(room);
                all[at..at + have].copy_from_slice(&piece[..have]);
            }
            at += room;
            progress(room as u64);
        }
        Some(all)
    }
}
