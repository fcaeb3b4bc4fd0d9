//! The page map and the planning of a suspend, against a naive oracle.

use parcel::{
    chunk::CHUNK_SIZE,
    pages::{
        Dirty, MAP_CHUNK_PAGES, MAX_PACK, MAX_PAGES, PACK_PAGES, PAGE_SIZE, PageMap, PageRef, PagesError,
        Plan, page_of, plan_packs,
    },
};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

/// Memory and store as a naive program would keep them: the content of a page is a number, 0 for zeros.
struct Machine {
    memory: Vec<u64>,
    map: PageMap,
    /// What each pack of the store holds, by index.
    packs: BTreeMap<u32, Vec<u64>>,
    clock: u64,
}

/// What one suspend did.
struct Suspend {
    dirty: usize,
    moved: usize,
    packs: usize,
}

impl Machine {
    fn new(pages: u32) -> Self {
        let map = PageMap::zero(pages.into()).unwrap();
        Self { memory: vec![0; pages as usize], map, packs: BTreeMap::new(), clock: 0 }
    }

    /// Writes to pages, then suspends. `true` stands for writing zeros.
    fn suspend(&mut self, writes: &[(u32, bool)], at_hand: impl FnMut(u32) -> bool) -> (Plan, Suspend) {
        for (page, zero) in writes {
            self.clock += 1;
            self.memory[*page as usize] = if *zero { 0 } else { self.clock };
        }
        let dirty: Vec<Dirty> = writes
            .iter()
            .map(|(page, _)| Dirty { page: *page, zero: self.memory[*page as usize] == 0 })
            .collect();
        let plan = plan_packs(&self.map, dirty.iter().copied(), at_hand).unwrap();

        let distinct: BTreeSet<u32> = writes.iter().map(|(page, _)| *page).collect();
        let filled = distinct.iter().filter(|page| self.memory[**page as usize] != 0).count();
        for index in &plan.freed {
            assert!(self.packs.remove(index).is_some(), "only what was there is freed");
        }
        for pack in &plan.packs {
            let contents = pack.pages.iter().map(|page| self.memory[*page as usize]).collect();
            self.packs.insert(pack.index, contents);
        }
        let mut stored = self.map.clone();
        for chunk in &plan.map_chunks {
            assert_ne!(
                plan.map.chunk_bytes(*chunk),
                stored.chunk_bytes(*chunk),
                "an unchanged chunk is not written"
            );
            let bytes = plan.map.chunk_bytes(*chunk);
            stored.load_chunk(*chunk, bytes.as_deref(), plan.map.pack_count()).unwrap();
        }
        assert_eq!(stored, plan.map, "the chunks named are all that changed");
        self.map = stored;
        let packs = plan.packs.len();
        let written = plan.pages_written();
        (plan, Suspend { dirty: distinct.len(), moved: written - filled, packs })
    }

    /// Every page reads back as its latest content.
    fn check(&self) {
        for (page, content) in self.memory.iter().enumerate() {
            let found = match self.map.get(page as u32) {
                None => 0,
                Some(PageRef { pack, slot }) => self.packs[&pack][usize::from(slot)],
            };
            assert_eq!(found, *content, "page {page}");
        }
        let used: BTreeSet<u32> = self.map.iter().map(|(_, at)| at.pack).collect();
        let kept: BTreeSet<u32> = self.packs.keys().copied().collect();
        assert_eq!(used, kept, "a pack is kept exactly while a page is in it");
    }
}

const PAGES: u32 = 600;

