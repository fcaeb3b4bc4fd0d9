//! A guest at a vhost-user-blk socket: the `vhost` crate's front end, and a virtqueue made by hand in a memfd.

use nix::sys::memfd::{MFdFlags, memfd_create};
use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    time::Duration,
};
use vhost::{
    VhostBackend as _, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend as _,
        message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures},
    },
};
use vmm_sys_util::eventfd::EventFd;

pub const MEMORY: u64 = 8 << 20;
/// Where the guest's memory is in the guest's addresses, so that no test confuses addresses with offsets.
pub const BASE: u64 = 0x4000_0000;
pub const DESCRIPTORS: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;
pub const BUFFERS: u64 = 0x10000;
pub const SIZE: u16 = 16;

/// The guest: memory, and a queue whose descriptors it hands out by threes.
pub struct Guest {
    pub memory: File,
    pub log: File,
    pub frontend: Frontend,
    pub call: EventFd,
    pub kick: EventFd,
    pub available: u16,
    pub used: u16,
}

pub struct Request {
    pub kind: u32,
    pub sector: u64,
    pub out: Vec<u8>,
    pub room: u32,
}

impl Guest {
    /// Attaches the disk at `path`.
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
        };
        guest.connect(0)
    }

    pub fn connect(mut self, base: u16) -> Self {
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

    pub fn put(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, offset).unwrap();
    }

    pub fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    pub fn u16_at(&self, offset: u64) -> u16 {
        u16::from_le_bytes(self.get(offset, 2).try_into().unwrap())
    }

    pub fn descriptor(&self, index: u16, address: u64, len: u32, flags: u16, next: u16) {
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

    pub fn offer(&mut self, head: u16) {
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

    /// Sends a request and gives back status and data.
    pub async fn ask(&mut self, kind: u32, sector: u64, out: Vec<u8>, room: u32) -> (u8, Vec<u8>) {
        self.send(0, &Request { kind, sector, out, room });
        assert_eq!(self.answered().await.0, 0);
        let data = self.get(Self::place(0) + 0x8_0000, room as usize);
        (self.get(Self::place(0) + 0x8_0000 + u64::from(room), 1)[0], data)
    }
}

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const ZEROES: u32 = 13;
