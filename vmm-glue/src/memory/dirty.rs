//! Which pages may have changed: the union of KVM's log, the VMM's own writes and the disk backend's log, as one bit
//! per page of the memory file.

use super::{GuestRam, PAGE, sealed_memfd};
use crate::error::{Error, Result};
use parcel::wire::guest::Region;
use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU8, Ordering},
};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, bitmap::Bitmap, mmap::MmapRegion};

/// One bit per page of the memory file, least significant bit of each byte first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyBitmap {
    pages: u64,
    bits: Vec<u8>,
}

impl DirtyBitmap {
    /// No page set.
    pub fn new(bytes: u64) -> Self {
        let pages = bytes.div_ceil(PAGE);
        Self { pages, bits: vec![0; pages.div_ceil(8) as usize] }
    }

    /// Sets the page with this index; one outside the memory is ignored.
    pub fn set(&mut self, page: u64) {
        if page < self.pages {
            self.bits[(page / 8) as usize] |= 1 << (page % 8);
        }
    }

    /// Sets the pages that hold the file's bytes from `start`, `len` of them.
    pub fn set_range(&mut self, start: u64, len: u64) {
        if len > 0 {
            let last = start.saturating_add(len - 1) / PAGE;
            for page in start / PAGE..=last.min(self.pages.saturating_sub(1)) {
                self.set(page);
            }
        }
    }

    /// Sets pages from 64-bit words, least significant bit first, the first bit being the page at `start`.
    pub fn set_words(&mut self, start: u64, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                self.set(start / PAGE + index as u64 * 64 + u64::from(rest.trailing_zeros()));
                rest &= rest - 1;
            }
        }
    }

    /// Sets the pages of guest physical addresses from `addr`.
    pub fn set_guest_range(&mut self, regions: &[Region], addr: u64, len: u64) {
        for region in regions {
            let start = addr.max(region.guest_addr);
            let end = addr.saturating_add(len).min(region.guest_addr + region.len);
            if start < end {
                self.set_range(region.file_offset + (start - region.guest_addr), end - start);
            }
        }
    }

    /// `true` when the page is set.
    pub fn is_set(&self, page: u64) -> bool {
        page < self.pages && self.bits[(page / 8) as usize] & (1 << (page % 8)) != 0
    }

    /// How many pages are set.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|b| u64::from(b.count_ones())).sum()
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// A memfd that holds the bytes.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn to_memfd(&self) -> Result<File> {
        memfd_of(c"guest-dirty", &self.bits)
    }

    /// Adds the pages that the VMM itself wrote through [`super::Memory`]; they stay marked there.
    pub fn add_own_writes(&mut self, ram: &GuestRam) {
        for (region, place) in ram.memory.iter().zip(&ram.regions) {
            let bitmap = region.bitmap();
            for page in 0..place.len / PAGE {
                if bitmap.dirty_at((page * PAGE) as usize) {
                    self.set(place.file_offset / PAGE + page);
                }
            }
        }
    }

    /// Adds the pages that the memory file has allocated. Right only for a memory that began as zeroes: there a page
    /// that was never allocated still reads as zeroes.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn add_allocated(&mut self, file: &File) -> Result<()> {
        use nix::unistd::{Whence, lseek};
        let mut at = 0;
        loop {
            let start = match lseek(file, at, Whence::SeekData) {
                Ok(start) => start,
                // No data from here on.
                Err(nix::errno::Errno::ENXIO) => return Ok(()),
                Err(e) => return Err(Error::io("looking for used guest memory")(e)),
            };
            at =
                lseek(file, start, Whence::SeekHole).map_err(Error::io("looking for unused guest memory"))?;
            self.set_range(start as u64, (at - start) as u64);
        }
    }
}

/// A memfd that holds `bytes`.
///
/// # Errors
/// The system's refusal.
pub fn memfd_of(name: &std::ffi::CStr, bytes: &[u8]) -> Result<File> {
    let file = sealed_memfd(name, bytes.len() as u64)?;
    file.write_all_at(bytes, 0).map_err(Error::io(format!("writing memory file {name:?}")))?;
    Ok(file)
}

/// The log into which the disk's backend notes the pages it writes: one bit per page of guest *physical* address,
/// shared as a memfd, never cleared.
pub struct BackendLog {
    file: File,
    map: MmapRegion<()>,
}

