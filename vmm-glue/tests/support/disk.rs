//! A vhost-user-blk device on a file, from the same crate as the client engine's: reads, writes, flushes, and logs the
//! pages that it writes.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Deref,
    os::unix::fs::FileExt,
    path::Path,
    sync::Mutex,
};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{
    VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT, bitmap::BitmapMmapRegion,
};
use virtio_queue::QueueOwnedT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

type Memory = GuestMemoryMmap<BitmapMmapRegion>;
type Ring = VringRwLock<GuestMemoryAtomic<Memory>>;

struct Disk {
    file: File,
    memory: GuestMemoryAtomic<Memory>,
}

impl Disk {
    fn serve(&self, ring: &Ring) -> io::Result<()> {
        let memory = self.memory.memory();
        let mut served = false;
        loop {
            let chain = {
                let mut ring = ring.get_mut();
                ring.get_queue_mut().iter(memory.clone()).map_err(io::Error::other)?.next()
            };
            let Some(chain) = chain else { break };
            let head = chain.head_index();
            let mut reader = chain.clone().reader(memory.deref()).map_err(io::Error::other)?;
            let mut writer = chain.writer(memory.deref()).map_err(io::Error::other)?;
            let mut header = [0; 16];
            reader.read_exact(&mut header)?;
            let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
            let at = u64::from_le_bytes(header[8..].try_into().unwrap()) * 512;
            let mut data = vec![0; writer.available_bytes().saturating_sub(1)];
            let done = match kind {
                0 => self.file.read_exact_at(&mut data, at),
                1 => {
                    let mut bytes = Vec::new();
                    reader.read_to_end(&mut bytes).and_then(|_| self.file.write_all_at(&bytes, at))
                }
                4 => self.file.sync_data(),
                8 => Ok(()),
                _ => Err(io::Error::other("unsupported")),
            };
            writer.write_all(&data)?;
            writer.write_all(&[u8::from(done.is_err())])?;
            ring.add_used(head, data.len() as u32 + 1).map_err(io::Error::other)?;
            served = true;
        }
        if served { ring.signal_used_queue() } else { Ok(()) }
    }
}

impl VhostUserBackendMut for Disk {
    type Bitmap = BitmapMmapRegion;
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        // Version 1, flush.
        1 << 32
            | 1 << 9
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | VhostUserVirtioFeatures::LOG_ALL.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::LOG_SHMFD
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, _offset: u32, size: u32) -> Vec<u8> {
        // A block device tells its size only so.
        let bytes = (&self.file).seek(SeekFrom::End(0)).unwrap_or(0);
        let mut config = (bytes / 512).to_le_bytes().to_vec();
        config.resize(size as usize, 0);
        config
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<Memory>) -> io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &mut self,
        _event: u16,
        _set: EventSet,
        rings: &[Ring],
        _thread: usize,
    ) -> io::Result<()> {
        self.serve(&rings[0])
    }
}

/// Serves `file` at `socket` to one front end, until it hangs up.
pub fn serve(file: File, socket: &Path) {
    let memory = GuestMemoryAtomic::new(Memory::new());
    let disk = Mutex::new(Disk { file, memory: memory.clone() });
    let mut daemon = VhostUserDaemon::new("disk".into(), std::sync::Arc::new(disk), memory).unwrap();
    // The front end hanging up is the usual end.
    let _ = daemon.serve(socket);
}
