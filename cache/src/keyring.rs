//! The keyring of an open version: its images' leaves, loaded when they are needed.

use crate::fetch::{Class, Engine, Keep, Plain};
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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
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

struct LeafSlot {
    name: Option<ChunkName>,
    leaf: OnceCell<Arc<Leaf>>,
}

struct Image {
    bytes: u64,
    leaves: Vec<LeafSlot>,
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

/// The images of one version. Its leaves stay in memory once they are loaded.
pub struct Keyring {
    engine: Arc<Engine>,
    parcel: ParcelId,
    key: ParcelKey,
    secrets: Arc<Vec<Secret>>,
    images: BTreeMap<ImageKind, Image>,
    /// Bytes of the loaded leaves.
    loaded: AtomicU64,
}

impl Drop for Keyring {
    fn drop(&mut self) {
        self.engine.budget().remove_leaves(self.loaded.load(Relaxed));
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
            let slot = |name: &Option<ChunkName>| LeafSlot { name: *name, leaf: OnceCell::new() };
            let image = Image { bytes: info.bytes, leaves: info.leaves.iter().map(slot).collect() };
            if found.insert(info.kind, image).is_some() {
                return Err(bad("it is there twice"));
            }
        }
        Ok(Self { engine, parcel, key, secrets, images: found, loaded: AtomicU64::new(0) })
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
        self.images
            .get(&image)
            .map_or_else(Vec::new, |image| image.leaves.iter().map(|leaf| leaf.name).collect())
    }

    /// A leaf, loaded if need be; beyond the image, and where all is holes, an empty one.
    pub async fn leaf(&self, image: ImageKind, index: u32) -> Arc<Leaf> {
        let slot = self.images.get(&image).and_then(|found| found.leaves.get(index as usize));
        let Some((slot, name)) = slot.and_then(|slot| slot.name.map(|name| (slot, name))) else {
            return Arc::default();
        };
        let load = async || {
            let (key, parcel) = (self.key.clone(), self.parcel);
            let open =
                move |bytes: &[u8]| Ok(Arc::new(open_leaf(bytes, &name, &key, &parcel, image, index)?));
            let leaf = self.engine.demand(&name, open).await;
            let bytes = (leaf.refs.len() * size_of::<Option<ChunkRef>>()) as u64;
            self.loaded.fetch_add(bytes, Relaxed);
            self.engine.budget().add_leaves(bytes);
            leaf
        };
        slot.leaf.get_or_init(load).await.clone()
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
