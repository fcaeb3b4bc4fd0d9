//! Guest memory: one shared memfd, mapped below and above the gap under 4 GiB.

pub mod dirty;
pub mod lazy;

use crate::{
    error::{Error, Result},
    layout,
};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use parcel::wire::guest::{MEMORY_MIB, Region};
use std::{fs::File, sync::Arc};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    bitmap::AtomicBitmap, mmap::MmapRegion,
};

/// Guest memory that remembers which pages the VMM wrote.
pub type Memory = GuestMemoryMmap<AtomicBitmap>;

/// Bytes of a page, everywhere in this crate.
pub const PAGE: u64 = 4096;

/// A guest's memory and the file behind it.
#[derive(Clone)]
pub struct GuestRam {
    /// Mapped regions, ascending.
    pub memory: Memory,
    /// The memfd. Its size is fixed by seals, so no peer can make an access fail.
    pub file: Arc<File>,
    /// The same regions as they travel.
    pub regions: Vec<Region>,
}

/// Splits `bytes` of memory around the gap.
pub fn regions(bytes: u64) -> Vec<Region> {
    let low = bytes.min(layout::LOW_END);
    let mut all = vec![Region { guest_addr: 0, file_offset: 0, len: low }];
    if bytes > low {
        all.push(Region { guest_addr: layout::HIGH_START, file_offset: low, len: bytes - low });
    }
    all
}

/// A memfd of `bytes` zeroes whose size can never change.
pub fn sealed_memfd(name: &std::ffi::CStr, bytes: u64) -> Result<File> {
    let what = || format!("memory file {name:?} of {bytes} bytes");
    let fd =
        memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(Error::io(what()))?;
    let file = File::from(fd);
    file.set_len(bytes).map_err(Error::io(what()))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(Error::io(what()))?;
    Ok(file)
}

impl GuestRam {
    /// `mib` MiB of zeroes.
    ///
    /// # Errors
    /// A size out of bounds, or the system's refusal.
    pub fn new(mib: u64) -> Result<Self> {
        if !MEMORY_MIB.contains(&mib) {
            let (least, most) = (MEMORY_MIB.start(), MEMORY_MIB.end());
            return Err(Error::Machine(format!("memory must be {least} to {most} MiB, not {mib}")));
        }
        let bytes = mib << 20;
        let file = Arc::new(sealed_memfd(c"guest-memory", bytes)?);
        let regions = regions(bytes);
        let mut mapped = Vec::new();
        for region in &regions {
            let at = FileOffset::from_arc(Arc::clone(&file), region.file_offset);
            let mapping = MmapRegion::from_file(at, region.len as usize)
                .map_err(|e| Error::Memory(format!("cannot map {} bytes: {e}", region.len)))?;
            let placed = GuestRegionMmap::new(mapping, GuestAddress(region.guest_addr))
                .ok_or_else(|| Error::Memory("a region leaves the address space".into()))?;
            mapped.push(placed);
        }
        let memory = Memory::from_regions(mapped).map_err(|e| Error::Memory(e.to_string()))?;
        Ok(Self { memory, file, regions })
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.regions.iter().map(|r| r.len).sum()
    }

    /// Each region with the address of its mapping in this process.
    pub fn mappings(&self) -> Vec<(Region, u64)> {
        let bases = self.memory.iter().map(|r| r.as_ptr() as u64);
        self.regions.iter().copied().zip(bases).collect()
    }

    /// Bytes from the start of guest memory to its last region's end, in guest physical addresses.
    pub fn end(&self) -> u64 {
        self.memory.iter().map(|r| r.start_addr().0 + r.len()).max().unwrap_or(0)
    }
}
