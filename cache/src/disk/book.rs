//! The book of changed chunks: what each holds, what the journal says of it, and which places of the file on the medium are in
//! use. It touches no medium itself.

use super::{
    journal::{self, Left},
    spill::{Around, PAGE, PLACE_IN_MEMORY, Place, SPILLED},
};
use crate::{fetch::Plain, ram::RamCache};
use parcel::{chunk::CHUNK_SIZE, keyring::ChunkRef};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What the book takes for a chunk beside its bytes, about.
pub const ENTRY: u64 = 192;
/// Where a changed chunk is.
#[derive(Clone)]
pub enum Held {
    /// Nowhere: it is all zeros.
    Zero,
    /// In memory; always a whole chunk.
    Ram(Arc<Plain>),
    /// On the medium.
    Spilled(Place),
}

/// A changed chunk.
pub struct Entry {
    /// Where it is.
    pub held: Held,
    /// Raised with each change of the chunk.
    pub tick: u64,
    /// What it is called as it is now, at the place that changes are committed to.
    pub sent: Option<ChunkRef>,
    /// What the journal says of it.
    pub kept: Option<Kept>,
}

/// What the journal says of a chunk.
#[derive(Clone, Copy)]
pub struct Kept {
    /// As it was then.
    pub tick: u64,
    /// Where that is; `None`: it was all zeros.
    pub at: Option<Place>,
}

/// A chunk's bytes on their way to the medium, and where they go.
pub type Leaving = (Arc<Plain>, Place);

/// The book of changed chunks.
#[derive(Default)]
pub struct Book {
    /// The chunks, by their indexes.
    pub entries: BTreeMap<u64, Entry>,
    /// Chunks in memory, by their ticks.
    pub recent: BTreeMap<u64, u64>,
    /// Chunks that are not in the journal as they are, and a tick before which they were.
    unkept: BTreeMap<u64, u64>,
    /// Chunks that are all zeros, and hold a place until the journal says so.
    pub zeroed: BTreeSet<u64>,
    /// Chunks that are in memory, and hold a place with what they were until the journal says otherwise.
    pub doubled: BTreeSet<u64>,
    /// The last change.
    pub tick: u64,
    /// Bytes of spilled chunks.
    pub copies: RamCache<u64>,
    /// Bytes of the journal.
    pub journal: u64,
    nonces: u64,
    /// Places in the file: of chunks, free, and holes.
    places: u64,
    /// Places with nothing of use in them.
    free: Vec<u64>,
    /// Free places that take no room.
    holes: BTreeSet<u64>,
}

impl Book {
    /// What a killed engine left: all of it is on the medium.
    pub fn take_in(&mut self, left: &Left) {
        for (chunk, at) in &left.chunks {
            self.tick += 1;
            let held = at.map_or(Held::Zero, Held::Spilled);
            let kept = Some(Kept { tick: self.tick, at: *at });
            self.entries.insert(*chunk, Entry { held, tick: self.tick, sent: None, kept });
        }
        let used: BTreeSet<u64> = left.chunks.values().flatten().map(|at| at.place).collect();
        self.places = used.last().map_or(0, |last| last + 1);
        self.free = (0..self.places).filter(|place| !used.contains(place)).collect();
        self.nonces = left.nonces;
    }

    /// A chunk as it is now, with the place that it is to go to; `None`: the journal has it so.
    pub fn leave(&mut self, chunk: u64) -> Option<(u64, Option<Leaving>)> {
        let entry = self.entries.get(&chunk)?;
        if entry.kept.is_some_and(|kept| kept.tick == entry.tick) {
            return None;
        }
        let tick = entry.tick;
        let plain = match &entry.held {
            Held::Zero => return Some((tick, None)),
            Held::Ram(plain) => plain.clone(),
            // Nothing comes to the medium but through here.
            Held::Spilled(_) => return None,
        };
        self.nonces += 1;
        let place = self.free.pop().or_else(|| self.holes.pop_first()).unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        Some((tick, Some((plain, Place { place, nonce: self.nonces }))))
    }

    /// A chunk takes new bytes.
    pub fn put(&mut self, chunk: u64, held: Held) {
        self.tick += 1;
        let tick = self.tick;
        if matches!(held, Held::Ram(_)) {
            self.recent.insert(tick, chunk);
        }
        self.unkept.entry(chunk).or_insert(tick);
        let kept = self.entries.get(&chunk).and_then(|old| old.kept);
        if let Some(old) = self.entries.insert(chunk, Entry { held, tick, sent: None, kept }) {
            self.recent.remove(&old.tick);
        }
        self.note_stale(chunk);
    }

    /// A chunk is in the journal. Gives the place of what was there of it before, which is of no use any more. Meanwhile the chunk
    /// may have changed.
    pub fn was_kept(&mut self, chunk: u64, kept: Kept) -> Option<u64> {
        let entry = self.entries.get_mut(&chunk)?;
        let old = entry.kept.replace(kept);
        if entry.tick == kept.tick {
            self.unkept.remove(&chunk);
        } else {
            self.unkept.insert(chunk, kept.tick + 1);
        }
        self.note_stale(chunk);
        old.and_then(|old| old.at).map(|at| at.place)
    }

