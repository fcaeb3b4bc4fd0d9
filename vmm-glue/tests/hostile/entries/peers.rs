//! Hostile peers: `cached` as describer and as disk, and whoever steers.

use super::{
    GOLDEN,
    input::{Input, changed},
    kernel::least_kernel,
    state::description,
};
use parcel::wire::vmm::{GuestState, Reply};
use sockets::transfer;
use std::{
    fs::File,
    io::Write,
    net::Shutdown,
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    },
};
use vmm_glue::{
    boot,
    devices::{
        block::{Backend, Block},
        bus::Window,
        irq::Line,
        virtio::Transport,
    },
    machine::{
        build::parse_mac,
        manager::{Event, Shared},
        state::MachineState,
    },
    memory::{GuestRam, dirty::memfd_of},
    wire::{
        control::Control,
        guest::{GuestClient, Origin},
    },
};

/// What fits into a socket without a reader.
const WHOLE: usize = 64 * 1024;

/// A stream that says all this, with these files, and then nothing more.
fn saying(bytes: &[u8], files: &[File]) -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let bytes = &bytes[..bytes.len().min(WHOLE)];
    if let Some(first) = bytes.first() {
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        transfer::send(&theirs, &[*first], &fds).unwrap();
        theirs.write_all(&bytes[1..]).unwrap();
    }
    theirs.shutdown(Shutdown::Write).unwrap();
    (ours, theirs)
}

/// What `cached` answers on `guest.sock`, with up to six files of which it may have sent too many or too few.
pub fn guest_replies(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8().unwrap_or(0);
    let first = if how & 0x80 == 0 { GOLDEN.to_vec() } else { least_kernel() };
    let files: Vec<File> =
        (0..how % 7).map(|n| memfd_of(c"test", if n == 0 { &first } else { &[7; 100] }).unwrap()).collect();
    let (ours, _theirs) = saying(input.rest(), &files);
    let mut client = GuestClient::new(ours);
    if let Ok(described) = client.describe() {
        let _ = parse_mac(&described.machine.mac);
        let _ = described.machine.cpu_baseline.parse::<vmm_glue::cpu::baseline::Baseline>();
        let ram = GuestRam::new(64).unwrap();
        match described.origin {
            Origin::Restore(bytes) => drop(MachineState::from_bytes(&bytes, &description())),
            Origin::Cold(mut boot) => drop(boot::load(&ram, &mut boot, described.machine.vcpus.min(32))),
        }
        let _ = client.memory(&ram, None);
        let state = memfd_of(c"test", b"state").unwrap();
        let _ = client.save(&state, &state, 1);
        let _ = client.powered_off();
        let _ = client.kernel();
    }
}

/// A message of the vhost-user protocol from a backend.
fn message(request: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Version 1, a reply.
    for word in [request, 1 | 4, payload.len() as u32] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// What a good backend says from the connection to the queue's return.
fn good_disk() -> Vec<u8> {
    let number = |request, value: u64| message(request, &value.to_le_bytes());
    let mut config = Vec::new();
    for word in [0u32, 60, 1] {
        config.extend(word.to_le_bytes());
    }
    config.extend(2048u64.to_le_bytes());
    config.resize(12 + 60, 0);
    let mut stream = Vec::new();
    // GET_FEATURES: version 1, flush, protocol features, log. GET_PROTOCOL_FEATURES: log by memfd, acknowledged, config.
    stream.extend(number(1, 1 << 32 | 1 << 9 | 1 << 30 | 1 << 26));
    stream.extend(number(15, 1 << 1 | 1 << 3 | 1 << 9));
    stream.extend(message(24, &config));
    // SET_FEATURES, SET_MEM_TABLE, SET_LOG_BASE, SET_VRING_NUM, _ADDR, _BASE, _CALL, _KICK, _ENABLE: all well.
    for request in [2, 5, 6, 8, 9, 10, 13, 12, 18] {
        match request {
            // The log is told back: its size, and where it begins.
            6 => stream.extend(message(6, &[4096u64.to_le_bytes(), 0u64.to_le_bytes()].concat())),
            _ => stream.extend(number(request, 0)),
        }
    }
    // GET_VRING_BASE: at the seventh entry.
    let mut state = 0u32.to_le_bytes().to_vec();
    state.extend(7u32.to_le_bytes());
    stream.extend(message(11, &state));
    stream
}

type Disk = Mutex<Transport<Block>>;

fn disk(backend: Option<Backend>, ram: &GuestRam) -> Disk {
    Mutex::new(Transport::new(Block::new(backend), ram.memory.clone(), Line::new().unwrap()).unwrap())
}

/// A driver that follows the rules starts the disk; the status that it ends with.
fn start(disk: &Disk) -> u8 {
    for (register, value) in [
        (0x70, 3u32),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x38, 16),
        (0x80, 0x10_0000),
        (0x90, 0x11_0000),
        (0xa0, 0x12_0000),
        (0x44, 1),
        (0x70, 15),
    ] {
        Window::write(disk, register, &value.to_le_bytes());
    }
    let mut status = [0; 4];
    Window::read(disk, 0x70, &mut status);
    status[0]
}

/// Takes a good backend through the whole conversation.
pub fn good_disk_passes() {
    let (ours, _theirs) = saying(&good_disk(), &[]);
    let ram = GuestRam::new(64).unwrap();
    let disk = disk(Some(Backend::from_stream(ours, &ram).unwrap()), &ram);
    assert_eq!(start(&disk), 15);
    let mut disk = disk.lock().unwrap();
    disk.stop().unwrap();
    assert_eq!(disk.save().queues[0].next_available, 7);
}

/// What the disk's backend says.
pub fn disk_replies(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stream = changed(&good_disk(), &mut input);
    stream.extend(input.rest());
    let (ours, _theirs) = saying(&stream, &[]);
    let ram = GuestRam::new(64).unwrap();
    let Ok(backend) = Backend::from_stream(ours, &ram) else { return };
    let transport = disk(Some(backend), &ram);
    start(&transport);
    Window::read(&transport, 0x100, &mut [0; 8]);
    let mut transport = transport.lock().unwrap();
    // A disk that does not give its queue back is not saved, however often it is tried.
    if transport.stop().is_ok() {
        let saved = transport.save();
        disk(None, &ram).lock().unwrap().restore(&saved).expect("what was saved can be restored");
    } else {
        assert!(transport.stop().is_err());
    }
    transport.resume(false);
    transport.reset();
}

/// What comes in at `vmm.sock`, while another connection ends it all.
pub fn control(data: &[u8]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut input = Input::new(data);
    let states = [GuestState::Starting, GuestState::Running, GuestState::Paused, GuestState::PoweredOff];
    let shared = Arc::new(Shared::default());
    shared.set(states[usize::from(input.u8().unwrap_or(0)) % 4]);
    let name = format!("waystation-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let (sender, events) = channel();
    let (control, answer) = Control::new(listener, sender, shared).unwrap();
    let manager = std::thread::spawn(move || {
        while let Ok(Event::Command(who, _)) = events.recv() {
            answer(who, Reply::Ok);
        }
    });
    let connect = |bytes: &[u8]| {
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        // It may have been let go before all is said.
        let _ = stream.write_all(bytes);
        stream
    };
    let bytes = input.rest();
    let one = connect(&bytes[..bytes.len().min(4096)]);
    let other = connect(b"{\"cmd\":\"quit\"}\n");
    control.run().unwrap();
    drop((one, other));
    manager.join().unwrap();
}
