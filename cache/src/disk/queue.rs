//! One virtio queue of the block device: requests are taken off it, worked on concurrently, and finished in any order.
//!
//! Nothing on the ring is trusted. When the front end stops the ring, requests that cannot finish now (their pieces
//! cannot be had) are put back: their heads are written again into the avail ring's last, long consumed, places, so
//! that whoever starts the ring next meets them first. So a suspend never waits for a piece.

use super::Disk;
use crate::{fetch::Plain, status::lock};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _, Write as _},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    task::AbortHandle,
};
use vhost_user_backend::{VringMutex, VringT as _, bitmap::BitmapMmapRegion};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_queue::{DescriptorChain, QueueT as _, Reader, Writer};
use vm_memory::{Address as _, Bytes as _, GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};
use zeroize::Zeroizing;

/// Guest memory as the device sees it; writes go into the log that the front end asked for.
pub type Memory = GuestMemoryMmap<BitmapMmapRegion>;
/// The ring, behind a lock.
pub type Ring = VringMutex<GuestMemoryAtomic<Memory>>;
type Chain = DescriptorChain<Arc<Memory>>;

/// Bytes of a sector, by the virtio specification.
pub const SECTOR: u64 = 512;
/// The most data in a request; the configuration space promises no more to the guest.
pub const MAX_DATA: usize = 4 << 20;
/// The most segments of a discard or write-zeroes request.
pub const MAX_RANGES: usize = 16;
/// Memory for data under way, in units of [`UNIT`], of requests that read and of those that change something: these may have to
/// wait for room, and reads go on meanwhile.
const BUDGET: usize = 2048;
const UNIT: usize = 8192;
/// What a request may move out of the guest and into it beside data: a header with ranges, and a status. It needs no room, and waits
/// behind nobody that does: what frees room is among it.
const BESIDE: (usize, usize) = (HEADER + 16 * MAX_RANGES, 1);
/// Bytes of a request before its data (`struct virtio_blk_req`, virtio 1.2, section 5.2.6).
const HEADER: usize = 16;
/// How long requests may go on finishing after the ring was stopped.
const GRACE: Duration = Duration::from_secs(2);

struct Flight {
    head: u16,
    task: AbortHandle,
}

/// How many requests were under way when one ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// Fewer than may be.
    Free,
    /// As many as may be: more may be on the ring.
    Full,
}

#[derive(Default)]
struct Flights {
    next: u64,
    live: BTreeMap<u64, Flight>,
    /// No more are taken until one has ended.
    full: bool,
}

/// What a request asks.
enum Ask {
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Plain },
    Zero { ranges: Vec<(u64, u64)> },
    Discard { ranges: Vec<(u64, u64)> },
    Flush,
    Id,
    Bad(u32),
}

/// The requests of one queue that are under way.
pub struct Queue {
    disk: Arc<Disk>,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    runtime: Handle,
    reads: Semaphore,
    writes: Semaphore,
    flights: Mutex<Flights>,
    landed: Condvar,
}

impl Queue {
    /// A queue over `disk`; `id` is the disk's serial number.
    pub fn new(disk: Arc<Disk>, id: [u8; VIRTIO_BLK_ID_BYTES as usize], runtime: Handle) -> Arc<Self> {
        let [reads, writes] = [Semaphore::new(BUDGET), Semaphore::new(BUDGET)];
        Arc::new(Self { disk, id, runtime, reads, writes, flights: Mutex::default(), landed: Condvar::new() })
    }

    /// Takes what is on the ring and starts work on it, as long as no more is under way than the ring has places: a driver that
    /// waits for its answers never offers more.
    pub fn take(self: &Arc<Self>, ring: &Ring, memory: &GuestMemoryAtomic<Memory>) {
        // One lock for taking and noting down, so that stopping sees either neither or both.
        let mut flights = lock(&self.flights);
        // A broken ring is the guest's own affair.
        if let Err(error) = self.try_take(&mut flights, ring, memory) {
            tracing::warn!(%error, "the guest's disk queue cannot be read");
        }
    }

