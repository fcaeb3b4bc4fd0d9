//! A heap that forgets: memory is zeroed when it is freed.
//!
//! The manager outlives sessions. Names that passed through it (a principal, a parcel) would stay in its free lists
//! for the next traveller's memory dump. What the kernel does for pages (`init_on_free`), this does for its heap.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with freed memory zeroed.
pub struct Forgetful;

// SAFETY: every call goes to the system's allocator with the layout it was made with. `realloc` is the trait's own:
// a new block, a copy, and `dealloc` of the old one, so moved contents are zeroed too.
unsafe impl GlobalAlloc for Forgetful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a live block of `layout.size()` bytes that nobody else uses any more.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(block.cast::<std::mem::MaybeUninit<u8>>(), layout.size())
        };
        zeroize::Zeroize::zeroize(bytes);
        // SAFETY: as above; the block came from the same allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::unix::fs::FileExt};

    /// Below the size at which the system's allocator unmaps what is freed.
    const LEN: usize = 96 << 10;

    #[test]
    fn freed_and_moved_memory_is_zero() {
        let layout = Layout::from_size_align(LEN, 8).unwrap();
        // SAFETY: layouts match. The freed block is read through /proc/self/mem, so no freed pointer is dereferenced.
        unsafe {
            let block = Forgetful.alloc(layout);
            std::ptr::write_bytes(block, 0xa5, LEN);
            let grown = Forgetful.realloc(block, layout, 2 * LEN);
            assert!(std::slice::from_raw_parts(grown, LEN).iter().all(|byte| *byte == 0xa5));
            let mut old = vec![0u8; LEN];
            File::open("/proc/self/mem").unwrap().read_exact_at(&mut old, block as u64).unwrap();
            // The allocator writes its own links into a free block, and another thread may take a part of it.
            let kept = old.iter().filter(|byte| **byte == 0xa5).count();
            assert!(kept < LEN / 64, "{kept} of {LEN} bytes are kept");
            Forgetful.dealloc(grown, Layout::from_size_align(2 * LEN, 8).unwrap());
        }
    }
}
