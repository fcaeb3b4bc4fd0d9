//! A guest's memory: the memfd that the VMM hands over, filled from packs at resume and read at suspend.

use crate::{
    fetch::{Class, Keep, Plain},
    keyring::Keyring,
    status::{Step, lock},
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};
use parcel::{
    chunk::CHUNK_SIZE,
    keyring::ImageKind,
    pages::{Dirty, PAGE_SIZE, PageMap, Plan, page_of, plan_packs},
    wire::{Code, WireError, guest::Region},
};
use std::{
    ffi::c_void,
    io,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::{Arc, Mutex},
};
use zeroize::Zeroizing;

/// Packs being fetched and opened at once.
const RESTORING: usize = 12;

/// A shared mapping of the guest's memory. The guest itself may write to it at any time, so it is only copied from
/// and to, never referred to.
pub struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping is not bound to a thread, and it is accessed by copying bytes only; that copies of bytes which
// another thread or process writes meanwhile may be torn is allowed for everywhere.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `pages` pages of a memfd, and forbids its owner to shrink it, which would end this process at the
    /// next touch.
    pub fn new(memfd: &OwnedFd, pages: u64) -> io::Result<Self> {
        let bytes = pages * PAGE_SIZE as u64;
        fcntl(memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK))?;
        let size = nix::sys::stat::fstat(memfd)?.st_size;
        let len = usize::try_from(bytes).ok().and_then(NonZeroUsize::new);
        let Some(len) = len.filter(|_| size as u64 >= bytes) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the memory is smaller than the machine's",
            ));
        };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing one.
        let start = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, memfd, 0)? };
        Ok(Self { start, len: len.get() })
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        (self.len / PAGE_SIZE) as u64
    }

    fn page(&self, page: u32) -> *mut u8 {
        let offset = page as usize * PAGE_SIZE;
        assert!(offset + PAGE_SIZE <= self.len, "page {page} is beyond the mapping");
        // SAFETY: the offset was just checked to be within the mapping.
        unsafe { self.start.as_ptr().cast::<u8>().add(offset) }
    }

    /// Copies a page's bytes to the end of `into`.
    pub fn read(&self, page: u32, into: &mut Vec<u8>) {
        let from = self.page(page);
        let at = into.len();
        into.resize(at + PAGE_SIZE, 0);
        // SAFETY: `from` is a whole page within the mapping, the target was just made that long, and the two do not
        // overlap, for the mapping is no Rust allocation.
        unsafe { std::ptr::copy_nonoverlapping(from, into[at..].as_mut_ptr(), PAGE_SIZE) }
    }

    /// Writes a page.
    pub fn write(&self, page: u32, from: &[u8; PAGE_SIZE]) {
        let to = self.page(page);
        // SAFETY: `to` is a whole page within the mapping, and `from` is not in it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, PAGE_SIZE) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

/// Checks the layout that a VMM sends for a memory of `pages` pages: whole pages, ascending, without overlap in the file,
/// and all of the memory.
pub fn check_regions(regions: &[Region], pages: u64) -> Result<(), WireError> {
    let bad =
        |why: &str| WireError::new(Code::BadMemoryLayout, format!("the VMM's memory layout is wrong: {why}"));
    let page = PAGE_SIZE as u64;
    let mut spans = Vec::new();
    let mut above = 0;
    for region in regions {
        let aligned = [region.guest_addr, region.file_offset, region.len].iter().all(|n| n % page == 0);
        let end = region.guest_addr.checked_add(region.len);
        let file_end = region.file_offset.checked_add(region.len);
        let (Some(end), Some(file_end)) = (end, file_end) else { return Err(bad("a region has no end")) };
        if !aligned || region.len == 0 || region.guest_addr < above {
            return Err(bad("regions are whole pages in ascending order"));
        }
        above = end;
        spans.push((region.file_offset, file_end));
    }
    spans.sort_unstable();
    let gapless = spans.iter().try_fold(0, |at, (from, to)| (*from == at).then_some(*to));
    if gapless != Some(pages * page) {
        return Err(bad(&format!("the file is not the machine's {} MiB, each once", (pages * page) >> 20)));
    }
    Ok(())
}

/// What each page held at resume: a keyed hash, 0 for what was not filled in. So a page that is only said to be dirty, or
/// was written with what it held, is not sent.
struct Fingerprints {
    key: Arc<Zeroizing<[u8; 32]>>,
    pages: Vec<u128>,
}

impl Fingerprints {
    fn new(pages: u64) -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(io::Error::other)?;
        Ok(Self { key: Arc::new(key), pages: vec![0; pages as usize] })
    }

    fn of(key: &[u8; 32], page: &[u8]) -> u128 {
        let hash = blake3::keyed_hash(key, page);
        u128::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i]))
    }
}

/// The memory of a running machine, and what it was when it started.
pub struct GuestMemory {
    mapping: Arc<Mapping>,
    base: PageMap,
    prints: Fingerprints,
}

