//! The disk's front end against a real vhost-user backend, driven as a guest's driver would.

#[path = "support/disk.rs"]
mod support;

use std::{
    os::unix::fs::FileExt,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};
use vm_memory::{Bytes, GuestAddress};
use vmm_glue::{
    devices::{
        block::{Backend, Block},
        bus::Window,
        irq::Line,
        virtio::Transport,
    },
    memory::{GuestRam, PAGE, dirty::DirtyBitmap},
};

const TABLE: u64 = 0x10_0000;
const AVAILABLE: u64 = 0x11_0000;
const USED: u64 = 0x12_0000;
const HEADER: u64 = 0x20_0000;
const DATA: u64 = 0x30_0000;
const STATUS: u64 = 0x40_0000;
const SECTORS: u64 = 2048;

type Disk = Mutex<Transport<Block>>;

/// A file with a pattern, served at a socket for as many front ends as connect one after another.
fn served(folder: &Path) -> (std::fs::File, std::path::PathBuf) {
    let path = folder.join("disk");
    let file = std::fs::File::options().create_new(true).read(true).write(true).open(path).unwrap();
    file.set_len(SECTORS * 512).unwrap();
    file.write_all_at(&[0xab; 4096], 4096).unwrap();
    let socket = folder.join("disk.sock");
    let (theirs, at) = (file.try_clone().unwrap(), socket.clone());
    std::thread::spawn(move || {
        loop {
            support::serve(theirs.try_clone().unwrap(), &at);
        }
    });
    let patience = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(5));
    }
    (file, socket)
}

