//! What a device behind the transport is.

use crate::{devices::irq::Line, memory::Memory};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

/// The guest's driver (or a saved state) laid out a queue that cannot be used; the device stops until it is reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

impl From<virtio_queue::Error> for Broken {
    fn from(e: virtio_queue::Error) -> Self {
        Self(format!("queue: {e}"))
    }
}

/// A device's interrupt with the register that tells its causes.
#[derive(Debug, Clone)]
pub struct Interrupt {
    causes: Arc<AtomicU32>,
    line: Line,
}

impl Interrupt {
    /// An interrupt on `line`.
    pub fn new(line: Line) -> Self {
        Self { causes: Arc::new(AtomicU32::new(0)), line }
    }

    /// Raises it for these causes.
    pub fn raise(&self, causes: u32) {
        self.causes.fetch_or(causes, Ordering::SeqCst);
        self.line.raise();
    }

    /// The causes that the driver has not acknowledged.
    pub fn causes(&self) -> u32 {
        self.causes.load(Ordering::SeqCst)
    }

    /// The driver acknowledges causes.
    pub fn acknowledge(&self, causes: u32) {
        self.causes.fetch_and(!causes, Ordering::SeqCst);
    }

    /// The line itself, for a backend that raises it.
    pub fn line(&self) -> &Line {
        &self.line
    }
}

/// What a device works with.
pub struct Io<'a> {
    /// Guest memory.
    pub memory: &'a Memory,
    /// The device's queues.
    pub queues: &'a mut [Queue],
    /// The device's interrupt.
    pub interrupt: &'a Interrupt,
    /// The descriptors by which the driver announces buffers, one a queue.
    pub kicks: &'a [EventFd],
    /// Features that the driver accepted.
    pub features: u64,
    /// How many buffers may still be taken at this turn.
    pub turn: u16,
}

/// Most buffers that a device takes at one turn: a guest that announces them as fast as they are served would otherwise
/// keep the thread from all other devices, and what is collected of a turn without bounds.
pub const TURN: u16 = 64;

impl<'a> Io<'a> {
    /// The next buffer that the driver announced in a queue. When there is none, the driver will notify of the next; when
    /// the turn is over, the queue is announced again, to be served after the others.
    ///
    /// # Errors
    /// Rings outside guest memory, or a position that no driver can have reached.
    pub fn next(&mut self, queue: usize) -> Result<Option<DescriptorChain<&'a Memory>>, Broken> {
        if self.turn == 0 {
            let _ = self.kicks[queue].write(1);
            return Ok(None);
        }
        loop {
            if let Some(chain) = self.queues[queue].iter(self.memory)?.next() {
                self.turn -= 1;
                return Ok(Some(chain));
            }
            // One may have been announced since the look above and before this request to be notified.
            if !self.queues[queue].enable_notification(self.memory)? {
                return Ok(None);
            }
        }
    }

    /// Gives a buffer back, of which `written` bytes were written.
    ///
    /// # Errors
    /// Rings outside guest memory.
    pub fn used(&mut self, queue: usize, head: u16, written: usize) -> Result<(), Broken> {
        Ok(self.queues[queue].add_used(self.memory, head, written as u32)?)
    }

    /// Tells the driver of used buffers of a queue, if it wants to know.
    ///
    /// # Errors
    /// Rings outside guest memory.
    pub fn signal(&mut self, queue: usize) -> Result<(), Broken> {
        if self.queues[queue].needs_notification(self.memory)? {
            self.interrupt.raise(super::INT_QUEUE);
        }
        Ok(())
    }

    /// `true` when this queue was set up by the driver.
    pub fn ready(&self, queue: usize) -> bool {
        self.queues[queue].ready()
    }
}

/// A virtio device.
pub trait Device: Send + 'static {
    /// Device type number (virtio 1.2, section 5).
    const TYPE: u32;
    /// Most entries of each queue.
    const QUEUES: &'static [u16];
    /// `true` when another process serves the queues.
    const OFFLOADED: bool = false;
    /// What is saved beside the transport.
    type State: Serialize + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + Send;

    /// Features offered.
    fn features(&self) -> u64;

    /// The driver reads the configuration space; beyond its end are zeroes, which `data` holds already.
    fn read_config(&self, offset: usize, data: &mut [u8]);

    /// The driver is ready, or (with `restored`) was ready when the machine was saved, or works on after a pause.
    ///
    /// # Errors
    /// Queues that cannot be served.
    fn start(&mut self, io: &mut Io, restored: bool) -> Result<(), Broken>;

    /// Stops serving the queues, before the machine is saved. The queues must then say how far they were served.
    ///
    /// # Errors
    /// When the backend does not say.
    fn stop(&mut self, io: &mut Io) -> Result<(), Broken>;

    /// The driver resets the device.
    fn reset(&mut self, io: &mut Io);

    /// The driver announced buffers in a queue.
    ///
    /// # Errors
    /// Buffers that cannot be served.
    fn serve(&mut self, queue: usize, io: &mut Io) -> Result<(), Broken>;

    /// What to save.
    fn save(&self) -> Self::State;
}
