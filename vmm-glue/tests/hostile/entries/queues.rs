//! A hostile driver: a program of register accesses, ring contents, notifications and saves, in memory whose every page is
//! watched.

use super::input::Input;
use std::{
    collections::BTreeMap,
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};
use vmm_glue::{
    devices::{
        bus::Window,
        irq::Line,
        virtio::{Device, Transport, TransportState},
    },
    memory::{GuestRam, PAGE, dirty::DirtyBitmap},
};

/// Most steps of a program.
const STEPS: usize = 80;
const MEMORY: u64 = 64 << 20;
/// Registers that do something, and the configuration space.
const REGISTERS: [u64; 24] = [
    0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0,
    0xa4, 0xfc, 0x100, 0x104, 0x106, 0x108, 0x110,
];

/// Guest memory, and what the driver alone has made of it.
struct Watched {
    ram: GuestRam,
    driver: BTreeMap<u64, Box<[u8]>>,
}

impl Watched {
    /// The driver writes: past the VMM's own books, as a guest's stores do.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..MEMORY).zip(bytes) {
            let page = self.driver.entry(at / PAGE).or_insert_with(|| {
                let mut now = vec![0; PAGE as usize];
                self.ram.file.read_exact_at(&mut now, at / PAGE * PAGE).unwrap();
                now.into()
            });
            page[(at % PAGE) as usize] = *byte;
            self.ram.file.write_all_at(&[*byte], at).unwrap();
        }
    }

    /// Every page that is not as the driver left it was written by the device, and must be in its books.
    fn check(&self) {
        let mut used = DirtyBitmap::new(MEMORY);
        used.add_allocated(&self.ram.file).unwrap();
        let mut books = DirtyBitmap::new(MEMORY);
        books.add_own_writes(&self.ram);
        let (zero, mut now) = (vec![0; PAGE as usize], vec![0; PAGE as usize]);
        for page in (0..MEMORY / PAGE).filter(|page| used.is_set(*page) && !books.is_set(*page)) {
            self.ram.file.read_exact_at(&mut now, page * PAGE).unwrap();
            let before = self.driver.get(&page).map_or(&zero[..], |bytes| bytes);
            assert!(now == before, "a write to page {page:#x} is not in the books");
        }
    }
}

/// Where the parts of a queue lie, of a driver that follows the rules at first.
fn place(queue: u64) -> [u64; 3] {
    let base = 0x10_0000 + queue * 0x1_0000;
    [base, base + 0x4000, base + 0x8000]
}

/// Runs the program against the device that `make` makes, from nothing or from what was saved. What comes from outside
/// the guest is done by `outside`.
pub fn drive<D: Device>(
    data: &[u8],
    make: impl Fn(Option<&D::State>) -> D,
    mut outside: impl FnMut(&mut Transport<D>, &mut Input),
) {
    let mut input = Input::new(data);
    let ram = GuestRam::new(MEMORY >> 20).unwrap();
    let mut memory = Watched { ram: ram.clone(), driver: BTreeMap::new() };
    let power_on = |state: Option<&TransportState<D::State>>| {
        let device = make(state.map(|s| &s.device));
        let mut transport = Transport::new(device, ram.memory.clone(), Line::new().unwrap()).unwrap();
        if let Some(state) = state {
            transport.restore(state).expect("what was saved can be restored");
            assert_eq!(transport.save(), *state);
            transport.resume(true);
        }
        Mutex::new(transport)
    };
    let mut device = power_on(None);
    if input.u8().is_some_and(|way| way % 8 != 0) {
        begin(&device, &mut input);
        assert_eq!(read(&device, 0x70), 15, "a driver that follows the rules gets its device");
    }
    let mut available = vec![0u16; D::QUEUES.len()];
    for _ in 0..STEPS {
        let Some(step) = input.u8() else { break };
        let queue = usize::from(step >> 4) % D::QUEUES.len();
        match step % 16 {
            0 | 1 => {
                let Some((register, value)) = input.u8().zip(input.u32()) else { break };
                write(&device, REGISTERS[usize::from(register) % REGISTERS.len()], value);
            }
            2 => {
                let mut bytes = [0; 8];
                let offset = u64::from(input.u16().unwrap_or(0)) % 0x1000;
                let len = usize::from(input.u8().unwrap_or(0) % 9);
                Window::read(&device, offset, &mut bytes[..len]);
                Window::write(&device, offset, &bytes[..len]);
            }
            3 => {
                let Some((offset, len)) = input.u16().zip(input.u8()) else { break };
                let bytes = input.bytes(usize::from(len % 33));
                memory.put(place(queue as u64)[0] + u64::from(offset), bytes);
            }
            // A chain of well-formed descriptors, whatever they point at.
            4..=7 => {
                let head = input.u8().unwrap_or(0);
                let count = 1 + u16::from(step >> 6);
                for n in 0..count {
                    let last = u16::from(n + 1 < count);
                    descriptor(&mut memory, queue as u64, u16::from(head) + n, last, &mut input);
                }
                let [_, ring, _] = place(queue as u64);
                let at = ring + 4 + 2 * u64::from(available[queue] % D::QUEUES[queue]);
                memory.put(at, &u16::from(head).to_le_bytes());
                available[queue] = available[queue].wrapping_add(1);
                memory.put(ring + 2, &available[queue].to_le_bytes());
            }
            8 => {
                available[queue] = input.u16().unwrap_or(0);
                memory.put(place(queue as u64)[1] + 2, &available[queue].to_le_bytes());
            }
            9..=11 => locked(&device).serve(queue),
            12 | 13 => outside(&mut locked(&device), &mut input),
            14 => {
                let saved = {
                    let mut device = locked(&device);
                    device.stop().unwrap();
                    device.save()
                };
                let text = serde_json::to_string(&saved).unwrap();
                device = power_on(Some(&serde_json::from_str(&text).unwrap()));
            }
            _ => {
                available.fill(0);
                memory.put(place(queue as u64)[1] + 2, &[0; 2]);
                begin(&device, &mut input);
            }
        }
    }
    for queue in 0..D::QUEUES.len() {
        locked(&device).serve(queue);
    }
    // The program may have laid its rings over anything, but what the device wrote is known.
    memory.check();
}

