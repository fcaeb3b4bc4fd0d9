//! A driver's side of the transport, for the tests of every device, and the tests of the transport itself.

use super::*;
use crate::{
    devices::{bus::Window, irq::Line, rng::Rng},
    memory::GuestRam,
};
use proptest::prelude::*;
use std::sync::Mutex;
use vm_memory::{Bytes, GuestAddress};

/// Where queue `n` lies in the tests' memory.
const fn place(queue: u64) -> [u64; 3] {
    let base = 0x10_0000 + queue * 0x1_0000;
    [base, base + 0x4000, base + 0x8000]
}

/// Where the buffers of queue `n` lie.
pub const fn buffers(queue: u64) -> u64 {
    0x100_0000 + queue * 0x10_0000
}

/// A driver.
pub struct Driver<'a, D: Device> {
    pub transport: &'a Mutex<Transport<D>>,
    pub ram: &'a GuestRam,
    available: Vec<u16>,
    used: Vec<u16>,
}

/// A device with its memory and line.
pub fn setup<D: Device>(device: D) -> (Mutex<Transport<D>>, GuestRam, Line) {
    let ram = GuestRam::new(64).unwrap();
    let line = Line::new().unwrap();
    let transport = Transport::new(device, ram.memory.clone(), line.clone()).unwrap();
    (Mutex::new(transport), ram, line)
}

impl<'a, D: Device> Driver<'a, D> {
    pub fn new(transport: &'a Mutex<Transport<D>>, ram: &'a GuestRam) -> Self {
        let queues = D::QUEUES.len();
        Self { transport, ram, available: vec![0; queues], used: vec![0; queues] }
    }

    /// Entries of a queue: as many as the device allows.
    fn size(queue: u64) -> u64 {
        u64::from(D::QUEUES[queue as usize])
    }

