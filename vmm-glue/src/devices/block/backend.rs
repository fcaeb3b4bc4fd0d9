//! The connection to the process that serves the disk.

use crate::{
    devices::virtio::{Io, QueueState},
    error::{Error, Result},
    memory::{GuestRam, dirty::BackendLog},
};
use std::os::{fd::AsRawFd, unix::net::UnixStream};
use vhost::{
    VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend,
        message::{
            VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
        },
    },
};
use virtio_queue::QueueT;

/// Bytes of `virtio_blk_config` up to the write-zeroes part.
const CONFIG_BYTES: usize = 60;
const F_VERSION_1: u64 = super::super::virtio::F_VERSION_1;

/// A backend that speaks vhost-user.
pub struct Backend {
    frontend: Frontend,
    features: u64,
    config: Vec<u8>,
    log: BackendLog,
    memory: Vec<VhostUserMemoryRegionInfo>,
    ram: GuestRam,
    running: bool,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |e| Error::Disk(format!("the backend did not {what}: {e}"))
}

impl Backend {
    /// Connects to the backend's socket and agrees on features. Memory is handed over when the guest's driver starts.
    ///
    /// # Errors
    /// No such socket, or a backend without a feature that suspend needs.
    pub fn connect(socket: &str, ram: &GuestRam) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .map_err(|e| Error::Disk(format!("nothing serves it at {socket}: {e}; is cached running?")))?;
        Self::from_stream(stream, ram)
    }

    /// Agrees on features with the backend at the other end.
    ///
    /// # Errors
    /// A backend without a feature that suspend needs, or one that breaks the protocol.
    pub fn from_stream(stream: UnixStream, ram: &GuestRam) -> Result<Self> {
        let mut frontend = Frontend::from_stream(stream, 1);
        frontend.set_owner().map_err(failed("take an owner"))?;
        let features = frontend.get_features().map_err(failed("tell its features"))?;
        let needed = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | VhostUserVirtioFeatures::LOG_ALL.bits()
            | F_VERSION_1;
        if features & needed != needed {
            return Err(Error::Disk(format!("the backend lacks features {:#x}", needed & !features)));
        }
        let offered = frontend.get_protocol_features().map_err(failed("tell its protocol features"))?;
        let wanted = VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::REPLY_ACK;
        if !offered.contains(VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::LOG_SHMFD) {
            return Err(Error::Disk(format!("the backend lacks protocol features: it has {offered:?}")));
        }
        frontend.set_protocol_features(offered & wanted).map_err(failed("accept protocol features"))?;
        if offered.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        let blank = [0; CONFIG_BYTES];
        let (_, config) = frontend
            .get_config(0, CONFIG_BYTES as u32, VhostUserConfigFlags::WRITABLE, &blank)
            .map_err(failed("tell the disk's size"))?;
        let log = BackendLog::new(ram.end())?;
        let memory = ram
            .mappings()
            .into_iter()
            .map(|(region, base)| VhostUserMemoryRegionInfo {
                guest_phys_addr: region.guest_addr,
                memory_size: region.len,
                userspace_addr: base,
                mmap_offset: region.file_offset,
                mmap_handle: ram.file.as_raw_fd(),
            })
            .collect();
        Ok(Self { frontend, features, config, log, memory, ram: ram.clone(), running: false })
    }

    /// Features of the disk.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The configuration space.
    pub fn config(&self) -> Vec<u8> {
        self.config.clone()
    }

    /// The log of pages that the backend wrote.
    pub fn log(&self) -> &BackendLog {
        &self.log
    }

    fn mapped(&self, guest: u64, len: u64) -> Result<u64> {
        let region = self.memory.iter().find(|r| {
            guest >= r.guest_phys_addr
                && guest.checked_add(len).is_some_and(|end| end <= r.guest_phys_addr + r.memory_size)
        });
        region
            .map(|r| r.userspace_addr + (guest - r.guest_phys_addr))
            .ok_or_else(|| Error::Disk("the guest's queue lies outside its memory".into()))
    }

    /// Hands the queue over, from the entry at which it stands.
    ///
    /// # Errors
    /// The backend's refusal.
    pub fn start(&mut self, io: &mut Io) -> Result<()> {
        let queue = &io.queues[0];
        if !queue.ready() {
            return Ok(());
        }
        let log_all = VhostUserVirtioFeatures::LOG_ALL.bits();
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.frontend.set_features(io.features | log_all | protocol).map_err(failed("accept features"))?;
        self.frontend.set_mem_table(&self.memory).map_err(failed("take the guest's memory"))?;
        let region = VhostUserDirtyLogRegion {
            mmap_size: self.log.len(),
            mmap_offset: 0,
            mmap_handle: self.log.file().as_raw_fd(),
        };
        self.frontend.set_log_base(0, Some(region)).map_err(failed("take the log"))?;
        let state = QueueState::of(queue);
        let entries = u64::from(state.size);
        let vring = VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: state.size,
            // The used ring is logged too, at its guest physical address.
            flags: 1,
            desc_table_addr: self.mapped(state.descriptors, 16 * entries)?,
            used_ring_addr: self.mapped(state.used, 6 + 8 * entries)?,
            avail_ring_addr: self.mapped(state.available, 6 + 2 * entries)?,
            log_addr: Some(state.used),
        };
        self.frontend.set_vring_num(0, state.size).map_err(failed("take the queue's size"))?;
        self.frontend.set_vring_addr(0, &vring).map_err(failed("take the queue's place"))?;
        self.frontend.set_vring_base(0, state.next_available).map_err(failed("take the queue's position"))?;
        self.frontend.set_vring_call(0, io.interrupt.line().fd()).map_err(failed("take the interrupt"))?;
        self.frontend.set_vring_kick(0, &io.kicks[0]).map_err(failed("take the notification"))?;
        self.frontend.set_vring_enable(0, true).map_err(failed("enable the queue"))?;
        self.running = true;
        Ok(())
    }

    /// Takes the queue back; it then says how far it was served.
    ///
    /// # Errors
    /// The backend's refusal.
    pub fn stop(&mut self, io: &mut Io) -> Result<()> {
        if !self.running {
            return Ok(());
        }
        // The reply comes when no request is under way.
        let base = self.frontend.get_vring_base(0).map_err(failed("give the queue back"))?;
        self.running = false;
        io.queues[0].set_next_avail(base as u16);
        let used = io.queues[0]
            .used_idx(&self.ram.memory, std::sync::atomic::Ordering::Acquire)
            .map_err(|e| Error::Disk(format!("the used ring cannot be read: {e}")))?;
        io.queues[0].set_next_used(used.0);
        Ok(())
    }
}
