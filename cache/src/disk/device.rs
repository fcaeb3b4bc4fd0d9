//! The vhost-user-blk device: what the front end negotiates, and the queue behind it.

use super::{
    Disk,
    queue::{MAX_DATA, MAX_RANGES, Memory, Queue, Ring, SECTOR},
};
use crate::status::lock;
use parcel::{chunk::CHUNK_SIZE, id::ParcelId};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::runtime::Handle;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, bitmap::BitmapMmapRegion};
use virtio_bindings::{
    virtio_blk::{
        VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
    },
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

/// Places in the ring, at most.
const QUEUE_SIZE: usize = 256;
/// The most bytes of one segment of a request, and the most segments.
const SEGMENT: usize = 64 << 10;
const SEGMENTS: usize = MAX_DATA / SEGMENT;
/// Length of `struct virtio_blk_config` up to the write-zeroes fields (virtio 1.2, section 5.2.4).
const CONFIG: usize = 60;

/// The device of one connection.
pub struct Device {
    config: [u8; CONFIG],
    queue: Arc<Queue>,
    memory: GuestMemoryAtomic<Memory>,
    ring: Mutex<Option<Ring>>,
}

impl Device {
    /// A device that shows `disk`, with guest memory to come through `memory`.
    pub fn new(
        disk: Arc<Disk>,
        parcel: &ParcelId,
        memory: GuestMemoryAtomic<Memory>,
        runtime: Handle,
    ) -> Self {
        let mut id = [0; 20];
        id.copy_from_slice(&parcel.to_string().as_bytes()[..20]);
        Self {
            config: config(disk.bytes()),
            queue: Queue::new(disk, id, runtime),
            memory,
            ring: Mutex::new(None),
        }
    }

    /// The front end has gone.
    pub fn abandon(&self) {
        self.queue.abandon();
    }

    /// No guest memory, until the front end sends some.
    pub fn no_memory() -> GuestMemoryAtomic<Memory> {
        GuestMemoryAtomic::new(GuestMemoryMmap::new())
    }
}

/// The configuration space, little-endian as virtio 1 has it.
fn config(bytes: u64) -> [u8; CONFIG] {
    let mut config = [0; CONFIG];
    let mut put = |at: usize, value: &[u8]| config[at..at + value.len()].copy_from_slice(value);
    put(0, &(bytes / SECTOR).to_le_bytes());
    put(8, &(SEGMENT as u32).to_le_bytes());
    put(12, &(SEGMENTS as u32).to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    // Topology: physical blocks of 4 KiB, and the best size of a request is a chunk.
    put(24, &[3, 0]);
    put(28, &((CHUNK_SIZE as u64 / SECTOR) as u32).to_le_bytes());
    put(34, &1u16.to_le_bytes());
    for at in [36, 48] {
        put(at, &u32::MAX.to_le_bytes());
        put(at + 4, &(MAX_RANGES as u32).to_le_bytes());
    }
    put(44, &8u32.to_le_bytes());
    put(56, &[1]);
    config
}

impl VhostUserBackend for Device {
    type Bitmap = BitmapMmapRegion;
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        let bits = [
            VIRTIO_F_VERSION_1,
            VIRTIO_RING_F_EVENT_IDX,
            VIRTIO_RING_F_INDIRECT_DESC,
            VIRTIO_BLK_F_SIZE_MAX,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_TOPOLOGY,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_DISCARD,
            VIRTIO_BLK_F_WRITE_ZEROES,
        ];
        bits.iter().fold(0, |all, bit| all | 1 << bit)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | VhostUserVirtioFeatures::LOG_ALL.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::RESET_DEVICE
    }

    // The ring itself keeps count of it.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let from = (offset as usize).min(CONFIG);
        let to = from.saturating_add(size as usize).min(CONFIG);
        let mut bytes = self.config[from..to].to_vec();
        // Front ends may ask for a longer structure of a newer specification: its fields are zero here.
        bytes.resize((size as usize).min(4096), 0);
        bytes
    }

    // Guest memory reaches the device through the object that it shares with the handler.
    fn update_memory(&self, _memory: GuestMemoryAtomic<Memory>) -> io::Result<()> {
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()
    }

    fn stop_vring(&self, index: u32) -> io::Result<()> {
        match lock(&self.ring).as_ref() {
            Some(ring) if index == 0 => self.queue.stop(ring, &self.memory),
            _ => Ok(()),
        }
    }

    fn handle_event(&self, event: u16, _set: EventSet, rings: &[Ring], _thread: usize) -> io::Result<()> {
        let Some(ring) = rings.get(usize::from(event)) else { return Ok(()) };
        lock(&self.ring).get_or_insert_with(|| ring.clone());
        self.queue.take(ring, &self.memory);
        Ok(())
    }
}