    fn try_take(
        self: &Arc<Self>,
        flights: &mut Flights,
        ring: &Ring,
        memory: &GuestMemoryAtomic<Memory>,
    ) -> io::Result<()> {
        let mut more = false;
        while let Some(places) = places(ring) {
            ring.disable_notification().map_err(io::Error::other)?;
            let before = flights.next;
            loop {
                flights.full = flights.live.len() >= places;
                if flights.full {
                    return Ok(());
                }
                let memory_now = memory.memory().into_inner();
                let Some(chain) = ring.get_mut().get_queue_mut().pop_descriptor_chain(memory_now) else {
                    break;
                };
                self.start(flights, ring, memory, chain);
            }
            let promised =
                std::mem::replace(&mut more, ring.enable_notification().map_err(io::Error::other)?);
            if !more {
                return Ok(());
            }
            if promised && flights.next == before {
                return Err(io::Error::other("there is not what its index says"));
            }
        }
        Ok(())
    }

    fn start(
        self: &Arc<Self>,
        flights: &mut Flights,
        ring: &Ring,
        memory: &GuestMemoryAtomic<Memory>,
        chain: Chain,
    ) {
        self.disk.requested();
        flights.next += 1;
        let number = flights.next;
        let head = chain.head_index();
        let work = self.clone().work(number, ring.clone(), memory.clone(), chain);
        // It ends only after it was noted down: whoever takes has the lock.
        let task = self.runtime.spawn(work).abort_handle();
        flights.live.insert(number, Flight { head, task });
    }

    async fn work(self: Arc<Self>, number: u64, ring: Ring, memory: GuestMemoryAtomic<Memory>, chain: Chain) {
        let (sent, asked) = data_bytes(&chain);
        let ended = {
            let _asked = room(&self.reads, asked, BESIDE.1).await;
            let _sent = room(&self.writes, sent, BESIDE.0).await;
            let (status, data) = self.answer(parse(&chain)).await;
            self.finish(number, &ring, chain, status, &data)
        };
        if ended == Ended::Full {
            self.take(&ring, &memory);
        }
    }

    async fn answer(&self, ask: Ask) -> (u32, Plain) {
        let mut data = Plain::default();
        let done = match ask {
            Ask::Read { offset, len } => {
                data = Zeroizing::new(vec![0; len]);
                self.disk.read(offset, &mut data).await
            }
            Ask::Write { offset, data } => self.disk.write(offset, &data).await,
            Ask::Zero { ranges } => self.clear(&ranges, false).await,
            Ask::Discard { ranges } => self.clear(&ranges, true).await,
            Ask::Flush => {
                self.disk.flush().await;
                Ok(())
            }
            Ask::Id => {
                data = Zeroizing::new(self.id.to_vec());
                Ok(())
            }
            Ask::Bad(status) => return (status, data),
        };
        match done {
            Ok(()) => (VIRTIO_BLK_S_OK, data),
            Err(error) => {
                tracing::warn!(%error, "a request of the guest's disk fails");
                (VIRTIO_BLK_S_IOERR, Plain::default())
            }
        }
    }

    async fn clear(&self, ranges: &[(u64, u64)], discard: bool) -> io::Result<()> {
        for (offset, len) in ranges {
            match discard {
                true => self.disk.discard(*offset, *len).await?,
                false => self.disk.zero(*offset, *len).await?,
            }
        }
        Ok(())
    }

    /// Writes the answer into the guest, unless the request was put back meanwhile.
    fn finish(&self, number: u64, ring: &Ring, chain: Chain, status: u32, data: &[u8]) -> Ended {
        let mut flights = lock(&self.flights);
        let Some(flight) = flights.live.remove(&number) else { return Ended::Free };
        let written = answer_into(chain, status, data).unwrap_or(0);
        let told = ring.add_used(flight.head, written).map_err(io::Error::other).and_then(|()| {
            match ring.needs_notification().map_err(io::Error::other)? {
                true => ring.signal_used_queue(),
                false => Ok(()),
            }
        });
        if let Err(error) = told {
            tracing::warn!(%error, "the guest's disk queue is broken");
        }
        self.landed.notify_all();
        match std::mem::take(&mut flights.full) {
            true => Ended::Full,
            false => Ended::Free,
        }
    }