    pub fn read(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        Window::read(self.transport, offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn write(&self, offset: u64, value: u32) {
        Window::write(self.transport, offset, &value.to_le_bytes());
    }

    /// Negotiates all features but event indexes, sets all queues up, and starts.
    pub fn start(&self) {
        assert_eq!((self.read(0), self.read(4), self.read(8)), (0x7472_6976, 2, D::TYPE));
        self.write(0x70, 0);
        self.write(0x70, 1 | 2);
        for half in [0, 1] {
            self.write(0x14, half);
            let offered = self.read(0x10);
            self.write(0x24, half);
            self.write(0x20, if half == 0 { offered & !(F_EVENT_IDX as u32) } else { offered });
        }
        self.write(0x70, 1 | 2 | 8);
        assert_ne!(self.read(0x70) & FEATURES_OK, 0);
        for queue in 0..D::QUEUES.len() as u64 {
            self.write(0x30, queue as u32);
            self.write(0x38, Self::size(queue) as u32);
            for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(place(queue)) {
                self.write(register, address as u32);
                self.write(register + 4, 0);
            }
            self.write(0x44, 1);
        }
        self.write(0x70, 1 | 2 | 8 | 4);
        assert_eq!(self.read(0x70), 15);
    }

    fn put<T: vm_memory::ByteValued>(&self, value: T, at: u64) {
        self.ram.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    /// Announces a chain: bytes for the device to read, then room for it to write. Buffers lie where [`buffers`] says.
    pub fn announce(&mut self, queue: u64, out: &[u8], room: u32) {
        let [table, available, _] = place(queue);
        let head = u64::from(self.available[queue as usize]) % (Self::size(queue) / 2) * 2;
        let at = buffers(queue) + head * 0x8000;
        self.ram.memory.write_slice(out, GuestAddress(at)).unwrap();
        let descriptor = |index: u64, address: u64, len: u32, flags: u16, next: u16| {
            self.put(address, table + 16 * index);
            self.put(len, table + 16 * index + 8);
            self.put(flags, table + 16 * index + 12);
            self.put(next, table + 16 * index + 14);
        };
        let more = u16::from(room > 0);
        if out.is_empty() {
            descriptor(head, at, room, 2, 0);
        } else {
            descriptor(head, at, out.len() as u32, more, head as u16 + 1);
            descriptor(head + 1, at + out.len() as u64, room, 2, 0);
        }
        let index = &mut self.available[queue as usize];
        let slot = available + 4 + 2 * (u64::from(*index) % Self::size(queue));
        *index = index.wrapping_add(1);
        let index = *index;
        self.put(head as u16, slot);
        self.put(index, available + 2);
    }

    /// Announces a chain and lets the device serve it.
    pub fn send(&mut self, queue: u64, out: &[u8], room: u32) {
        self.announce(queue, out, room);
        self.transport.lock().unwrap().serve(queue as usize);
    }

    /// The next used chain: how much was written, and the first bytes of its buffer after `skip` bytes.
    pub fn used(&mut self, queue: u64, skip: u64) -> Option<(u32, Vec<u8>)> {
        let [_, _, used] = place(queue);
        let index: u16 = self.ram.memory.read_obj(GuestAddress(used + 2)).unwrap();
        let mine = &mut self.used[queue as usize];
        if index == *mine {
            return None;
        }
        let element = used + 4 + 8 * (u64::from(*mine) % Self::size(queue));
        *mine = mine.wrapping_add(1);
        let head: u32 = self.ram.memory.read_obj(GuestAddress(element)).unwrap();
        let written: u32 = self.ram.memory.read_obj(GuestAddress(element + 4)).unwrap();
        let mut bytes = vec![0; written as usize];
        let at = buffers(queue) + u64::from(head) * 0x8000 + skip;
        self.ram.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        Some((written, bytes))
    }
}

#[test]
fn features_that_were_not_offered_are_not_accepted() {
    let (transport, ram, _line) = setup(Rng);
    let driver = Driver::new(&transport, &ram);
    driver.write(0x70, 3);
    for (half, bits) in [(0, 1 << 3), (1, 1)] {
        driver.write(0x24, half);
        driver.write(0x20, bits);
    }
    driver.write(0x70, 3 | 8);
    assert_eq!(driver.read(0x70) & FEATURES_OK, 0);
    driver.write(0x70, 3 | 8 | 4);
    assert_eq!(driver.read(0x70) & FEATURES_OK, 0);
}

#[test]
fn a_queue_outside_memory_stops_the_device_until_its_reset() {
    let (transport, ram, line) = setup(Rng);
    let driver = Driver::new(&transport, &ram);
    driver.write(0x70, 3);
    driver.write(0x24, 1);
    driver.write(0x20, 1);
    driver.write(0x70, 11);
    driver.write(0x38, 16);
    driver.write(0x84, 0xffff);
    driver.write(0x44, 1);
    driver.write(0x70, 15);
    assert_ne!(driver.read(0x70) & NEEDS_RESET, 0);
    assert_eq!(driver.read(0x60), INT_CONFIG);
    assert!(line.fd().read().is_ok());
    driver.write(0x70, 0);
    assert_eq!((driver.read(0x70), driver.read(0x60)), (0, 0));
    driver.start();
}

#[test]
fn a_saved_device_goes_on_with_the_next_buffer() {
    let (transport, ram, _line) = setup(Rng);
    let mut driver = Driver::new(&transport, &ram);
    driver.start();
    driver.send(0, &[], 64);
    assert_eq!(driver.used(0, 0).unwrap().0, 64);
    // Announced, and not yet served when the machine stops.
    driver.announce(0, &[], 32);
    let saved = {
        let mut transport = transport.lock().unwrap();
        transport.stop().unwrap();
        transport.serve(0);
        transport.save()
    };
    assert!(driver.used(0, 0).is_none(), "a device that stands serves nothing");
    let text = serde_json::to_string(&saved).unwrap();

    let line = Line::new().unwrap();
    let mut fresh = Transport::new(Rng, ram.memory.clone(), line.clone()).unwrap();
    fresh.restore(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(fresh.save(), saved);
    fresh.resume(true);
    assert!(line.fd().read().is_ok(), "an interrupt that may have been lost is raised again");
    assert!(fresh.kicks()[0].read().is_ok(), "and so is a notification");
    fresh.serve(0);
    assert_eq!(driver.used(0, 0).unwrap().0, 32);
}

#[test]
fn a_driver_on_its_way_is_taken_back_as_it_was() {
    let (transport, ram, _line) = setup(Rng);
    let driver = Driver::new(&transport, &ram);
    driver.write(0x70, 3);
    // Proposed, and not accepted yet; laid out, and not looked at yet.
    driver.write(0x20, 1 << 3);
    driver.write(0x84, 0xffff);
    driver.write(0x44, 1);
    let saved = transport.lock().unwrap().save();
    let mut fresh = Transport::new(Rng, ram.memory.clone(), Line::new().unwrap()).unwrap();
    fresh.restore(&saved).unwrap();
    assert_eq!(fresh.save(), saved);
    // What is wrong with it comes out when it starts.
    let transport = Mutex::new(fresh);
    let driver = Driver::new(&transport, &ram);
    driver.write(0x20, 0);
    driver.write(0x24, 1);
    driver.write(0x20, 1);
    driver.write(0x70, 15);
    assert_ne!(driver.read(0x70) & NEEDS_RESET, 0);
    // A device that gave up is saved as such, too.
    let saved = transport.lock().unwrap().save();
    let mut fresh = Transport::new(Rng, ram.memory.clone(), Line::new().unwrap()).unwrap();
    fresh.restore(&saved).unwrap();
    fresh.resume(true);
    assert_eq!(fresh.save(), saved);
}

#[test]
fn every_impossible_state_is_refused() {
    let (transport, ram, _line) = setup(Rng);
    Driver::new(&transport, &ram).start();
    let good = transport.lock().unwrap().save();
    let refused = |change: &dyn Fn(&mut TransportState<_>)| {
        let mut bad = good.clone();
        change(&mut bad);
        let mut fresh = Transport::new(Rng, ram.memory.clone(), Line::new().unwrap()).unwrap();
        fresh.restore(&bad).unwrap_err().to_string()
    };
    assert!(refused(&|s| s.driver_features |= 1 << 5).contains("not offered here"));
    assert!(refused(&|s| s.queues.clear()).contains("has 0 queues"));
    assert!(refused(&|s| s.status = 4).contains("impossible status"));
    assert!(refused(&|s| s.status = 0x1_0000).contains("impossible status"));
    for size in [0, 3, 128, u16::MAX] {
        assert!(refused(&|s| s.queues[0].size = size).contains("entries"), "{size}");
    }
    for address in [u64::MAX, 64 << 20, (64 << 20) - 16] {
        refused(&|s| s.queues[0].descriptors = address);
        refused(&|s| s.queues[0].available = address);
        refused(&|s| s.queues[0].used = address);
    }
    assert!(refused(&|s| s.queues[0].used = place(0)[2] + 1).contains("malformed"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..Default::default() })]

    /// Whatever a guest writes into registers, rings and descriptors, the device survives, and so does its state.
    #[test]
    fn a_hostile_driver_is_survived(
        registers in prop::collection::vec((0u64..0x110, any::<u32>()), 0..24),
        rings in prop::collection::vec((0u64..3, 0u64..0x140, any::<u16>()), 0..64),
        position: u16,
    ) {
        let (transport, ram, _line) = setup(Rng);
        let driver = Driver::new(&transport, &ram);
        driver.start();
        for (part, offset, value) in rings {
            driver.put(value, place(0)[part as usize] + offset);
        }
        driver.put(position, place(0)[1] + 2);
        transport.lock().unwrap().serve(0);
        for (offset, value) in registers {
            driver.write(offset, value);
            driver.read(offset);
            transport.lock().unwrap().serve(0);
        }
        let saved = { let mut t = transport.lock().unwrap(); let _ = t.stop(); t.save() };
        let mut fresh = Transport::new(Rng, ram.memory.clone(), Line::new().unwrap()).unwrap();
        prop_assert!(fresh.restore(&saved).is_ok(), "what a guest did must not make its state unusable: {:?}", saved);
        prop_assert_eq!(fresh.save(), saved);
        fresh.resume(true);
        fresh.serve(0);
    }

    /// A state made of anything is refused or survived.
    #[test]
    fn a_hostile_state_is_survived(
        status: u32, driver_features: u64, size: u16, ready: bool,
        descriptors: u64, available in 0u64..(128 << 20), used in 0u64..(128 << 20), next_available: u16, next_used: u16,
    ) {
        let (transport, ram, _line) = setup(Rng);
        let mut state = transport.lock().unwrap().save();
        state.status = status & 0x1ff;
        state.driver_features = driver_features & 0x3_3000_0003;
        let descriptors = descriptors % (128 << 20) / 16 * 16;
        state.queues[0] = QueueState {
            size: if size % 3 == 0 { 16 } else { size }, ready, descriptors, available: available & !1, used: used & !3,
            next_available, next_used,
        };
        let mut fresh = Transport::new(Rng, ram.memory.clone(), Line::new().unwrap()).unwrap();
        if fresh.restore(&state).is_ok() {
            fresh.resume(true);
            fresh.serve(0);
        }
    }
}