impl BackendLog {
    /// A log for guest physical addresses below `end`.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new(end: u64) -> Result<Self> {
        let bytes = end.div_ceil(PAGE * 8).next_multiple_of(PAGE);
        let file = sealed_memfd(c"disk-log", bytes)?;
        let shared = file.try_clone().map_err(Error::io("disk log"))?;
        let map = MmapRegion::from_file(vm_memory::FileOffset::new(shared, 0), bytes as usize)
            .map_err(|e| Error::Memory(format!("cannot map the disk log: {e}")))?;
        Ok(Self { file, map })
    }

    /// The memfd.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.map.size() as u64
    }

    /// `true` when it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.map.size() == 0
    }

    /// Adds what the backend noted.
    pub fn add_to(&self, dirty: &mut DirtyBitmap, regions: &[Region]) {
        for index in 0..self.map.size() {
            // SAFETY: the mapping is `size` bytes long and lives as long as `self`; the other process may write it at
            // any time, hence the atomic access; a byte needs no alignment.
            let byte = unsafe { AtomicU8::from_ptr(self.map.as_ptr().add(index)) }.load(Ordering::Acquire);
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                dirty.set_guest_range(regions, (index as u64 * 8 + bit) * PAGE, PAGE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use vm_memory::{Bytes, GuestAddress};

    fn set_pages(bitmap: &DirtyBitmap) -> BTreeSet<u64> {
        (0..bitmap.pages).filter(|p| bitmap.is_set(*p)).collect()
    }

    #[test]
    fn own_writes_are_found_in_file_order() {
        let ram = GuestRam::new(64).unwrap();
        ram.memory.write_slice(&[1; 5000], GuestAddress(0x5ff0)).unwrap();
        let mut dirty = DirtyBitmap::new(ram.bytes());
        dirty.add_own_writes(&ram);
        assert_eq!(set_pages(&dirty), BTreeSet::from([5, 6, 7]));
        dirty.add_own_writes(&ram);
        assert_eq!(dirty.count(), 3, "reading does not forget");
    }

    #[test]
    fn allocated_pages_are_those_touched() {
        let ram = GuestRam::new(64).unwrap();
        ram.memory.write_slice(&[1], GuestAddress(0x20_0000)).unwrap();
        ram.memory.write_slice(&[1], GuestAddress((64 << 20) - 1)).unwrap();
        let mut dirty = DirtyBitmap::new(ram.bytes());
        dirty.add_allocated(&ram.file).unwrap();
        assert_eq!(set_pages(&dirty), BTreeSet::from([512, 16383]));
    }

    #[test]
    fn the_backend_log_is_translated_to_the_file() {
        let bytes = (3 << 30) + (8 << 20);
        let regions = super::super::regions(bytes);
        let log = BackendLog::new((4 << 30) + (8 << 20)).unwrap();
        let page = ((4u64 << 30) + PAGE * 3) / PAGE;
        log.file().write_all_at(&[1 << (page % 8)], page / 8).unwrap();
        let mut dirty = DirtyBitmap::new(bytes);
        log.add_to(&mut dirty, &regions);
        assert_eq!(dirty.count(), 1);
        assert!(dirty.is_set((3 << 30) / PAGE + 3));
    }

    proptest! {
        #[test]
        fn ranges_match_a_naive_oracle(ranges in prop::collection::vec((0u64..400_000, 0u64..20_000), 0..12)) {
            let mut dirty = DirtyBitmap::new(300_000);
            let mut oracle = BTreeSet::new();
            for (start, len) in ranges {
                dirty.set_range(start, len);
                oracle.extend((start..start + len).map(|b| b / PAGE).filter(|p| *p < 300_000u64.div_ceil(PAGE)));
            }
            prop_assert_eq!(set_pages(&dirty), oracle);
        }

        #[test]
        fn words_match_a_naive_oracle(start in 0u64..100, words in prop::collection::vec(any::<u64>(), 0..4)) {
            let mut dirty = DirtyBitmap::new(1 << 20);
            dirty.set_words(start * PAGE, &words);
            let oracle: BTreeSet<u64> = (0..words.len() as u64 * 64)
                .filter(|bit| words[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
                .map(|bit| start + bit)
                .filter(|page| *page < 256)
                .collect();
            prop_assert_eq!(set_pages(&dirty), oracle);
        }
    }
}