    /// Gives up what is under way: nobody waits for it any more.
    pub fn abandon(&self) {
        let abandoned = std::mem::take(&mut lock(&self.flights).live);
        abandoned.values().for_each(|flight| flight.task.abort());
    }

    /// Waits a moment for what is under way, and puts back what is still not done.
    pub fn stop(&self, ring: &Ring, memory: &GuestMemoryAtomic<Memory>) -> io::Result<()> {
        let busy = |flights: &mut Flights| !flights.live.is_empty();
        let mut flights = self
            .landed
            .wait_timeout_while(lock(&self.flights), GRACE, busy)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let stuck: Vec<_> = std::mem::take(&mut flights.live).into_values().collect();
        if stuck.is_empty() {
            return Ok(());
        }
        tracing::info!(
            requests = stuck.len(),
            "disk requests that wait for pieces are put back on their ring"
        );
        stuck.iter().for_each(|flight| flight.task.abort());
        let heads: Vec<u16> = stuck.iter().map(|flight| flight.head).collect();
        put_back(ring, &memory.memory(), heads)
    }
}

/// Waits for room for so many bytes, if they are more than what is `beside` data.
async fn room(data: &Semaphore, bytes: usize, beside: usize) -> Option<SemaphorePermit<'_>> {
    let units = bytes.min(MAX_DATA).div_ceil(UNIT) as u32;
    if bytes <= beside {
        return None;
    }
    // Nobody closes it.
    data.acquire_many(units).await.ok()
}

/// How many places the ring has; `None`: it is stopped.
fn places(ring: &Ring) -> Option<usize> {
    let state = ring.get_ref();
    let queue = state.get_queue();
    (queue.ready() && state.is_enabled()).then(|| usize::from(queue.size()))
}

/// Writes `heads` into the avail ring just before the next entry to be read, and steps back to the first of them. A driver that offers a
/// request twice, or more than there are places, does not get all of them back: that is no reason not to stop its ring.
fn put_back(ring: &Ring, memory: &Memory, mut heads: Vec<u16>) -> io::Result<()> {
    let mut state = ring.get_mut();
    let queue = state.get_queue_mut();
    let size = queue.size();
    let (all, mut seen) = (heads.len(), BTreeSet::new());
    heads.retain(|head| seen.insert(*head));
    heads.truncate(usize::from(size));
    if heads.len() < all {
        tracing::warn!(
            dropped = all - heads.len(),
            "the guest's disk queue is broken: requests are not put back"
        );
    }
    let first = queue.next_avail().wrapping_sub(heads.len() as u16);
    for (i, head) in heads.iter().enumerate() {
        // The ring follows two 16-bit words, flags and index (virtio 1.2, section 2.7.6).
        let place = u64::from(first.wrapping_add(i as u16) % size);
        let at = vm_memory::GuestAddress(queue.avail_ring())
            .checked_add(4 + 2 * place)
            .ok_or_else(|| io::Error::other("the avail ring is beyond the end of memory"))?;
        memory.write_obj(head.to_le(), at).map_err(io::Error::other)?;
    }
    queue.set_next_avail(first);
    Ok(())
}

/// Bytes that the chain moves out of the guest and into it.
fn data_bytes(chain: &Chain) -> (usize, usize) {
    chain.clone().fold((0, 0), |(sent, asked): (usize, usize), descriptor| {
        let bytes = descriptor.len() as usize;
        match descriptor.is_write_only() {
            true => (sent, asked.saturating_add(bytes)),
            false => (sent.saturating_add(bytes), asked),
        }
    })
}