fn locked<D: Device>(device: &Mutex<Transport<D>>) -> std::sync::MutexGuard<'_, Transport<D>> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<D: Device>(device: &Mutex<Transport<D>>, register: u64, value: u32) {
    Window::write(device, register, &value.to_le_bytes());
}

fn read<D: Device>(device: &Mutex<Transport<D>>, register: u64) -> u32 {
    let mut word = [0; 4];
    Window::read(device, register, &mut word);
    u32::from_le_bytes(word)
}

/// Resets, negotiates, sets the queues up and starts, as a driver does. Features are left out as the input says.
fn begin<D: Device>(device: &Mutex<Transport<D>>, input: &mut Input) {
    let without = input.u8().unwrap_or(0);
    write(device, 0x70, 0);
    write(device, 0x70, 3);
    for half in [0, 1] {
        write(device, 0x14, half);
        let mut offered = read(device, 0x10);
        if half == 0 && without & 1 != 0 {
            offered &= !(1 << 29 | 1 << 28);
        }
        write(device, 0x24, half);
        write(device, 0x20, offered);
    }
    write(device, 0x70, 11);
    for queue in (0..D::QUEUES.len()).filter(|queue| without & (2 << queue) == 0) {
        write(device, 0x30, queue as u32);
        write(device, 0x38, u32::from(D::QUEUES[queue]));
        for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(place(queue as u64)) {
            write(device, register, address as u32);
            write(device, register + 4, 0);
        }
        write(device, 0x44, 1);
    }
    write(device, 0x70, 15);
}

/// One descriptor: where it points, how long it is and where it leads is the input's choice.
fn descriptor(memory: &mut Watched, queue: u64, index: u16, more: u16, input: &mut Input) {
    let [table, ring, used] = place(queue);
    let how = input.u8().unwrap_or(0);
    let offset = u64::from(input.u16().unwrap_or(0));
    let address = match how % 16 {
        0 => table + offset % 0x1000,
        1 => ring,
        2 => used + offset % 0x200,
        3 => MEMORY - offset,
        4 => input.u64().unwrap_or(u64::MAX),
        _ => 0x100_0000 + offset * 64,
    };
    let len = match how >> 4 {
        0 => input.u32().unwrap_or(0),
        1 => 0,
        2 => 2,
        3 => u32::MAX,
        4 => 16 * (offset as u32 % 64),
        _ => u32::from(input.u16().unwrap_or(0)),
    };
    let way = input.u8().unwrap_or(0);
    let mut flags = u16::from(way & 2) | more;
    let mut next = index.wrapping_add(1);
    if way & 0x30 == 0x30 {
        // A loop, or anywhere.
        (flags, next) = (flags | 1, u16::from(way >> 2));
    }
    if way & 0xc0 == 0xc0 {
        flags |= 4;
    }
    let fill = usize::from(way & 1) * 16;
    let bytes = input.bytes(fill);
    memory.put(address.min(MEMORY), bytes);
    let at = table + 16 * u64::from(index);
    memory.put(at, &address.to_le_bytes());
    memory.put(at + 8, &len.to_le_bytes());
    memory.put(at + 12, &flags.to_le_bytes());
    memory.put(at + 14, &next.to_le_bytes());
}
