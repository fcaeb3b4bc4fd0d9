//! The disk as a VMM sees it: the `vhost` crate's front end, and a virtqueue made by hand in a memfd.

use crate::support::{Rng, World};
use cache::{
    disk::serve::DiskServer,
    open::{OpenParcel, Saved},
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parcel::{chunk::CHUNK_SIZE, wire::Code};
use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};
use vhost::{
    VhostBackend as _, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend as _,
        message::{VhostUserConfigFlags, VhostUserProtocolFeatures, VhostUserVirtioFeatures},
    },
};
use vmm_sys_util::eventfd::EventFd;

const MEMORY: u64 = 8 << 20;
/// Where the guest's memory is in the guest's addresses, so that no test confuses addresses with offsets.
const BASE: u64 = 0x4000_0000;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x10000;
const SIZE: u16 = 16;
const DISK: usize = 6 * CHUNK_SIZE;

/// The guest: memory, and a queue whose descriptors it hands out by threes.
pub struct Guest {
    memory: File,
    log: File,
    frontend: Frontend,
    call: EventFd,
    kick: EventFd,
    available: u16,
    used: u16,
    _server: Option<DiskServer>,
}

pub struct Request {
    pub kind: u32,
    pub sector: u64,
    pub out: Vec<u8>,
    pub room: u32,
}

impl Guest {
    fn start(world: &World, open: &Arc<OpenParcel>) -> Self {
        let path = world.cache.path().join("disk.sock");
        let server = DiskServer::start(&path, open.disk.clone(), world.parcel).unwrap();
        Self { _server: Some(server), ..Self::attach(&path) }
    }

    /// A guest at a disk that somebody else serves.
    pub fn attach(path: &Path) -> Self {
        let memory = File::from(memfd_create(c"guest", MFdFlags::empty()).unwrap());
        memory.set_len(MEMORY).unwrap();
        let log = File::from(memfd_create(c"log", MFdFlags::empty()).unwrap());
        log.set_len((BASE + MEMORY) / 4096 / 8).unwrap();
        let mut frontend = Frontend::connect(path, 1).unwrap();
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        assert_ne!(features & VhostUserVirtioFeatures::LOG_ALL.bits(), 0);
        let protocol = frontend.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::LOG_SHMFD;
        assert!(protocol.contains(wanted));
        frontend.set_protocol_features(wanted).unwrap();
        // Neither EVENT_IDX nor indirect descriptors: this guest uses none.
        frontend.set_features(features & !(1 << 29 | 1 << 28)).unwrap();
        let guest = Self {
            memory,
            log,
            frontend,
            call: EventFd::new(0).unwrap(),
            kick: EventFd::new(0).unwrap(),
            available: 0,
            used: 0,
            _server: None,
        };
        guest.connect(0)
    }