    /// The first chunk from this one on that the journal has not as it was at `tick`.
    pub fn unkept(&self, from: u64, tick: u64) -> Option<u64> {
        self.unkept.range(from..).find(|(_, since)| **since <= tick).map(|(chunk, _)| *chunk)
    }

    /// Changes a chunk that is in memory; `false` when it is not there.
    pub fn change(&mut self, chunk: u64, with: impl FnOnce(&mut [u8])) -> bool {
        let Some(entry) = self.entries.get_mut(&chunk) else { return false };
        let Held::Ram(plain) = &mut entry.held else { return false };
        // One that is just leaving for the medium, or is being sent, goes there as it was.
        let plain: &mut Plain = Arc::make_mut(plain);
        with(plain);
        self.recent.remove(&entry.tick);
        self.tick += 1;
        (entry.tick, entry.sent) = (self.tick, None);
        self.recent.insert(self.tick, chunk);
        self.unkept.entry(chunk).or_insert(self.tick);
        self.note_stale(chunk);
        true
    }

    /// Notes whether a chunk holds a place with what it was.
    pub fn note_stale(&mut self, chunk: u64) {
        let stale =
            |entry: &&Entry| entry.kept.is_some_and(|kept| kept.at.is_some() && kept.tick != entry.tick);
        let held = self.entries.get(&chunk).filter(stale).map(|entry| &entry.held);
        for (set, is) in [
            (&mut self.zeroed, matches!(held, Some(Held::Zero))),
            (&mut self.doubled, matches!(held, Some(Held::Ram(_)))),
        ] {
            if is {
                set.insert(chunk)
            } else {
                set.remove(&chunk)
            };
        }
    }

    /// Nothing of use is in a place any more.
    pub fn frees(&mut self, place: u64) {
        self.free.push(place);
    }

    /// All places that are free and take room, the last of them first.
    pub fn free(&self) -> Vec<u64> {
        self.free.iter().rev().copied().collect()
    }

    /// What can go of the file with a free place.
    pub fn around(&self, place: u64) -> Around {
        let hole = |place: u64| place >= self.places || self.holes.contains(&place);
        Around { place, before: place == 0 || hole(place - 1), after: hole(place + 1) }
    }

    /// A free place takes no room any more.
    pub fn emptied(&mut self, place: u64) {
        match self.free.last() {
            Some(last) if *last == place => drop(self.free.pop()),
            _ => self.free.retain(|free| *free != place),
        }
        self.holes.insert(place);
    }

    /// Bytes of the file's places, were none of them holes.
    pub fn file_len(&self) -> u64 {
        self.places * SPILLED as u64
    }

    /// What the changed chunks take of the machine's memory; `in_memory`: the medium is memory, too.
    pub fn takes(&self, in_memory: bool) -> u64 {
        // The journal counts with what it is still to say of them.
        let journal = self.journal + self.unkept.len() as u64 * journal::ENTRY as u64;
        let filed =
            (self.places - self.holes.len() as u64) * PLACE_IN_MEMORY + journal.next_multiple_of(PAGE);
        // What leaves memory for a place there takes no more than before.
        let (filed, chunk) = if in_memory { (filed, PLACE_IN_MEMORY) } else { (0, CHUNK_SIZE as u64) };
        self.recent.len() as u64 * chunk + filed + self.entries.len() as u64 * ENTRY
    }

    /// Lets go of a chunk in memory that is on the medium as it is; `false` when it is not.
    pub fn leaves_memory(&mut self, chunk: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&chunk) else { return false };
        let (Held::Ram(_), Some(Kept { tick, at: Some(at) })) = (&entry.held, entry.kept) else {
            return false;
        };
        if tick != entry.tick {
            return false;
        }
        entry.held = Held::Spilled(at);
        self.recent.remove(&tick);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_keeps_what_was_changed_before_it_and_nothing_else() {
        let mut book = Book::default();
        let plain = || Held::Ram(Arc::new(Plain::new(vec![0; CHUNK_SIZE])));
        [1, 2, 4].into_iter().for_each(|chunk| book.put(chunk, plain()));
        let began = book.tick;
        // Those come later, and these are changed again.
        [3, 9].into_iter().for_each(|chunk| book.put(chunk, plain()));
        assert!(book.change(1, |bytes| bytes[0] = 1));
        book.put(2, Held::Zero);
        let of_flush = |book: &Book| {
            std::iter::successors(book.unkept(0, began), |chunk| book.unkept(chunk + 1, began))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_flush(&book), [1, 2, 4]);
        let keep = |book: &mut Book, chunk, tick| {
            assert_eq!(book.was_kept(chunk, Kept { tick, at: None }), None);
        };
        let last = book.tick;
        // It was kept as it was when the flush began, and has changed since.
        keep(&mut book, 1, began);
        assert_eq!(of_flush(&book), [2, 4]);
        assert_eq!(book.unkept(0, last), Some(1));
        // This was on its way to the medium before the flush began.
        keep(&mut book, 4, began - 1);
        assert_eq!(of_flush(&book), [2, 4]);
        keep(&mut book, 4, began);
        keep(&mut book, 2, last);
        assert_eq!(of_flush(&book), [0; 0]);
    }
}
