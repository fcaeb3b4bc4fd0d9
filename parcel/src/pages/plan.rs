//! What a suspend writes: which pages go into which new packs.

use super::{MAP_CHUNK_PAGES, PACK_PAGES, PageMap, PageRef, PagesError};
use std::collections::BTreeSet;

/// A page that may have changed since the last version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirty {
    /// Its number in the guest's memory.
    pub page: u32,
    /// `true` when it holds zeros only.
    pub zero: bool,
}

/// One new pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// Its index in the packs image.
    pub index: u32,
    /// Its pages in slot order, 1 to 32. The pack's plaintext is their bytes, one page after the other.
    pub pages: Vec<u32>,
}

/// What a suspend writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where every page is afterwards.
    pub map: PageMap,
    /// Packs to write, in the order of the pages handed in: the first are likely to be touched first.
    pub packs: Vec<PackPlan>,
    /// Pack indexes that held pages and hold none any more: holes from now on.
    pub freed: Vec<u32>,
    /// Chunks of the page map that are different now.
    pub map_chunks: BTreeSet<usize>,
}

impl Plan {
    /// Pages that are written.
    pub fn pages_written(&self) -> usize {
        self.packs.iter().map(|pack| pack.pages.len()).sum()
    }
}

/// Plans a suspend.
///
/// `dirty` are the pages that may have changed, those first that are likely to be touched first at resume; a page named twice
/// counts once. Their contents go into new packs in this order. A pack of which fewer than half of the slots are still in use
/// afterwards is given up: the pages left in it follow in the last new packs, provided that `at_hand` says of each that its
/// bytes can be had without fetching them. New packs take indexes that no page refers to, lowest first.
///
/// A page that is rewritten for the sake of its pack has been paid for: 17 pages of a full pack must have changed
/// before its 15 or fewer others are moved, so beside the last, unfilled pack of each suspend less than one page is moved for each that changed.
pub fn plan_packs(
    old: &PageMap,
    dirty: impl IntoIterator<Item = Dirty>,
    mut at_hand: impl FnMut(u32) -> bool,
) -> Result<Plan, PagesError> {
    let mut map = old.clone();
    let mut touched = BTreeSet::new();
    let mut order = Vec::new();
    for Dirty { page, zero } in dirty {
        if u64::from(page) >= map.len() {
            return Err(PagesError::NoPage(page));
        }
        if touched.insert(page) {
            map.set(page, None)?;
            if !zero {
                order.push(page);
            }
        }
    }

    // `map` now says which slots of old packs are still in use.
    let mut used = map.pages_by_pack();
    let stale = used.extract_if(.., |_, pages| {
        pages.len() < PACK_PAGES / 2 && pages.iter().all(|(page, _)| at_hand(*page))
    });
    for (page, _) in stale.flat_map(|(_, pages)| pages) {
        map.set(page, None)?;
        touched.insert(page);
        order.push(page);
    }

    let mut free = (0..).filter(|index| !used.contains_key(index));
    let mut packs = Vec::with_capacity(order.len().div_ceil(PACK_PAGES));
    for pages in order.chunks(PACK_PAGES) {
        let index: u32 = free.next().unwrap_or(u32::MAX);
        for (slot, page) in pages.iter().enumerate() {
            map.set(*page, Some(PageRef { pack: index, slot: slot as u8 }))?;
        }
        packs.push(PackPlan { index, pages: pages.to_vec() });
    }

    let written: BTreeSet<u32> = packs.iter().map(|pack| pack.index).collect();
    let mut freed: BTreeSet<u32> = touched.iter().filter_map(|page| Some(old.get(*page)?.pack)).collect();
    freed.retain(|index| !used.contains_key(index) && !written.contains(index));
    let map_chunks = touched
        .iter()
        .filter(|page| map.get(**page) != old.get(**page))
        .map(|page| *page as usize / MAP_CHUNK_PAGES)
        .collect();
    Ok(Plan { map, packs, freed: freed.into_iter().collect(), map_chunks })
}
