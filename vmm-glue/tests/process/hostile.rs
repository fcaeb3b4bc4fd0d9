//! Hostile guests against the whole process, in its real jail and `init`'s environment.

use super::*;
use std::net::Shutdown;
use vmm_glue::layout::Slot;

/// 64-bit code that does a list of writes (eight bytes of address, four of value, until an address is 0), and then counts:
/// lea rsi, [rip + list]; lodsq; test rax, rax; jz count; mov rdi, rax; lodsd; mov [rdi], eax; jmp lodsq; count: …
const WRITER: &[u8] = &[
    0x48, 0x8d, 0x35, 26, 0, 0, 0, 0x48, 0xad, 0x48, 0x85, 0xc0, 0x74, 8, 0x48, 0x89, 0xc7, 0xad, 0x89, 0x07,
    0xeb, 0xf1,
];
const TEXT: u64 = 0x20_0000;
const QUEUE_SIZE: u32 = 64;
/// Bytes of one buffer of output.
const PIECE: usize = 512;

type Writes = Vec<(u64, u32)>;

fn program(writes: &Writes) -> &'static [u8] {
    let mut code = [WRITER, COUNT].concat();
    for (address, value) in writes {
        code.extend(address.to_le_bytes());
        code.extend(value.to_le_bytes());
    }
    code.extend([0; 8]);
    code.leak()
}

fn rings(queue: u64) -> [u64; 3] {
    [0, 0x1000, 0x2000].map(|offset| 0x10_0000 + queue * 0x1_0000 + offset)
}

/// A driver that follows the rules starts the device with two queues.
fn begin(slot: Slot) -> Writes {
    let window = slot.address();
    let mut writes = vec![(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11)];
    for queue in 0..2 {
        writes.extend([(0x30, queue), (0x38, QUEUE_SIZE)]);
        for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(rings(queue.into())) {
            writes.extend([(register, address as u32), (register + 4, 0)]);
        }
        writes.push((0x44, 1));
    }
    writes.push((0x70, 15));
    writes.into_iter().map(|(register, value)| (window + register, value)).collect()
}

/// Writes text to the console, in at most as many pieces as the queue has room for.
fn print(text: &[u8]) -> Writes {
    let [table, available, _] = rings(1);
    let mut writes = begin(Slot::Console);
    let put = |writes: &mut Writes, at: u64, bytes: &[u8]| {
        for (n, word) in bytes.chunks(4).enumerate() {
            let mut whole = [0; 4];
            whole[..word.len()].copy_from_slice(word);
            writes.push((at + 4 * n as u64, u32::from_le_bytes(whole)));
        }
    };
    put(&mut writes, TEXT, text);
    let pieces = text.chunks(PIECE);
    let count = pieces.len();
    assert!(count <= QUEUE_SIZE as usize);
    let mut ring = vec![0, 0, count as u8, 0];
    for (n, piece) in pieces.enumerate() {
        let at = table + 16 * n as u64;
        let words = [TEXT as u32 + (n * PIECE) as u32, 0, piece.len() as u32, 0];
        put(&mut writes, at, &words.map(u32::to_le_bytes).concat());
        ring.extend([n as u8, 0]);
    }
    put(&mut writes, available, &ring);
    writes.push((Slot::Console.address() + 0x50, 1));
    writes
}

/// Output that was hard on a terminal, and more of it than fits on a screen.
fn hostile_text() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../terminal/tests/hostile/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut text: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    for part in
        ["\x1b[5;79H\u{4f60}", "日本語\u{1f600}e\u{301}", "\x1b[65535L\x1b[65535@", "\x1b[1;2H\u{301}"]
    {
        for edge in 1..40 {
            text.extend(format!("\x1b[{};{edge}H{part}", edge % 7 + 1).bytes());
        }
    }
    text
}

/// Saves it, ends it, and lets another process go on with it and save it again.
fn survives(vmm: Vmm, code: &'static [u8]) {
    vmm.until_it_counts();
    vmm.ok(&Request::Save);
    let (state, memory) = {
        let kept = vmm.kept.lock().unwrap();
        (kept.state.clone().unwrap(), content(kept.memory.as_ref().unwrap()))
    };
    vmm.ok(&Request::Quit);
    let (status, said) = vmm.end();
    assert_eq!(status, 0, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let next = Vmm::start(code, Some((state, memory)));
    next.until_running();
    next.until_it_counts();
    next.ok(&Request::Save);
    next.ok(&Request::Quit);
    assert_eq!(next.end().0, 0);
}

#[test]
fn no_text_and_no_sizes_cost_a_guest_its_life() {
    let code = program(&print(&[&hostile_text()[..], b"\x1bc\x1b[m\x1b[2J\x1b[Hstill here"].concat()));
    let vmm = Vmm::start(code, None);
    vmm.until_running();
    let mut watcher = UnixStream::connect(vmm.folder.path().join("console.sock")).unwrap();
    for (cols, rows) in
        [(79, 25), (1, 1), (2, 2), (200, 3), (3, 200), (80, 25), (17, 5), (500, 500), (79, 24)]
    {
        vmm.ok(&Request::ConsoleSize { cols, rows });
        drop(UnixStream::connect(vmm.folder.path().join("console.sock")));
    }
    watcher.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("still here") {
        let mut piece = [0; 4096];
        let count = watcher.read(&mut piece).expect("the console goes on");
        assert!(count > 0, "the console ended");
        seen.extend(&piece[..count]);
    }
    survives(vmm, code);
}

#[test]
fn no_writes_to_registers_and_rings_cost_a_guest_its_life() {
    let mut number = 0x9e37_79b9_u32;
    let mut next = || {
        number ^= number << 13;
        number ^= number >> 17;
        number ^= number << 5;
        number
    };
    let registers =
        [0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100];
    let mut writes = print(b"hello");
    for _ in 0..3000 {
        let slot = Slot::ALL[next() as usize % 4];
        match next() % 20 {
            0 => writes.extend(begin(slot)),
            1..=4 => writes.push((
                rings(u64::from(next() % 2))[next() as usize % 3] + u64::from(next() % 64) * 4,
                next(),
            )),
            5..=8 => writes.push((slot.address() + 0x50, next() % 3)),
            how => {
                let register = registers[next() as usize % registers.len()];
                let value = if how % 2 == 0 { next() } else { next() % 64 };
                writes.push((slot.address() + register, value));
            }
        }
    }
    let code = program(&writes);
    let vmm = Vmm::start(code, None);
    vmm.until_running();
    survives(vmm, code);
}

/// Bytes that are no requests cost their own connection at most.
#[test]
fn no_bytes_on_the_sockets_cost_a_guest_its_life() {
    let vmm = Vmm::start(COUNT, None);
    vmm.until_running();
    for bytes in
        [&b"\xff\x00\n{}\n"[..], b"{\"cmd\":\"console_size\",\"cols\":-1}\n", b"[[[[[[[[\n", &[b'x'; 70_000]]
    {
        for path in [vmm.control.clone(), vmm.folder.path().join("console.sock")] {
            let Ok(mut stream) = UnixStream::connect(path) else { continue };
            stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    survives(vmm, COUNT);
}
