//! The disk as a VMM sees it.

use crate::{
    front::*,
    support::{Rng, World, until},
};
use cache::{
    disk::serve::DiskServer,
    open::{OpenParcel, Saved},
};
use parcel::{
    chunk::CHUNK_SIZE,
    wire::{Code, memory::Room},
};
use std::{
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};
use vhost::{
    VhostBackend as _,
    vhost_user::{Frontend, VhostUserFrontend as _, message::VhostUserConfigFlags},
};

const DISK: usize = 6 * CHUNK_SIZE;
const ID: u32 = 8;
const DISCARD: u32 = 11;

impl Guest {
    /// How many requests were put on the ring so far.
    pub fn offered(&self) -> u16 {
        self.available
    }

    /// Stops the ring; the place of the first request that was not answered.
    pub fn stop(&self) -> u16 {
        self.frontend.get_vring_base(0).unwrap() as u16
    }

    fn dirty(&self, offset: u64) -> bool {
        let page = (BASE + offset) / 4096;
        let mut byte = [0];
        self.log.read_exact_at(&mut byte, page / 8).unwrap();
        byte[0] >> (page % 8) & 1 == 1
    }

    /// Forgets what was written to the page of `offset` and its seven neighbours in the log.
    fn clean(&self, offset: u64) {
        self.log.write_all_at(&[0], (BASE + offset) / 4096 / 8).unwrap();
    }
}

