//! Guest memory as packs and a page map. A *pack* is a chunk of up to 32 pages, any pages, in slot order; the *page map*
//! says for each page of memory which slot of which pack holds it, or that it is zero.
//!
//! The page map is stored in chunks of [`MAP_CHUNK_PAGES`] entries of four bytes, little-endian: 0 is a zero page, else
//! `((pack + 1) << 5) | slot`. A chunk of zero pages only is a hole.

mod plan;

pub use plan::{Dirty, PackPlan, Plan, plan_packs};

use crate::chunk::CHUNK_SIZE;
use std::collections::BTreeMap;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// The most pages in a pack.
pub const PACK_PAGES: usize = CHUNK_SIZE / PAGE_SIZE;
/// Entries in one chunk of the page map: it covers 128 MiB of memory.
pub const MAP_CHUNK_PAGES: usize = CHUNK_SIZE / 4;
/// The highest pack index that an entry can name.
pub const MAX_PACK: u32 = (1 << 27) - 2;
/// The most pages in a map: 1 TiB of memory.
pub const MAX_PAGES: u64 = 1 << 28;

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRef {
    /// Index of the pack: the chunk of that index in the packs image.
    pub pack: u32,
    /// Which page of the pack, 0 to 31.
    pub slot: u8,
}

/// Why a page map or pack was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PagesError {
    /// More memory than a map can describe.
    #[error("{0} pages are more than a page map holds ({MAX_PAGES})")]
    TooMany(u64),
    /// No such chunk of the page map.
    #[error("the page map has no chunk {0}")]
    NoChunk(usize),
    /// A chunk of the page map has another length than its place demands.
    #[error("chunk {chunk} of the page map is {found} bytes long, not {needed}")]
    ChunkLength {
        /// Which chunk.
        chunk: usize,
        /// Its length in bytes.
        found: usize,
        /// The length it should have.
        needed: usize,
    },
    /// An entry that means nothing, or names a pack that does not exist.
    #[error("the page map's entry for page {0} is damaged")]
    Entry(u64),
    /// No such page.
    #[error("the memory has no page {0}")]
    NoPage(u32),
    /// No such pack, or it cannot be named by an entry.
    #[error("pack {0}, slot {1} cannot exist")]
    Pack(u32, u8),
    /// A pack that is too short for a slot, or not made of whole pages.
    #[error("the pack of {len} bytes has no page {slot}")]
    Slot {
        /// Its length in bytes.
        len: usize,
        /// Slot asked for.
        slot: u8,
    },
}

/// Where each page of a memory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageMap {
    /// Entries as they are stored.
    entries: Vec<u32>,
}

impl PageMap {
    /// A memory of zero pages.
    pub fn zero(pages: u64) -> Result<Self, PagesError> {
        if pages > MAX_PAGES {
            return Err(PagesError::TooMany(pages));
        }
        Ok(Self { entries: vec![0; pages as usize] })
    }

    /// Pages of the memory.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// `true` for a memory without a page.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where a page is. `None`: it is zero, or there is no such page.
    pub fn get(&self, page: u32) -> Option<PageRef> {
        self.entries.get(page as usize).copied().and_then(decode)
    }

    /// Says where a page is, or that it is zero.
    pub fn set(&mut self, page: u32, to: Option<PageRef>) -> Result<(), PagesError> {
        let entry = match to {
            None => 0,
            Some(PageRef { pack, slot }) if pack <= MAX_PACK && usize::from(slot) < PACK_PAGES => {
                (pack + 1) << 5 | u32::from(slot)
            }
            Some(PageRef { pack, slot }) => return Err(PagesError::Pack(pack, slot)),
        };
        *self.entries.get_mut(page as usize).ok_or(PagesError::NoPage(page))? = entry;
        Ok(())
    }

    /// Every page that is not zero, ascending, with its place.
    pub fn iter(&self) -> impl Iterator<Item = (u32, PageRef)> {
        self.entries.iter().enumerate().filter_map(|(page, entry)| Some((page as u32, decode(*entry)?)))
    }

    /// One more than the highest pack that a page is in: the packs image has this many chunks.
    pub fn pack_count(&self) -> u32 {
        self.iter().map(|(_, at)| at.pack + 1).max().unwrap_or(0)
    }

    /// The pages in each pack that holds any, as `(page, slot)` in slot order.
    pub fn pages_by_pack(&self) -> BTreeMap<u32, Vec<(u32, u8)>> {
        let mut packs = BTreeMap::<_, Vec<_>>::new();
        for (page, at) in self.iter() {
            packs.entry(at.pack).or_default().push((page, at.slot));
        }
        for pack in packs.values_mut() {
            pack.sort_unstable_by_key(|(_, slot)| *slot);
        }
        packs
    }

    /// Chunks of the stored form.
    pub fn chunk_count(&self) -> usize {
        self.entries.len().div_ceil(MAP_CHUNK_PAGES)
    }

    /// The bytes of a chunk of the stored form; `None` when all its pages are zero (a hole), or there is no such chunk.
    pub fn chunk_bytes(&self, chunk: usize) -> Option<Vec<u8>> {
        let entries = self.entries.chunks(MAP_CHUNK_PAGES).nth(chunk)?;
        if entries.iter().all(|entry| *entry == 0) {
            return None;
        }
        Some(entries.iter().flat_map(|entry| entry.to_le_bytes()).collect())
    }

    /// Takes over a chunk of the stored form; `None` is a hole. `packs` is how many chunks the packs image has: an entry
    /// that names one beyond it is refused. After an error the map is as it was.
    pub fn load_chunk(&mut self, chunk: usize, bytes: Option<&[u8]>, packs: u32) -> Result<(), PagesError> {
        let count = self.chunk_count();
        let target = self.entries.chunks_mut(MAP_CHUNK_PAGES).nth(chunk);
        let target = target.filter(|_| chunk < count).ok_or(PagesError::NoChunk(chunk))?;
        let Some(bytes) = bytes else {
            target.fill(0);
            return Ok(());
        };
        let needed = target.len() * 4;
        if bytes.len() != needed {
            return Err(PagesError::ChunkLength { chunk, found: bytes.len(), needed });
        }
        let (entries, _) = bytes.as_chunks::<4>();
        let mut fresh = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let entry = u32::from_le_bytes(*entry);
            let good = entry == 0 || decode(entry).is_some_and(|at| at.pack < packs);
            if !good {
                return Err(PagesError::Entry((chunk * MAP_CHUNK_PAGES + i) as u64));
            }
            fresh.push(entry);
        }
        target.copy_from_slice(&fresh);
        Ok(())
    }
}

/// `None` for a zero page; also for entries 1 to 31, which mean nothing and which [`PageMap::load_chunk`] refuses.
fn decode(entry: u32) -> Option<PageRef> {
    let pack = (entry >> 5).checked_sub(1)?;
    Some(PageRef { pack, slot: (entry & 31) as u8 })
}

/// A page of an opened pack.
pub fn page_of(pack: &[u8], slot: u8) -> Result<&[u8; PAGE_SIZE], PagesError> {
    let error = PagesError::Slot { len: pack.len(), slot };
    let (pages, rest) = pack.as_chunks::<PAGE_SIZE>();
    if pages.len() > PACK_PAGES || !rest.is_empty() {
        return Err(error);
    }
    pages.get(usize::from(slot)).ok_or(error)
}