impl GuestMemory {
    /// Memory of a machine that boots: all zeros.
    pub fn blank(mapping: Mapping) -> Result<Self, WireError> {
        let base = PageMap::zero(mapping.pages())
            .map_err(|e| WireError::new(Code::BadMemoryLayout, e.to_string()))?;
        let prints = Fingerprints::new(mapping.pages()).map_err(internal)?;
        Ok(Self { mapping: Arc::new(mapping), base, prints })
    }

    /// Fills the memory from a suspended version's packs, all of it; pages of zeros stay untouched.
    pub async fn restore(mapping: Mapping, keyring: &Keyring, step: &Step) -> Result<Self, WireError> {
        let mut memory = Self::blank(mapping)?;
        memory.base = load_map(keyring, memory.mapping.pages()).await?;
        let packs = memory.base.pages_by_pack();
        step.grow(packs.values().map(|pages| (pages.len() * PAGE_SIZE) as u64).sum());
        let prints = Mutex::new(std::mem::take(&mut memory.prints.pages));
        let filling = stream::iter(packs).map(|(pack, pages)| {
            let (memory, prints) = (&memory, &prints);
            async move {
                let plain = keyring.chunk(ImageKind::Packs, u64::from(pack), Class::Demand, Keep::No).await;
                let plain = plain.ok_or_else(|| bad_map("a pack in use is a hole"))?;
                let bytes = (pages.len() * PAGE_SIZE) as u64;
                let found = memory.fill(plain, pages).await?;
                let mut prints = lock(prints);
                found.into_iter().for_each(|(page, print)| prints[page as usize] = print);
                drop(prints);
                step.add(bytes);
                Ok::<_, WireError>(())
            }
            .boxed()
        });
        filling.buffer_unordered(RESTORING).try_collect::<()>().await?;
        memory.prints.pages = prints.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(memory)
    }

    /// Copies pages out of a pack, on a thread that may be busy for a while; their fingerprints.
    async fn fill(&self, pack: Arc<Plain>, pages: Vec<(u32, u8)>) -> Result<Vec<(u32, u128)>, WireError> {
        let (mapping, key) = (self.mapping.clone(), self.prints.key.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut found = Vec::with_capacity(pages.len());
            for (page, slot) in pages {
                let bytes = page_of(&pack, slot).map_err(bad_map)?;
                mapping.write(page, bytes);
                found.push((page, Fingerprints::of(&key, bytes)));
            }
            Ok(found)
        });
        work.await.map_err(|e| internal(io::Error::other(e)))?
    }

    /// Which of the pages in `bitmap` (one bit a page, least significant first) changed, and how packs are made of them.
    pub fn plan(&self, bitmap: &[u8]) -> Result<Plan, WireError> {
        let mut dirty = Vec::new();
        let mut bytes = Zeroizing::new(Vec::with_capacity(PAGE_SIZE));
        for page in 0..self.mapping.pages() as u32 {
            let marked = bitmap.get(page as usize / 8).is_some_and(|byte| byte >> (page % 8) & 1 == 1);
            if !marked {
                continue;
            }
            bytes.clear();
            self.mapping.read(page, &mut bytes);
            let zero = bytes.iter().all(|byte| *byte == 0);
            let same = match self.prints.pages[page as usize] {
                0 => zero && self.base.get(page).is_none(),
                print => print == Fingerprints::of(&self.prints.key, &bytes),
            };
            if !same {
                dirty.push(Dirty { page, zero });
            }
        }
        plan_packs(&self.base, dirty, |_| true).map_err(bad_map)
    }

    /// The bytes of a pack made of `pages`.
    pub fn pack(&self, pages: &[u32]) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(CHUNK_SIZE));
        for page in pages {
            self.mapping.read(*page, &mut bytes);
        }
        bytes
    }
}

fn bad_map(why: impl ToString) -> WireError {
    let text =
        format!("the saved memory does not fit together ({}); boot from the disk instead", why.to_string());
    WireError::new(Code::BadMemoryImage, text)
}

fn internal(error: io::Error) -> WireError {
    WireError::new(Code::InternalError, error.to_string())
}

async fn load_map(keyring: &Keyring, pages: u64) -> Result<PageMap, WireError> {
    let mut map = PageMap::zero(pages).map_err(bad_map)?;
    if keyring.bytes(ImageKind::PageMap) != Some(pages * 4) {
        return Err(bad_map("the page map is not of this size of memory"));
    }
    let packs = keyring.bytes(ImageKind::Packs).unwrap_or(0).div_ceil(CHUNK_SIZE as u64) as u32;
    let chunks = (0..map.chunk_count()).map(|chunk| {
        let plain = keyring.chunk(ImageKind::PageMap, chunk as u64, Class::Demand, Keep::No);
        async move { (chunk, plain.await) }.boxed()
    });
    let mut chunks = stream::iter(chunks).buffer_unordered(RESTORING);
    while let Some((chunk, plain)) = chunks.next().await {
        map.load_chunk(chunk, plain.as_ref().map(|plain| plain.as_slice()), packs).map_err(bad_map)?;
    }
    Ok(map)
}

/// The memory, shared between the guest's socket and the commit.
pub type SharedMemory = Arc<GuestMemory>;