fn start(world: &World, open: &Arc<OpenParcel>) -> (Guest, DiskServer) {
    let path = world.cache.path().join("disk.sock");
    let server = DiskServer::start(&path, open.disk.clone(), world.parcel).unwrap();
    (Guest::attach(&path), server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reads_writes_and_discards() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    let (_, config) = guest.frontend.get_config(0, 60, VhostUserConfigFlags::empty(), &[0; 60]).unwrap();
    assert_eq!(config[..8], (DISK as u64 / 512).to_le_bytes());

    assert_eq!(guest.ask(ID, 0, vec![], 20).await, (0, world.parcel.to_string().as_bytes()[..20].to_vec()));
    let (status, data) = guest.ask(IN, 200, vec![], 0x3000).await;
    assert!(status == 0 && data == disk[200 * 512..200 * 512 + 0x3000]);
    let new = Rng(6).bytes(0x4000);
    assert_eq!(guest.ask(OUT, 250, new.clone(), 0).await.0, 0);
    assert_eq!(guest.ask(FLUSH, 0, vec![], 0).await.0, 0);
    assert_eq!(guest.ask(IN, 250, vec![], 0x4000).await, (0, new));
    let range = |sector: u64, count: u32| {
        [sector.to_le_bytes().to_vec(), count.to_le_bytes().to_vec(), vec![0; 4]].concat()
    };
    assert_eq!(guest.ask(ZEROES, 0, range(251, 2), 0).await.0, 0);
    assert_eq!(guest.ask(IN, 251, vec![], 1024).await, (0, vec![0; 1024]));
    assert_eq!(guest.ask(DISCARD, 0, [range(256, 256), range(600, 1)].concat(), 0).await.0, 0);
    assert_eq!(guest.ask(IN, 300, vec![], 512).await, (0, vec![0; 512]));
    // A part of a chunk that is not here is left as it is: it is not fetched to be forgotten.
    assert_eq!(guest.ask(IN, 600, vec![], 512).await, (0, disk[600 * 512..][..512].to_vec()));
    assert_eq!(guest.ask(DISCARD, 0, range(250, 1), 0).await.0, 0);
    assert_eq!(guest.ask(IN, 250, vec![], 512).await, (0, vec![0; 512]));
    assert!(guest.call.read().unwrap() > 0, "the guest is interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_device_writes_is_in_the_log() {
    let world = World::new(&Rng(5).bytes(DISK), 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    let data = Guest::place(0) + 0x8_0000;
    assert!(!guest.dirty(data));
    // A device may write there, before any request, whether it wants to be kicked.
    guest.clean(USED);
    assert_eq!(guest.ask(IN, 0, vec![], 0x2800).await.0, 0);
    for offset in [data, data + 0x1000, data + 0x2000, USED] {
        assert!(guest.dirty(offset), "{offset:#x}");
    }
    for offset in [data + 0x4000, DESCRIPTORS, AVAILABLE, Guest::place(0)] {
        assert!(!guest.dirty(offset), "{offset:#x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_ring_is_answered_and_harms_nothing() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    let end = DISK as u64 / 512;
    for (kind, sector, out, room) in [
        (IN, end, vec![], 512),
        (IN, end - 1, vec![], 1024),
        (IN, u64::MAX, vec![], 512),
        (IN, 0, vec![], 100),
        (OUT, end, vec![1; 512], 0),
        (OUT, 0, vec![1; 13], 0),
        (DISCARD, 0, vec![255; 16], 0),
        (DISCARD, 0, vec![0; 15], 0),
        (ZEROES, 0, vec![0; 17 * 16], 0),
        (ID, 0, vec![], 3),
    ] {
        assert_eq!(guest.ask(kind, sector, out, room).await.0, 1, "{kind} at {sector} with {room}");
    }
    assert_eq!(guest.ask(77, 0, vec![], 0).await.0, 2, "an unknown kind is unsupported");

    // A header that is too short, a chain without a status byte, one that leaves memory, one that runs in circles, and
    // a head that is no descriptor.
    guest.descriptor(0, Guest::place(0), 8, 1, 1);
    guest.descriptor(1, Guest::place(0) + 64, 1, 2, 0);
    guest.offer(0);
    guest.answered().await;
    guest.descriptor(3, Guest::place(0), 16, 0, 0);
    guest.offer(3);
    guest.answered().await;
    guest.descriptor(6, MEMORY - 8, 64, 1, 7);
    guest.descriptor(7, MEMORY * 2, 512, 2, 0);
    guest.offer(6);
    guest.answered().await;
    guest.descriptor(9, Guest::place(0), 16, 1, 10);
    guest.descriptor(10, Guest::place(0), 16, 1, 9);
    guest.offer(9);
    guest.answered().await;
    let (status, data) = guest.ask(IN, 0, vec![], 512).await;
    assert!(status == 0 && data == disk[..512]);
    assert!(crate::support::whole(&open).await == disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_ring_gives_back_what_cannot_be_done_now() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    assert_eq!(guest.ask(IN, 0, vec![], 512).await.0, 0);
    // Three requests, of which the second can be answered without the server.
    world.server.down.store(true, SeqCst);
    let far = |chunk: usize| chunk as u64 * CHUNK_SIZE as u64 / 512;
    guest.send(1, &Request { kind: IN, sector: far(2), out: vec![], room: 512 });
    guest.send(2, &Request { kind: IN, sector: 1, out: vec![], room: 512 });
    guest.send(3, &Request { kind: OUT, sector: far(4), out: vec![9; 512], room: 0 });
    assert_eq!(guest.answered().await.0, 2);
    let base = guest.frontend.get_vring_base(0).unwrap();
    assert_eq!(base, 2, "four were taken, and two are given back");
    let mut heads: Vec<_> = (2..4).map(|place| guest.u16_at(AVAILABLE + 4 + 2 * place) / 3).collect();
    heads.sort_unstable();
    assert_eq!(heads, [1, 3]);
    assert!(guest.dirty(AVAILABLE), "the ring was written to");

    // Whoever starts the ring again meets them first.
    world.server.down.store(false, SeqCst);
    let mut guest = guest.connect(base as u16);
    let mut answered = [guest.answered().await.0, guest.answered().await.0];
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
    assert!(guest.get(Guest::place(1) + 0x8_0000, 512) == disk[2 * CHUNK_SIZE..][..512]);
    assert_eq!(guest.ask(IN, far(4), vec![], 512).await, (0, vec![9; 512]));
}

/// A request for a piece that is not here, offered as often as the ring has places, and then some more; the guest, and how many
/// requests were taken.
async fn offered_again(world: &World, open: &Arc<OpenParcel>, more: u16) -> (Guest, DiskServer) {
    let (mut guest, server) = start(world, open);
    assert_eq!(guest.ask(IN, 0, vec![], 512).await.0, 0);
    world.server.down.store(true, SeqCst);
    let sector = 2 * CHUNK_SIZE as u64 / 512;
    guest.send(1, &Request { kind: IN, sector, out: vec![], room: 512 });
    (1..SIZE).for_each(|_| guest.offer(3));
    until("they are taken", || open.disk.requests() == 1 + u64::from(SIZE)).await;
    (0..more).for_each(|_| guest.offer(3));
    (guest, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_under_way_than_the_ring_has_places() {
    let world = World::new(&Rng(5).bytes(DISK), 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = offered_again(&world, &open, SIZE).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(open.disk.requests(), 1 + u64::from(SIZE));
    // As each ends, the next is taken.
    world.server.down.store(false, SeqCst);
    for _ in 0..2 * SIZE {
        assert_eq!(guest.answered().await.0, 1);
    }
    assert_eq!(guest.ask(OUT, 3, vec![7; 512], 0).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_with_a_request_many_times_over_is_stopped_all_the_same() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let (guest, _server) = offered_again(&world, &open, 4).await;
    let base = guest.stop();
    assert_eq!(base, SIZE, "it is given back once");
    world.server.down.store(false, SeqCst);
    let mut guest = guest.connect(base);
    for _ in 0..5 {
        assert_eq!(guest.answered().await.0, 1);
    }
    assert!(guest.get(Guest::place(1) + 0x8_0000, 512) == disk[2 * CHUNK_SIZE..][..512]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_that_says_more_than_it_can_have_is_not_read_for_ever() {
    let world = World::new(&Rng(5).bytes(DISK), 64).await;
    let open = world.open(1, false).await;
    let (mut guest, server) = start(&world, &open);
    assert_eq!(guest.ask(IN, 0, vec![], 512).await.0, 0);
    guest.put(AVAILABLE + 2, &(guest.available + SIZE + 1).to_le_bytes());
    guest.kick.write(1).unwrap();
    let kick = format!("/proc/self/fdinfo/{}", guest.kick.as_raw_fd());
    let seen = || {
        let info = std::fs::read_to_string(&kick).unwrap();
        info.lines().any(|line| line.split_whitespace().eq(["eventfd-count:", "0"]))
    };
    until("the kick is seen", seen).await;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        drop(server);
        ended.send(())
    });
    tokio::time::timeout(Duration::from_secs(60), end).await.expect("the device ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_is_void_when_the_machine_goes_on() {
    let world = World::new(&Rng(5).bytes(DISK), 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    assert_eq!(guest.ask(OUT, 3, vec![7; 512], 0).await.0, 0);
    let base = guest.frontend.get_vring_base(0).unwrap();
    open.save(Saved::PoweredOff);
    assert!(open.saved().is_some());
    let mut guest = guest.connect(base as u16);
    assert_eq!(guest.ask(OUT, 3, vec![8; 512], 0).await.0, 0);
    assert_eq!(world.commit(&open).await.unwrap_err().code, Code::NothingSaved);
    guest.frontend.get_vring_base(0).unwrap();
    open.save(Saved::PoweredOff);
    assert_eq!(world.commit(&open).await.unwrap().0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_front_end_follows_another() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    assert_eq!(guest.ask(OUT, 3, vec![7; 512], 0).await.0, 0);
    let Guest { frontend, .. } = guest;
    drop(frontend);
    let frontend = Frontend::connect(world.cache.path().join("disk.sock"), 1).unwrap();
    frontend.set_owner().unwrap();
    assert!(frontend.get_features().unwrap() != 0);
    let mut sector = [0; 512];
    open.disk.read(3 * 512, &mut sector).await.unwrap();
    assert_eq!(sector, [7; 512]);
}

impl Guest {
    /// Puts a request with 4 MiB of data into a slot.
    fn send_much(&mut self, slot: u16, kind: u32) {
        let (at, first, much) = (Self::place(slot), slot * 3, 4 << 20);
        self.put(at, &[kind.to_le_bytes().to_vec(), vec![0; 12]].concat());
        let into = if kind == IN { 2 } else { 0 };
        self.descriptor(first, at, 16, 1, first + 1);
        self.descriptor(first + 1, 0x30_0000, much, 1 | into, first + 2);
        self.descriptor(first + 2, at + 0x8_0000, 1, 2, 0);
        self.offer(first);
    }

    /// Asks with the last slot, and is answered before all others.
    async fn overtakes(&mut self, kind: u32, sector: u64, out: Vec<u8>) {
        self.send(4, &Request { kind, sector, out, room: 0 });
        assert_eq!(self.answered().await.0, 4);
        assert_eq!(self.get(Self::place(4) + 0x8_0000, 1), [0], "{kind} at {sector}");
    }
}

/// As much as may be under way waits: reads for their pieces, writes for room.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_holds_up_nothing_that_needs_no_room() {
    for kind in [IN, OUT] {
        let world = World::new(&Rng(5).bytes(40 * CHUNK_SIZE), 64).await;
        let open = world.open(1, false).await;
        let (mut guest, _server) = start(&world, &open);
        let far = |chunk: u64| chunk * CHUNK_SIZE as u64 / 512;
        for chunk in 34..38 {
            assert_eq!(guest.ask(OUT, far(chunk), vec![7; 512], 0).await.0, 0);
        }
        until("two have left memory", || open.disk.changes().iter().filter(|one| one.spilled).count() == 2)
            .await;
        world.server.down.store(true, SeqCst);
        world.engine.budget().add_leaves(64 << 20);
        (0..4).for_each(|slot| guest.send_much(slot, kind));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let range = |sector: u64, count: u32| {
            [sector.to_le_bytes().to_vec(), count.to_le_bytes().to_vec(), vec![0; 4]].concat()
        };
        guest.overtakes(FLUSH, 0, vec![]).await;
        if kind == IN {
            guest.overtakes(OUT, far(37), vec![8; 512]).await;
        }
        // Parts of one on the medium and of one in memory, and a whole one; then parts of what is all zeros.
        let some = [range(far(34), 8), range(far(37) + 8, 8), range(far(36), 256)].concat();
        guest.overtakes(DISCARD, 0, some).await;
        guest.overtakes(ZEROES, 0, range(far(36) + 8, 8)).await;
        guest.overtakes(DISCARD, 0, range(far(36) + 8, 8)).await;
        let mut bytes = vec![1; CHUNK_SIZE];
        open.disk.read(36 * CHUNK_SIZE as u64, &mut bytes).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        open.disk.read(37 * CHUNK_SIZE as u64, &mut bytes).await.unwrap();
        let first = if kind == IN { 8 } else { 7 };
        assert!(bytes[..512] == [first; 512] && bytes[4096..8192] == [0; 4096]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_wait_for_room_and_a_discard_does_without() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let (mut guest, _server) = start(&world, &open);
    let chunk = CHUNK_SIZE as u64 / 512;
    let whole = |index: u64| [(index * chunk).to_le_bytes(), chunk.to_le_bytes()].concat();
    let dirty = || world.board.status().dirty_chunks;
    world.engine.budget().add_leaves(64 << 20);
    guest.send(1, &Request { kind: ZEROES, sector: 0, out: whole(2), room: 0 });
    until("it waits", || world.board.status().room == Room::None).await;
    guest.overtakes(DISCARD, 0, whole(3)).await;
    guest.overtakes(FLUSH, 0, vec![]).await;
    for index in [2, 3] {
        let was = disk[index * CHUNK_SIZE..][..512].to_vec();
        assert_eq!(guest.ask(IN, index as u64 * chunk, vec![], 512).await, (0, was));
    }
    assert_eq!(dirty(), 0);
    world.engine.budget().remove_leaves(64 << 20);
    assert_eq!(guest.answered().await.0, 1);
    guest.overtakes(DISCARD, 0, whole(3)).await;
    for index in [2, 3] {
        assert_eq!(guest.ask(IN, index * chunk, vec![], 512).await, (0, vec![0; 512]));
    }
    assert_eq!(dirty(), 2);
}

/// Requests come and go while the server does; the ring is stopped and started at any time. Each slot works on a chunk
/// of its own, and two only read, so that theirs has to be fetched again.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_or_answered_twice() {
    const SLOTS: u16 = 5;
    for seed in 1..=2 {
        let mut disk = Rng(5).bytes(DISK);
        let world = World::new(&disk, 64).await;
        world.server.flaky.store(3, SeqCst);
        let open = world.try_open(1, false, 1).await.unwrap();
        let (mut guest, _server) = start(&world, &open);
        let mut rng = Rng(seed);
        // What a slot waits for: where, and what was read or written there.
        let mut asked: [Option<(usize, Option<Vec<u8>>)>; SLOTS as usize] = Default::default();
        let mut given_back = 0;
        for round in 0..80 {
            let slot = rng.next() as u16 % SLOTS;
            if asked[usize::from(slot)].is_none() {
                let sector = rng.next() as usize % 200;
                let at = usize::from(slot) * CHUNK_SIZE + sector * 512;
                let len = (1 + rng.next() as usize % 4) * 512;
                let out = (slot < 3 && rng.next().is_multiple_of(2)).then(|| rng.bytes(len));
                let (kind, room) = if out.is_some() { (OUT, 0) } else { (IN, len as u32) };
                let sector = at as u64 / 512;
                guest.send(slot, &Request { kind, sector, out: out.clone().unwrap_or_default(), room });
                let expected = out.clone().unwrap_or_else(|| disk[at..at + len].to_vec());
                asked[usize::from(slot)] = Some((at, Some(expected).filter(|_| out.is_none())));
                if let Some(bytes) = out {
                    disk[at..at + len].copy_from_slice(&bytes);
                }
            }
            if round % 40 == 20 {
                world.server.down.store(true, SeqCst);
                world.engine.forget();
                world.engine.store().give_up(u64::MAX);
            }
            if round % 40 == 30 {
                let base = guest.frontend.get_vring_base(0).unwrap() as u16;
                given_back += guest.available.wrapping_sub(base);
                world.server.down.store(false, SeqCst);
                guest = guest.connect(base);
            }
            // The device gets to work on some, and not on others.
            tokio::time::sleep(Duration::from_millis(rng.next() % 8)).await;
            while guest.u16_at(USED + 2) != guest.used {
                let (slot, _) = guest.answered().await;
                let (_, expected) = asked[usize::from(slot)].take().expect("it was asked, and once");
                let data = Guest::place(slot) + 0x8_0000;
                let len = expected.as_ref().map_or(0, Vec::len);
                assert_eq!(guest.get(data + len as u64, 1), [0]);
                assert!(expected.is_none_or(|bytes| bytes == guest.get(data, len)));
            }
        }
        for _ in 0..asked.iter().flatten().count() {
            let (slot, _) = guest.answered().await;
            assert!(asked[usize::from(slot)].take().is_some());
        }
        assert!(crate::support::whole(&open).await == disk);
        assert!(given_back > 0, "seed {seed} tests less than it should");
    }
}