    fn connect(mut self, base: u16) -> Self {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: BASE,
            memory_size: MEMORY,
            userspace_addr: 0x7000_0000_0000,
            mmap_offset: 0,
            mmap_handle: self.memory.as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).unwrap();
        let log = VhostUserDirtyLogRegion {
            mmap_size: (BASE + MEMORY) / 4096 / 8,
            mmap_offset: 0,
            mmap_handle: self.log.as_raw_fd(),
        };
        self.frontend.set_log_base(0, Some(log)).unwrap();
        let user = |offset: u64| region.userspace_addr + offset;
        let vring = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 1,
            desc_table_addr: user(DESCRIPTORS),
            used_ring_addr: user(USED),
            avail_ring_addr: user(AVAILABLE),
            log_addr: Some(BASE + USED),
        };
        self.frontend.set_vring_num(0, SIZE).unwrap();
        self.frontend.set_vring_addr(0, &vring).unwrap();
        self.frontend.set_vring_base(0, base).unwrap();
        self.frontend.set_vring_call(0, &self.call).unwrap();
        self.frontend.set_vring_kick(0, &self.kick).unwrap();
        self.frontend.set_vring_enable(0, true).unwrap();
        self
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, offset).unwrap();
    }

    pub fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    fn u16_at(&self, offset: u64) -> u16 {
        u16::from_le_bytes(self.get(offset, 2).try_into().unwrap())
    }

    fn descriptor(&self, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = Vec::new();
        bytes.extend((BASE + address).to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.put(DESCRIPTORS + 16 * u64::from(index), &bytes);
    }

    /// Where request `slot` has its buffers.
    pub fn place(slot: u16) -> u64 {
        BUFFERS + u64::from(slot) * 0x10_0000
    }

    /// Puts a request into slot 0 to 4 and tells the device.
    pub fn send(&mut self, slot: u16, request: &Request) {
        let at = Self::place(slot);
        let mut header = request.kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(request.sector.to_le_bytes());
        header.extend(&request.out);
        self.put(at, &header);
        let first = slot * 3;
        // Header and data in two pieces that do not meet the header's end, as a guest may do it.
        let (one, two) = (header.len() as u32 / 3, header.len() as u32 - header.len() as u32 / 3);
        self.descriptor(first, at, one, 1, first + 1);
        self.descriptor(first + 1, at + u64::from(one), two, 1, first + 2);
        self.descriptor(first + 2, at + 0x8_0000, request.room + 1, 2, 0);
        self.put(at + 0x8_0000 + u64::from(request.room), &[0xee]);
        self.offer(first);
    }

    fn offer(&mut self, head: u16) {
        self.put(AVAILABLE + 4 + 2 * u64::from(self.available % SIZE), &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.put(AVAILABLE + 2, &self.available.to_le_bytes());
        self.kick.write(1).unwrap();
    }

    /// Waits for the next answer: its slot, and how many bytes the device says that it wrote.
    pub async fn answered(&mut self) -> (u16, u32) {
        for _ in 0..3000 {
            if let Some(answer) = self.try_answered() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        panic!("the device does not answer");
    }

    /// The next answer, if there is one.
    pub fn try_answered(&mut self) -> Option<(u16, u32)> {
        if self.u16_at(USED + 2) == self.used {
            return None;
        }
        let entry = self.get(USED + 4 + 8 * u64::from(self.used % SIZE), 8);
        self.used = self.used.wrapping_add(1);
        let head = u32::from_le_bytes(entry[..4].try_into().unwrap());
        Some((head as u16 / 3, u32::from_le_bytes(entry[4..].try_into().unwrap())))
    }

    /// How many requests were put on the ring so far.
    pub fn offered(&self) -> u16 {
        self.available
    }

    /// Stops the ring; the place of the first request that was not answered.
    pub fn stop(&self) -> u16 {
        self.frontend.get_vring_base(0).unwrap() as u16
    }

    /// Sends a request and gives back status and data.
    async fn ask(&mut self, kind: u32, sector: u64, out: Vec<u8>, room: u32) -> (u8, Vec<u8>) {
        self.send(0, &Request { kind, sector, out, room });
        assert_eq!(self.answered().await.0, 0);
        let data = self.get(Self::place(0) + 0x8_0000, room as usize);
        (self.get(Self::place(0) + 0x8_0000 + u64::from(room), 1)[0], data)
    }

    fn dirty(&self, offset: u64) -> bool {
        let page = (BASE + offset) / 4096;
        let mut byte = [0];
        self.log.read_exact_at(&mut byte, page / 8).unwrap();
        byte[0] >> (page % 8) & 1 == 1
    }
}

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
const FLUSH: u32 = 4;
const ID: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reads_writes_and_discards() {
    let disk = Rng(5).bytes(DISK);
    let world = World::new(&disk, 64).await;
    let open = world.open(1, false).await;
    let mut guest = Guest::start(&world, &open);
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
    let mut guest = Guest::start(&world, &open);
    let data = Guest::place(0) + 0x8_0000;
    assert!(!guest.dirty(data) && !guest.dirty(USED));
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
    let mut guest = Guest::start(&world, &open);
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
    let mut guest = Guest::start(&world, &open);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_is_void_when_the_machine_goes_on() {
    let world = World::new(&Rng(5).bytes(DISK), 64).await;
    let open = world.open(1, false).await;
    let mut guest = Guest::start(&world, &open);
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
    let mut guest = Guest::start(&world, &open);
    assert_eq!(guest.ask(OUT, 3, vec![7; 512], 0).await.0, 0);
    let Guest { frontend, _server, .. } = guest;
    drop(frontend);
    let frontend = Frontend::connect(world.cache.path().join("disk.sock"), 1).unwrap();
    frontend.set_owner().unwrap();
    assert!(frontend.get_features().unwrap() != 0);
    let mut sector = [0; 512];
    open.disk.read(3 * 512, &mut sector).await.unwrap();
    assert_eq!(sector, [7; 512]);
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
        let mut guest = Guest::start(&world, &open);
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
