//! The virtio-mmio transport, version 2 (virtio 1.2, section 4.2.2).

use super::{
    DRIVER_OK, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, FEATURES_OK, INT_CONFIG, INT_QUEUE, NEEDS_RESET,
    QueueState, TransportState,
    device::{Broken, Device, Interrupt, Io, TURN},
};
use crate::{
    devices::{bus::Window, irq::Line},
    error::{Error, Result},
    layout::Slot,
    memory::Memory,
};
use kvm_ioctls::{IoEventAddress, VmFd};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MAGIC: u32 = 0x7472_6976;
const VENDOR: u32 = u32::from_le_bytes(*b"WAYS");
const CONFIG: u64 = 0x100;
const QUEUE_NOTIFY: u64 = 0x50;

/// A device behind its window.
pub struct Transport<D: Device> {
    device: D,
    memory: Memory,
    queues: Vec<Queue>,
    kicks: Vec<EventFd>,
    interrupt: Interrupt,
    status: u32,
    driver_features: u64,
    device_features_select: u32,
    driver_features_select: u32,
    queue_select: u32,
    config_generation: u32,
    /// The queues are being served.
    running: bool,
    /// How often it gave up.
    failures: u32,
}

impl<D: Device> Transport<D> {
    /// A device after power-on, whose interrupt is `line`.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new(device: D, memory: Memory, line: Line) -> Result<Self> {
        let mut queues = Vec::new();
        let mut kicks = Vec::new();
        for size in D::QUEUES {
            queues.push(Queue::new(*size).map_err(|e| Error::Machine(format!("virtio queue: {e}")))?);
            kicks.push(EventFd::new(EFD_NONBLOCK).map_err(Error::io("creating a queue's event descriptor"))?);
        }
        Ok(Self {
            device,
            memory,
            queues,
            kicks,
            interrupt: Interrupt::new(line),
            status: 0,
            driver_features: 0,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
            config_generation: 0,
            running: false,
            failures: 0,
        })
    }

    /// Connects the interrupt, and lets the driver's notifications arrive without leaving the kernel.
    ///
    /// # Errors
    /// KVM's refusal.
    pub fn connect(&self, vm: &VmFd, slot: Slot) -> Result<()> {
        vm.register_irqfd(self.interrupt.line().fd(), slot.gsi())
            .map_err(Error::kvm("connect an interrupt"))?;
        for (index, kick) in self.kicks.iter().enumerate() {
            let at = IoEventAddress::Mmio(slot.address() + QUEUE_NOTIFY);
            vm.register_ioevent(kick, &at, index as u32)
                .map_err(Error::kvm("connect a queue's notifications"))?;
        }
        Ok(())
    }

    /// The descriptors of the driver's notifications, to be waited for; none for an offloaded device.
    pub fn kicks(&self) -> &[EventFd] {
        if D::OFFLOADED { &[] } else { &self.kicks }
    }

    /// Takes over a saved state. The device itself was built from `state.device`.
    ///
    /// # Errors
    /// A state that this device cannot be in.
    pub fn restore(&mut self, state: &TransportState<D::State>) -> Result<()> {
        let bad = |what: String| Error::State(format!("virtio device {}: {what}", D::TYPE));
        // What a driver may have written on its way, or wrongly, is taken back as it was: a guest must not be able to make
        // its own state unusable. What is in use must be right.
        let served = state.status & DRIVER_OK != 0 && state.status & NEEDS_RESET == 0;
        let beyond = state.driver_features & !self.offered();
        if beyond != 0 && state.status & FEATURES_OK != 0 {
            return Err(bad(format!("uses features {beyond:#x}, which are not offered here")));
        }
        if state.queues.len() != D::QUEUES.len() {
            return Err(bad(format!("has {} queues", state.queues.len())));
        }
        if state.status > 0xff || served && state.status & FEATURES_OK == 0 {
            return Err(bad(format!("has the impossible status {:#x}", state.status)));
        }
        let event_idx = state.driver_features & F_EVENT_IDX != 0;
        for (index, queue) in state.queues.iter().enumerate() {
            self.queues[index] = queue.check(D::QUEUES[index], event_idx, served, &self.memory)?;
        }
        self.status = state.status;
        self.driver_features = state.driver_features;
        self.device_features_select = state.device_features_select;
        self.driver_features_select = state.driver_features_select;
        self.queue_select = state.queue_select;
        self.config_generation = state.config_generation;
        self.interrupt.raise(state.interrupt_causes & (INT_QUEUE | INT_CONFIG));
        Ok(())
    }

    /// The state, of a device that was stopped.
    pub fn save(&self) -> TransportState<D::State> {
        TransportState {
            status: self.status,
            driver_features: self.driver_features,
            device_features_select: self.device_features_select,
            driver_features_select: self.driver_features_select,
            queue_select: self.queue_select,
            interrupt_causes: self.interrupt.causes(),
            config_generation: self.config_generation,
            queues: self.queues.iter().map(QueueState::of).collect(),
            device: self.device.save(),
        }
    }

    /// Serves the queues again after [`Transport::stop`] or [`Transport::restore`], if the driver was ready.
    pub fn resume(&mut self, restored: bool) {
        if self.status & DRIVER_OK == 0 || self.status & NEEDS_RESET != 0 || self.running {
            return;
        }
        self.running = true;
        self.guarded(|device, io| device.start(io, restored));
        // A notification or an interrupt may have been lost between two machines; one too many is harmless.
        for kick in &self.kicks {
            let _ = kick.write(1);
        }
        self.interrupt.line().raise();
    }

    /// Stops serving the queues. One that cannot be stopped counts as being served: its state must not be saved.
    ///
    /// # Errors
    /// When the backend does not say how far it came.
    pub fn stop(&mut self) -> std::result::Result<(), Broken> {
        if !self.running {
            return Ok(());
        }
        let (device, mut io) = self.parts();
        device.stop(&mut io)?;
        self.running = false;
        Ok(())
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.running = false;
        let (device, mut io) = self.parts();
        device.reset(&mut io);
        for queue in &mut self.queues {
            queue.reset();
        }
        self.interrupt.acknowledge(u32::MAX);
        self.status = 0;
        self.driver_features = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.queue_select = 0;
    }

    /// The driver announced buffers in a queue.
    pub fn serve(&mut self, queue: usize) {
        self.with(|device, io| if io.ready(queue) { device.serve(queue, io) } else { Ok(()) });
    }

    /// Lets the device do something with its queues, if they are being served.
    pub fn with(&mut self, act: impl FnOnce(&mut D, &mut Io) -> std::result::Result<(), Broken>) {
        if self.running {
            self.guarded(act);
        }
    }

    /// Changes the device's configuration and tells the driver.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut D)) {
        change(&mut self.device);
        self.config_generation = self.config_generation.wrapping_add(1);
        if self.status & DRIVER_OK != 0 {
            self.interrupt.raise(INT_CONFIG);
        }
    }

    /// The device.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    fn parts(&mut self) -> (&mut D, Io<'_>) {
        let io = Io {
            memory: &self.memory,
            queues: &mut self.queues,
            interrupt: &self.interrupt,
            kicks: &self.kicks,
            features: self.driver_features,
            turn: TURN,
        };
        (&mut self.device, io)
    }

    fn guarded(&mut self, act: impl FnOnce(&mut D, &mut Io) -> std::result::Result<(), Broken>) {
        let (device, mut io) = self.parts();
        let done = catch_unwind(AssertUnwindSafe(|| act(device, &mut io)));
        if let Err(why) = done.unwrap_or_else(|_| Err(Broken("it panicked".into()))) {
            self.failures = self.failures.saturating_add(1);
            // Ever more rarely: a guest that does it all the time must not fill the kiosk's log.
            if self.failures.is_power_of_two() {
                let times = self.failures;
                tracing::warn!(times, "virtio device {} stopped until the guest resets it: {why}", D::TYPE);
            }
            self.running = false;
            self.status |= NEEDS_RESET;
            self.interrupt.raise(INT_CONFIG);
        }
    }

    fn offered(&self) -> u64 {
        let common = if D::OFFLOADED { F_VERSION_1 } else { F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX };
        self.device.features() | common
    }

    fn queue(&self) -> Option<&Queue> {
        self.queues.get(self.queue_select as usize)
    }

    fn register(&self, offset: u64) -> u32 {
        let half = |value: u64, select: u32| match select {
            0 => value as u32,
            1 => (value >> 32) as u32,
            _ => 0,
        };
        match offset {
            0x00 => MAGIC,
            0x04 => 2,
            0x08 => D::TYPE,
            0x0c => VENDOR,
            0x10 => half(self.offered(), self.device_features_select),
            0x34 => self.queue().map_or(0, |q| u32::from(q.max_size())),
            0x44 => self.queue().map_or(0, |q| u32::from(q.ready())),
            // A backend in another process raises the line itself and cannot set the cause here.
            0x60 if D::OFFLOADED && self.running => self.interrupt.causes() | INT_QUEUE,
            0x60 => self.interrupt.causes(),
            0x70 => self.status,
            0xfc => self.config_generation,
            _ => 0,
        }
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        match offset {
            0x14 => self.device_features_select = value,
            0x20 => self.set_features(value),
            0x24 => self.driver_features_select = value,
            0x30 => self.queue_select = value,
            0x38 | 0x44 | 0x80..=0xa4 => self.set_queue(offset, value),
            QUEUE_NOTIFY => {
                if let Some(kick) = self.kicks.get(value as usize) {
                    let _ = kick.write(1);
                }
            }
            0x64 => self.interrupt.acknowledge(value),
            0x70 => self.set_status(value),
            _ => {}
        }
    }

    fn set_features(&mut self, value: u32) {
        if self.status & FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match self.driver_features_select {
            0 => self.driver_features = (self.driver_features & !0xffff_ffff) | value,
            1 => self.driver_features = (self.driver_features & 0xffff_ffff) | (value << 32),
            _ => {}
        }
    }

    fn set_queue(&mut self, offset: u64, value: u32) {
        if self.status & DRIVER_OK != 0 {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.queue_select as usize) else { return };
        match offset {
            0x38 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x44 => queue.set_ready(value == 1),
            0x80 => queue.set_desc_table_address(Some(value), None),
            0x84 => queue.set_desc_table_address(None, Some(value)),
            0x90 => queue.set_avail_ring_address(Some(value), None),
            0x94 => queue.set_avail_ring_address(None, Some(value)),
            0xa0 => queue.set_used_ring_address(Some(value), None),
            0xa4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.reset();
            return;
        }
        let added = value & !self.status & 0xff;
        self.status |= value & 0xff;
        if added & FEATURES_OK != 0
            && (self.driver_features & !self.offered() != 0 || self.driver_features & F_VERSION_1 == 0)
        {
            self.status &= !FEATURES_OK;
        }
        if added & DRIVER_OK != 0 {
            self.start();
        }
    }

    fn start(&mut self) {
        if self.status & FEATURES_OK == 0 {
            self.status |= NEEDS_RESET;
            return;
        }
        let event_idx = self.driver_features & F_EVENT_IDX != 0;
        self.running = true;
        for queue in self.queues.iter_mut().filter(|q| q.ready()) {
            queue.set_event_idx(event_idx);
        }
        let valid = self.queues.iter().all(|q| !q.ready() || q.is_valid(&self.memory));
        self.guarded(|device, io| {
            if !valid {
                return Err(Broken("a queue lies outside guest memory".into()));
            }
            device.start(io, false)
        });
    }
}

impl<D: Device> Window for Mutex<Transport<D>> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let transport = self.lock().unwrap_or_else(PoisonError::into_inner);
        data.fill(0);
        if offset >= CONFIG {
            transport.device.read_config((offset - CONFIG) as usize, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = transport.register(offset).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (true, Ok(word)) = (offset < CONFIG, <[u8; 4]>::try_from(data)) {
            let mut transport = self.lock().unwrap_or_else(PoisonError::into_inner);
            transport.set_register(offset, u32::from_le_bytes(word));
        }
    }
}
