//! What is kept free, and from what.
//!
//! A write that is let in counts until it is on the disk, so that many at once do not take the same space. Near its end it counts twice,
//! in what is let in and in what the file system lacks; so chunks under way are never more than a share of the reserve, or they would
//! keep a record out of room that is there.

use nix::sys::statvfs::statvfs;
use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// What is kept free at most, or a hundredth of the file system if that is less: where chunks filled the last page, no lock could be
/// taken or given back, and no commit whose chunks are there could come to its end.
const RESERVE: Amount = Amount { bytes: 64 << 20, files: 4096 };
/// The share of it that records and key slots leave for heads: however many versions somebody commits, locks are taken and given back.
const FOR_HEADS: u64 = 4;
/// The share of it that chunks under way may take together.
const UNDER_WAY: u64 = 2;
/// What a new parcel takes: its folders and its head.
const PARCEL: Amount = Amount { bytes: 64 << 10, files: 4 };
/// A write takes whole blocks.
const BLOCK: u64 = 4096;

/// What is written. Heads of parcels that are there are not asked for: they may take what is left, so that where anything
/// else fills the store, every lock is still taken, broken and given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What a commit names: chunks and leaves.
    Chunk,
    /// A parcel that was not there: its folders and its head.
    Parcel,
    /// A version record, or key slots.
    Record,
}

/// Bytes and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub bytes: u64,
    pub files: u64,
}

impl Kind {
    /// It leaves the reserve divided by this.
    fn share(self) -> u64 {
        match self {
            Self::Chunk | Self::Parcel => 1,
            Self::Record => FOR_HEADS,
        }
    }

    fn takes(self, bytes: usize) -> Amount {
        match self {
            Self::Chunk | Self::Record => Amount { bytes: (bytes as u64).next_multiple_of(BLOCK), files: 1 },
            Self::Parcel => PARCEL,
        }
    }
}

/// A file system. Some do not know their size, or how many files they hold: they say 0, and say so when they are full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    pub all: Amount,
    pub free: Amount,
}

/// A look at the file system that `root` is on.
pub(super) fn look(root: &Path) -> io::Result<Disk> {
    let disk = statvfs(root)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    Ok(Disk {
        all: Amount { bytes: bytes(disk.blocks()), files: disk.files() },
        free: Amount { bytes: bytes(disk.blocks_available()), files: disk.files_available() },
    })
}

/// The writes that were let in and are not done.
#[derive(Debug, Default)]
pub(super) struct Space {
    under_way: Mutex<UnderWay>,
    /// One of them is done.
    done: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    all: Amount,
    /// Bytes of chunks in it.
    chunks: u64,
}

impl Space {
    /// Lets a write in, until what is returned is dropped. A chunk may have to wait for other chunks.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`]: it would take what is kept free. Else what `look` says.
    pub(super) fn room(
        &self,
        kind: Kind,
        bytes: usize,
        look: impl Fn() -> io::Result<Disk>,
    ) -> io::Result<Room<'_>> {
        let amount = kind.takes(bytes);
        let mut under_way = self.under_way();
        // Under the mutex: what another write takes is seen on the disk, or in the count, or in both.
        let mut disk = look()?;
        while kind == Kind::Chunk
            && under_way.chunks > 0
            && under_way.chunks + amount.bytes > reserve(disk.all).bytes / UNDER_WAY
            && disk.all.bytes > 0
        {
            under_way = self.done.wait(under_way).unwrap_or_else(PoisonError::into_inner);
            disk = look()?;
        }
        let kept = reserve(disk.all);
        let fits = |all: u64, free: u64, kept: u64, wanted: u64| {
            all == 0 || free.saturating_sub(kept / kind.share()) >= wanted
        };
        let all =
            Amount { bytes: under_way.all.bytes + amount.bytes, files: under_way.all.files + amount.files };
        if !fits(disk.all.bytes, disk.free.bytes, kept.bytes, all.bytes)
            || !fits(disk.all.files, disk.free.files, kept.files, all.files)
        {
            return Err(ErrorKind::StorageFull.into());
        }
        under_way.all = all;
        if kind == Kind::Chunk {
            under_way.chunks += amount.bytes;
        }
        Ok(Room { space: self, kind, amount })
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept free of a file system of this size.
fn reserve(all: Amount) -> Amount {
    Amount { bytes: RESERVE.bytes.min(all.bytes / 100), files: RESERVE.files.min(all.files / 100) }
}

/// Room for a write.
#[derive(Debug)]
pub(super) struct Room<'a> {
    space: &'a Space,
    kind: Kind,
    amount: Amount,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut under_way = self.space.under_way();
        under_way.all.bytes -= self.amount.bytes;
        under_way.all.files -= self.amount.files;
        if self.kind == Kind::Chunk {
            under_way.chunks -= self.amount.bytes;
        }
        self.space.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk(all: u64, free: u64) -> impl Fn() -> io::Result<Disk> {
        move || {
            Ok(Disk {
                all: Amount { bytes: all, files: 1 << 20 },
                free: Amount { bytes: free, files: 1 << 19 },
            })
        }
    }