fn parse(chain: &Chain) -> Ask {
    try_parse(chain).unwrap_or(Ask::Bad(VIRTIO_BLK_S_IOERR))
}

fn try_parse(chain: &Chain) -> io::Result<Ask> {
    let memory = chain.memory();
    let mut reader: Reader<'_, _> = chain.clone().reader(memory).map_err(io::Error::other)?;
    let writer: Writer<'_, _> = chain.clone().writer(memory).map_err(io::Error::other)?;
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    let kind = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let sector = u64::from_le_bytes([
        header[8], header[9], header[10], header[11], header[12], header[13], header[14], header[15],
    ]);
    // The last byte that may be written is the status.
    let len = writer.available_bytes().checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
    let out = reader.available_bytes();
    let offset = sector.checked_mul(SECTOR).ok_or(io::ErrorKind::InvalidData)?;
    let whole = |len: usize| len <= MAX_DATA && (len as u64).is_multiple_of(SECTOR);
    Ok(match kind {
        VIRTIO_BLK_T_IN if whole(len) => Ask::Read { offset, len },
        VIRTIO_BLK_T_OUT if whole(out) => {
            let mut data = Zeroizing::new(vec![0; out]);
            reader.read_exact(&mut data)?;
            Ask::Write { offset, data }
        }
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if out <= 16 * MAX_RANGES && out % 16 == 0 => {
            let mut ranges = Vec::new();
            for _ in 0..out / 16 {
                let mut range = [0; 16];
                reader.read_exact(&mut range)?;
                let (start, rest) = range.split_at(8);
                let start = start.try_into().map_or(0, u64::from_le_bytes);
                let sectors = rest[..4].try_into().map_or(0, u32::from_le_bytes);
                let start = start.checked_mul(SECTOR).ok_or(io::ErrorKind::InvalidData)?;
                ranges.push((start, u64::from(sectors) * SECTOR));
            }
            match kind {
                VIRTIO_BLK_T_DISCARD => Ask::Discard { ranges },
                _ => Ask::Zero { ranges },
            }
        }
        VIRTIO_BLK_T_FLUSH => Ask::Flush,
        VIRTIO_BLK_T_GET_ID if len >= VIRTIO_BLK_ID_BYTES as usize => Ask::Id,
        VIRTIO_BLK_T_IN
        | VIRTIO_BLK_T_OUT
        | VIRTIO_BLK_T_DISCARD
        | VIRTIO_BLK_T_WRITE_ZEROES
        | VIRTIO_BLK_T_GET_ID => Ask::Bad(VIRTIO_BLK_S_IOERR),
        _ => Ask::Bad(VIRTIO_BLK_S_UNSUPP),
    })
}

/// Writes data and status; returns how many bytes were written.
fn answer_into(chain: Chain, status: u32, data: &[u8]) -> io::Result<u32> {
    let mut writer: Writer<'_, _> = chain.clone().writer(chain.memory()).map_err(io::Error::other)?;
    let room = writer.available_bytes().checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
    let mut last = writer.split_at(room).map_err(io::Error::other)?;
    writer.write_all(data)?;
    last.write_all(&[status as u8])?;
    Ok((data.len() + 1) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn what_the_ring_has_no_places_for_is_not_put_back() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let ring = Ring::new(GuestMemoryAtomic::new(memory.clone()), 256).unwrap();
        ring.set_queue_size(4);
        ring.set_queue_info(0x1000, 0x2000, 0x3000).unwrap();
        ring.set_queue_next_avail(6);
        put_back(&ring, &memory, vec![7, 8, 7, 9, 10, 11]).unwrap();
        assert_eq!(ring.queue_next_avail(), 2);
        let place = |place: u64| memory.read_obj::<u16>(GuestAddress(0x2004 + 2 * place)).unwrap();
        assert_eq!([place(2), place(3), place(0), place(1)], [7, 8, 9, 10]);
    }
}