fn connect(socket: &Path, ram: &GuestRam) -> (Disk, Line) {
    let patience = Instant::now() + Duration::from_secs(10);
    // The backend listens anew after each front end.
    let backend = loop {
        match Backend::connect(socket.to_str().unwrap(), ram) {
            Ok(backend) => break backend,
            Err(e) => assert!(Instant::now() < patience, "{e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let line = Line::new().unwrap();
    let transport = Transport::new(Block::new(Some(backend)), ram.memory.clone(), line.clone()).unwrap();
    (Mutex::new(transport), line)
}

fn write(disk: &Disk, offset: u64, value: u32) {
    Window::write(disk, offset, &value.to_le_bytes());
}

fn read(disk: &Disk, offset: u64) -> u32 {
    let mut word = [0; 4];
    Window::read(disk, offset, &mut word);
    u32::from_le_bytes(word)
}

fn start(disk: &Disk) {
    write(disk, 0x70, 3);
    write(disk, 0x24, 1);
    write(disk, 0x20, 1);
    write(disk, 0x70, 11);
    write(disk, 0x38, 16);
    for (register, address) in [(0x80, TABLE), (0x90, AVAILABLE), (0xa0, USED)] {
        write(disk, register, address as u32);
        write(disk, register + 4, 0);
    }
    write(disk, 0x44, 1);
    write(disk, 0x70, 15);
    assert_eq!(read(disk, 0x70), 15);
}

/// One request, the `n`th of the queue: reads or writes a page at `sector`. Waits for its end.
fn request(disk: &Disk, ram: &GuestRam, line: &Line, n: u16, sector: u64, out: bool) {
    let put64 = |value: u64, at| ram.memory.write_obj(value, GuestAddress(at)).unwrap();
    let put32 = |value: u32, at| ram.memory.write_obj(value, GuestAddress(at)).unwrap();
    let put16 = |value: u16, at| ram.memory.write_obj(value, GuestAddress(at)).unwrap();
    put64(u64::from(out), HEADER);
    put64(sector, HEADER + 8);
    ram.memory.write_obj(0xffu8, GuestAddress(STATUS)).unwrap();
    let data_flags = if out { 1 } else { 3 };
    let chain = [(HEADER, 16, 1u16, 1u16), (DATA, 4096, data_flags, 2), (STATUS, 1, 2, 0)];
    for (index, (address, len, flags, next)) in (0..).zip(chain) {
        put64(address, TABLE + 16 * index);
        put32(len, TABLE + 16 * index + 8);
        put16(flags, TABLE + 16 * index + 12);
        put16(next, TABLE + 16 * index + 14);
    }
    put16(0, AVAILABLE + 4 + 2 * u64::from(n % 16));
    put16(n + 1, AVAILABLE + 2);
    write(disk, 0x50, 0);
    let patience = Instant::now() + Duration::from_secs(10);
    while ram.memory.read_obj::<u16>(GuestAddress(USED + 2)).unwrap() != n + 1 {
        assert!(Instant::now() < patience, "the request is not served");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ram.memory.read_obj::<u8>(GuestAddress(STATUS)).unwrap(), 0);
    while line.fd().read().is_err() {
        assert!(Instant::now() < patience, "the interrupt is not raised");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(read(disk, 0x60) & 1, 1);
}

fn data(ram: &GuestRam) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    ram.memory.read_slice(&mut bytes, GuestAddress(DATA)).unwrap();
    bytes
}

#[test]
fn the_disk_goes_on_in_another_front_end_and_its_writes_to_memory_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = served(folder.path());
    let ram = GuestRam::new(64).unwrap();
    let (disk, line) = connect(&socket, &ram);
    assert_eq!(u64::from(read(&disk, 0x100)), SECTORS);
    start(&disk);
    request(&disk, &ram, &line, 0, 8, false);
    assert_eq!(data(&ram), [0xab; 4096]);

    // The page that the backend wrote is in its log; the one it only read is not.
    let mut dirty = DirtyBitmap::new(ram.bytes());
    disk.lock().unwrap().device().backend().unwrap().log().add_to(&mut dirty, &ram.regions);
    assert!(dirty.is_set(DATA / PAGE) && dirty.is_set(STATUS / PAGE) && !dirty.is_set(HEADER / PAGE));

    let saved = {
        let mut disk = disk.lock().unwrap();
        disk.stop().unwrap();
        disk.save()
    };
    assert_eq!((saved.queues[0].next_available, saved.queues[0].next_used), (1, 1));
    drop(disk);

    let (disk, line) = connect(&socket, &ram);
    disk.lock().unwrap().restore(&saved).unwrap();
    disk.lock().unwrap().resume(true);
    assert!(line.fd().read().is_ok(), "an interrupt that may have been lost is raised again");
    ram.memory.write_slice(&[0x77; 4096], GuestAddress(DATA)).unwrap();
    request(&disk, &ram, &line, 1, 64, true);
    let mut written = [0; 4096];
    file.read_exact_at(&mut written, 64 * 512).unwrap();
    assert_eq!(written, [0x77; 4096]);

    // A pause and going on in the same front end.
    disk.lock().unwrap().stop().unwrap();
    disk.lock().unwrap().resume(false);
    while line.fd().read().is_ok() {}
    request(&disk, &ram, &line, 2, 8, false);
    assert_eq!(data(&ram), [0xab; 4096]);
}

#[test]
fn nobody_at_the_socket_is_said_so() {
    let ram = GuestRam::new(64).unwrap();
    let why = Backend::connect("/nonexistent/disk.sock", &ram).err().unwrap().to_string();
    assert!(why.contains("/nonexistent/disk.sock") && why.contains("is cached running?"), "{why}");
}

#[test]
fn a_queue_outside_memory_stops_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (_file, socket) = served(folder.path());
    let ram = GuestRam::new(64).unwrap();
    let (disk, _line) = connect(&socket, &ram);
    write(&disk, 0x70, 3);
    write(&disk, 0x24, 1);
    write(&disk, 0x20, 1);
    write(&disk, 0x70, 11);
    write(&disk, 0x38, 16);
    write(&disk, 0x84, 1);
    write(&disk, 0x44, 1);
    write(&disk, 0x70, 15);
    assert_eq!(read(&disk, 0x70) & 64, 64);
}