    #[test]
    fn writes_under_way_do_not_share_room() {
        for (kind, kept) in [(Kind::Chunk, 64 * MIB), (Kind::Record, 16 * MIB)] {
            let space = Space::default();
            let disk = disk(1 << 40, kept + 2 * MIB);
            let first = space.room(kind, 1 << 20, &disk).unwrap();
            let second = space.room(kind, 1 << 20, &disk).unwrap();
            let third = space.room(kind, 1, &disk).unwrap_err();
            assert_eq!(third.kind(), ErrorKind::StorageFull, "{kind:?}");
            drop(second);
            // What was refused takes nothing.
            let _second = space.room(kind, 1 << 20, &disk).unwrap();
            drop(first);
            space.room(kind, 1 << 20, &disk).unwrap();
        }
    }

    #[test]
    fn chunks_and_parcels_leave_room_for_records_and_these_for_heads() {
        let space = Space::default();
        // All, free, and what is let in.
        for (all, free, lets) in [
            (1 << 40, 65 * MIB, [true, true, true]),
            (1 << 40, 64 * MIB, [false, false, true]),
            (1 << 40, 16 * MIB, [false, false, false]),
            (100 * MIB, 2 * MIB, [true, true, true]),
            (100 * MIB, MIB, [false, false, true]),
            (100 * MIB, MIB / 4, [false, false, false]),
            (0, 0, [true, true, true]),
        ] {
            let kinds = [Kind::Chunk, Kind::Parcel, Kind::Record];
            let let_in = kinds.map(|kind| space.room(kind, 4096, disk(all, free)).is_ok());
            assert_eq!(let_in, lets, "{free} of {all}");
        }
        for (free, lets) in [(4100, true), (4099, false)] {
            let few = || {
                let all = Amount { bytes: 0, files: 1 << 20 };
                Ok(Disk { all, free: Amount { bytes: 0, files: free } })
            };
            assert_eq!(space.room(Kind::Parcel, 0, few).is_ok(), lets);
        }
        let failing = || Err(ErrorKind::PermissionDenied.into());
        assert!(space.room(Kind::Chunk, 1 << 30, failing).is_err());
        assert_eq!(*space.under_way(), UnderWay::default());
    }

    #[test]
    fn chunks_under_way_keep_no_record_out_of_the_reserve() {
        let space = Space::default();
        let before = disk(1 << 40, 64 * MIB + 40 * MIB);
        let mut rooms: Vec<_> = (0..32).map(|_| space.room(Kind::Chunk, 1 << 20, &before).unwrap()).collect();
        let (entered, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _room = space.room(Kind::Chunk, 1 << 20, &before).unwrap();
                entered.send(()).unwrap();
            });
            // They are on the disk, and none of them is done: each counts twice.
            let after = disk(1 << 40, 64 * MIB + 8 * MIB);
            for kind in [Kind::Record, Kind::Record] {
                space.room(kind, 1 << 20, &after).unwrap();
            }
            assert_eq!(waits.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty), "more than the share");
            rooms.pop();
            waits.recv().unwrap();
        });
        drop(rooms);
        assert_eq!(*space.under_way(), UnderWay::default());
        // One that is larger than the share goes alone.
        let small = disk(100 * MIB, 50 * MIB);
        drop(space.room(Kind::Chunk, 1 << 20, &small).unwrap());
    }
}
