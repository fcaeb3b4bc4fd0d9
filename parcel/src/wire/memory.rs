//! How a kiosk's memory is shared out in a session: guest, `cached`, and what the system keeps.
//!
//! The share is settled before the lock is taken: a kiosk offers a guest no more than [`guest_most`], so that the engine has
//! at least its least share, and what a smaller guest leaves goes to the engine ([`engine_bytes`]).

use serde::{Deserialize, Serialize};

/// What the system keeps beside guest and `cached`, in MiB: the VMM, what waits to be written to the cache's disk, and what
/// the kernel needs for all of it.
const SYSTEM: u64 = 96;
/// What `cached` keeps for itself, in MiB: requests under way, and the room that a suspend needs to seal and send.
const WORKING: u64 = 64;
/// The least that it has for changes and cached pieces, in MiB.
const LEAST: u64 = 64;
/// A guest costs one part in so many more than its memory: page tables, and what is known of each page.
const OVERHEAD: u64 = 32;

/// The largest memory that a guest can have where so much is available, in MiB.
pub fn guest_most(available_mib: u64) -> u64 {
    available_mib.saturating_sub(SYSTEM + WORKING + LEAST) * OVERHEAD / (OVERHEAD + 1)
}

/// What `cached` has for changed chunks and cached pieces, in bytes, beside a guest of `guest_mib` on a kiosk that could have
/// had one of `most_mib`.
pub fn engine_bytes(most_mib: u64, guest_mib: u64) -> u64 {
    let left = most_mib.saturating_sub(guest_mib);
    (LEAST + left + left / OVERHEAD) << 20
}

/// How much room the kiosk's memory still has for what the guest changes on its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Room {
    /// There is enough memory.
    #[default]
    Enough,
    /// Little: the guest's disk is slowed down.
    Little,
    /// None: what the guest writes waits until there is room again, or it is suspended.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_never_exceed_what_is_available() {
        for available in 0..20_000 {
            let most = guest_most(available);
            for guest in
                [0, 1, most / 3, most.saturating_sub(1), most].into_iter().filter(|guest| *guest <= most)
            {
                let all = SYSTEM + WORKING + guest + guest / OVERHEAD + (engine_bytes(most, guest) >> 20);
                assert!(most == 0 || all <= available, "{guest} of {most}: {all} of {available}");
            }
        }
        assert_eq!(guest_most(200), 0);
        assert_eq!(engine_bytes(500, 500), LEAST << 20);
        assert_eq!(
            engine_bytes(100, 500),
            LEAST << 20,
            "a measurement that is not that of the lock wraps nothing"
        );
    }
}