fn history() -> impl Strategy<Value = Vec<Vec<(u32, bool)>>> {
    let write = (0..PAGES, prop::bool::weighted(0.2));
    vec(prop_oneof![vec(write.clone(), 0..20), vec(write, 0..600)], 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_page_maps_to_its_latest_content(history in history()) {
        let mut machine = Machine::new(PAGES);
        for writes in history {
            machine.suspend(&writes, |_| true);
            machine.check();
        }
    }

    #[test]
    fn so_it_does_when_old_pages_are_not_at_hand(history in history(), seed: u32) {
        let mut machine = Machine::new(PAGES);
        for writes in history {
            let away = |page: u32| page.wrapping_mul(seed | 1).is_multiple_of(3);
            let before = machine.map.clone();
            let (plan, _) = machine.suspend(&writes, |page| !away(page));
            machine.check();
            for pack in plan.packs {
                for page in pack.pages {
                    let dirty = writes.iter().any(|(other, _)| *other == page);
                    prop_assert!(dirty || !away(page), "page {page} of {:?} was not at hand", before.get(page));
                }
            }
        }
    }

    /// What is written grows with the pages dirtied, over any history: one dirtied page pays for less than one moved one,
    /// and each suspend leaves at most one unfilled pack, of at most 15 pages that may be moved later.
    #[test]
    fn what_is_written_grows_with_the_pages_dirtied(history in history()) {
        let mut machine = Machine::new(PAGES);
        let (mut dirty, mut moved, mut suspends) = (0, 0, 0);
        for writes in history {
            let (_, done) = machine.suspend(&writes, |_| true);
            dirty += done.dirty;
            moved += done.moved;
            suspends += 1;
            prop_assert!(moved * 17 <= dirty * 15 + 15 * 17 * suspends, "{moved} moved for {dirty} in {suspends} suspends");
            prop_assert!(done.packs <= (done.dirty + done.moved).div_ceil(PACK_PAGES));
        }
    }

    /// The store does not fill with stale slots, when everything is at hand.
    #[test]
    fn no_pack_stays_mostly_stale(history in history()) {
        let mut machine = Machine::new(PAGES);
        for writes in history {
            let (plan, _) = machine.suspend(&writes, |_| true);
            let fresh = plan.packs.last().map(|pack| pack.index);
            for (index, pages) in machine.map.pages_by_pack() {
                prop_assert!(pages.len() >= PACK_PAGES / 2 || fresh == Some(index), "pack {index}: {} pages", pages.len());
            }
            // So there are at most twice as many as pages need, and indexes stay low.
            let live = machine.map.iter().count();
            prop_assert!(machine.packs.len() <= live / (PACK_PAGES / 2) + 1);
        }
    }

    #[test]
    fn the_stored_form_goes_round(entries in vec((0u64..3 * MAP_CHUNK_PAGES as u64, 0..=MAX_PACK, 0u8..32), 0..50), pages in 1u64..3 * MAP_CHUNK_PAGES as u64) {
        let mut map = PageMap::zero(pages).unwrap();
        for (page, pack, slot) in entries {
            let _ = map.set(page as u32, Some(PageRef { pack, slot }));
        }
        let mut read = PageMap::zero(pages).unwrap();
        for chunk in 0..map.chunk_count() {
            let bytes = map.chunk_bytes(chunk);
            prop_assert!(bytes.as_ref().is_none_or(|bytes| bytes.len() <= CHUNK_SIZE));
            read.load_chunk(chunk, bytes.as_deref(), map.pack_count()).unwrap();
        }
        prop_assert!(read == map);
        let naive: Vec<_> = (0..pages as u32).filter_map(|page| Some((page, map.get(page)?))).collect();
        prop_assert_eq!(map.iter().collect::<Vec<_>>(), naive);
    }
}

fn dirty(pages: impl IntoIterator<Item = u32>) -> Vec<Dirty> {
    pages.into_iter().map(|page| Dirty { page, zero: false }).collect()
}

#[test]
fn pages_are_packed_in_the_order_given() {
    let map = PageMap::zero(1000).unwrap();
    let order: Vec<u32> = (0..70).map(|i| (i * 37) % 1000).collect();
    let plan = plan_packs(&map, dirty(order.iter().copied()), |_| true).unwrap();
    let packed: Vec<u32> = plan.packs.iter().flat_map(|pack| pack.pages.clone()).collect();
    assert_eq!(packed, order);
    assert_eq!(
        plan.packs.iter().map(|pack| (pack.index, pack.pages.len())).collect::<Vec<_>>(),
        [(0, 32), (1, 32), (2, 6)]
    );
}

#[test]
fn a_suspend_that_changed_nothing_writes_nothing() {
    let map = plan_packs(&PageMap::zero(100).unwrap(), dirty(0..64), |_| true).unwrap().map;
    let plan = plan_packs(&map, [], |_| true).unwrap();
    assert_eq!(plan, Plan { map, packs: vec![], freed: vec![], map_chunks: BTreeSet::new() });
}

#[test]
fn a_freed_index_is_used_again_and_a_zeroed_pack_is_a_hole() {
    let map = plan_packs(&PageMap::zero(1000).unwrap(), dirty(0..96), |_| true).unwrap().map;
    let again = plan_packs(&map, dirty(32..64), |_| true).unwrap();
    assert_eq!(again.packs[0].index, 1);
    assert_eq!(again.freed, [0u32; 0]);
    assert_eq!(again.map_chunks, BTreeSet::new(), "every page is where it was");
    let zeroed = plan_packs(&map, (64..96).map(|page| Dirty { page, zero: true }), |_| true).unwrap();
    assert_eq!((zeroed.packs.len(), zeroed.freed, zeroed.map.pack_count()), (0, vec![2], 2));
}

#[test]
fn a_mostly_stale_pack_is_given_up() {
    let map = plan_packs(&PageMap::zero(1000).unwrap(), dirty(0..64), |_| true).unwrap().map;
    let half = plan_packs(&map, dirty(0..16), |_| true).unwrap();
    assert_eq!(half.packs[0].pages, (0..16).collect::<Vec<_>>(), "16 of 32 still in use: it stays");
    let most = plan_packs(&map, dirty(0..17), |_| true).unwrap();
    assert_eq!(most.packs[0].pages, (0..32).collect::<Vec<_>>(), "15 of 32: they move");
    let away = plan_packs(&map, dirty(0..17), |page| page != 31).unwrap();
    assert_eq!(away.packs[0].pages, (0..17).collect::<Vec<_>>(), "but not when one would have to be fetched");
}

#[test]
fn pages_outside_the_memory_are_refused() {
    let map = PageMap::zero(10).unwrap();
    assert_eq!(plan_packs(&map, dirty([9, 10]), |_| true), Err(PagesError::NoPage(10)));
    let mut map = map;
    assert_eq!(map.set(10, None), Err(PagesError::NoPage(10)));
    let at = PageRef { pack: MAX_PACK + 1, slot: 0 };
    assert_eq!(map.set(0, Some(at)), Err(PagesError::Pack(MAX_PACK + 1, 0)));
    assert_eq!(map.set(0, Some(PageRef { pack: 0, slot: 32 })), Err(PagesError::Pack(0, 32)));
    assert_eq!(PageMap::zero(MAX_PAGES + 1), Err(PagesError::TooMany(MAX_PAGES + 1)));
    assert_eq!(map.get(10), None);
}

#[test]
fn damaged_chunks_of_the_map_are_refused_and_change_nothing() {
    let mut map = PageMap::zero(10).unwrap();
    map.set(3, Some(PageRef { pack: 1, slot: 2 })).unwrap();
    let before = map.clone();
    let with = |entry: u32| {
        [[0; 4], [0; 4], entry.to_le_bytes()].concat().into_iter().chain([0; 28]).collect::<Vec<_>>()
    };
    for entry in [1, 31, 2 << 5 | 31 | 1 << 31, 3 << 5] {
        assert_eq!(map.load_chunk(0, Some(&with(entry)), 2), Err(PagesError::Entry(2)), "{entry}");
    }
    let short = PagesError::ChunkLength { chunk: 0, found: 39, needed: 40 };
    assert_eq!(map.load_chunk(0, Some(&[0; 39]), 2), Err(short));
    assert_eq!(map.load_chunk(1, Some(&[]), 2), Err(PagesError::NoChunk(1)));
    assert_eq!(map.load_chunk(1, None, 2), Err(PagesError::NoChunk(1)));
    assert_eq!(map, before);
    map.load_chunk(0, Some(&with(2 << 5 | 31)), 2).unwrap();
    assert_eq!(map.get(2), Some(PageRef { pack: 1, slot: 31 }));
    map.load_chunk(0, None, 0).unwrap();
    assert_eq!(map, PageMap::zero(10).unwrap());
}

#[test]
fn a_page_is_taken_out_of_its_pack() {
    let pack: Vec<u8> = (0..3u8).flat_map(|i| [i; PAGE_SIZE]).collect();
    assert_eq!(page_of(&pack, 2), Ok(&[2; PAGE_SIZE]));
    assert_eq!(page_of(&pack, 3), Err(PagesError::Slot { len: pack.len(), slot: 3 }));
    assert!(page_of(&pack[1..], 0).is_err());
    assert!(page_of(&vec![0; CHUNK_SIZE + PAGE_SIZE], 0).is_err());
}
