//! How fast chunks are sealed and opened, on all cores at once, beside the sum of what they are made of, in the same run.
//!
//! `cargo bench -p parcel --bench seal -- [--out FILE] [--rounds N] [INPUT…]`
//!
//! The input is program code: the files named, else shared libraries of this machine, else this program. Whole and
//! parts take turns, round by round, and of each the best round counts, so that what else the machine does disturbs both alike.
//! Throughputs are by the clock on the wall; the ratio is by the CPU time of the slowest core, which other programs disturb
//! less (`ratio_wall` is the other one). Results are JSON on standard output, and in FILE, whose path counts from the workspace's root.

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::AeadInOut, aead::inout::InOutBuf};
use nix::time::{ClockId, clock_gettime};
use parcel::chunk::{self, CHUNK_SIZE, Opener, Sealed, Sealer};
use parcel::secret::{ChunkKey, Secret};
use sha1::{Digest, Sha1};
use std::{
    hint::black_box,
    path::{Path, PathBuf},
    sync::Barrier,
    time::{Duration, Instant},
};

/// The most input that is used, in bytes.
const INPUT: usize = 32 << 20;
/// zstd levels that are measured.
const LEVELS: [i32; 2] = [1, 3];
/// Whole throughput over the sum of the parts: the goal.
const GOAL: f64 = 0.9;

fn main() -> std::io::Result<()> {
    let (mut out, mut rounds, mut inputs) = (None, 7, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {}
            "--out" => out = args.next().map(PathBuf::from),
            "--rounds" => rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(rounds).max(1),
            _ => inputs.push(PathBuf::from(arg)),
        }
    }
    let chunks = read_input(inputs)?;
    let threads = std::thread::available_parallelism()?.get();
    let results: Vec<_> = LEVELS.iter().map(|level| measure(&chunks, *level, threads, rounds)).collect();
    let text = serde_json::to_string_pretty(&serde_json::json!({ "bench": "seal", "levels": results }))?;
    println!("{text}");
    if let Some(path) = out {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text + "\n")?;
    }
    Ok(())
}

/// Full chunks of program code.
fn read_input(mut files: Vec<PathBuf>) -> std::io::Result<Vec<Vec<u8>>> {
    if files.is_empty() {
        files = libraries(Path::new("/usr/lib/x86_64-linux-gnu"));
        files.push(std::env::current_exe()?);
    }
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(std::fs::read(file)?);
        if bytes.len() >= INPUT {
            break;
        }
    }
    bytes.truncate(INPUT);
    Ok(bytes.chunks_exact(CHUNK_SIZE).map(<[u8]>::to_vec).collect())
}

/// Shared libraries in a folder, by name, so that each run takes the same.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && !path.is_symlink() && path.to_string_lossy().contains(".so."))
        .collect();
    files.sort();
    files
}

/// How long a step takes.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

impl Took {
    const MAX: Self = Self { wall: Duration::MAX, cpu: Duration::MAX };

    /// Keeps the better of each.
    fn best(&mut self, other: Self) {
        self.wall = self.wall.min(other.wall);
        self.cpu = self.cpu.min(other.cpu);
    }
}

impl std::ops::Add for Took {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

/// CPU time of this thread so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock").into()
}

/// Runs `work` on every core at once; answers how long the slowest took.
fn all_cores<T: Send>(states: &mut [T], work: impl Fn(&mut T) + Sync) -> Took {
    let barrier = Barrier::new(states.len());
    let run = |state: &mut T| {
        barrier.wait();
        let (start, cpu) = (Instant::now(), cpu_time());
        work(state);
        Took { wall: start.elapsed(), cpu: cpu_time() - cpu }
    };
    let run = &run;
    let took: Vec<Took> = std::thread::scope(|scope| {
        let threads: Vec<_> = states.iter_mut().map(|state| scope.spawn(move || run(state))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread of the benchmark")).collect()
    });
    let slowest = |of: fn(&Took) -> Duration| took.iter().map(of).max().unwrap_or_default();
    Took { wall: slowest(|took| took.wall), cpu: slowest(|took| took.cpu) }
}

/// What one core works on.
struct Core {
    plain: Vec<Vec<u8>>,
    sealed: Vec<Sealed>,
    /// Bodies as they are after decryption, and before encryption.
    bodies: Vec<Vec<u8>>,
    sealer: Sealer,
    opener: Opener,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    buffer: Vec<u8>,
    room: Vec<u8>,
}

impl Core {
    fn new(plain: Vec<Vec<u8>>, secret: &Secret, level: i32) -> Self {
        let sealed: Vec<Sealed> =
            plain.iter().map(|plain| chunk::seal(secret, plain, level).expect("a chunk")).collect();
        let bodies = sealed.iter().map(body).collect();
        Self {
            plain,
            sealed,
            bodies,
            sealer: Sealer::new().expect("memory"),
            opener: Opener::new(),
            compressor: zstd::bulk::Compressor::new(level).expect("memory"),
            decompressor: zstd::bulk::Decompressor::new().expect("memory"),
            buffer: Vec::new(),
            room: vec![0; 2 * CHUNK_SIZE],
        }
    }
}

fn cipher(key: &ChunkKey) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

fn body(chunk: &Sealed) -> Vec<u8> {
    let mut body = vec![0; chunk.bytes.len() - 16];
    decrypt(chunk, &mut body);
    body
}

/// Decrypts a sealed chunk into a buffer of at least its length.
fn decrypt(chunk: &Sealed, out: &mut [u8]) {
    let (data, tag) = chunk.bytes.split_last_chunk::<16>().expect("a tag");
    let buffer = InOutBuf::new(data, &mut out[..data.len()]).expect("equal lengths");
    cipher(&chunk.key)
        .decrypt_inout_detached(&Nonce::default(), &[], buffer, &(*tag).into())
        .expect("what was sealed");
}

fn measure(chunks: &[Vec<u8>], level: i32, threads: usize, rounds: usize) -> serde_json::Value {
    let secret = Secret::from_bytes([7; 32]);
    let share = chunks.len() / threads;
    let mut cores: Vec<Core> = chunks
        .chunks_exact(share)
        .take(threads)
        .map(|part| Core::new(part.to_vec(), &secret, level))
        .collect();
    let bytes = (share * threads * CHUNK_SIZE) as f64;
    let packed: usize = cores.iter().flat_map(|core| &core.bodies).map(Vec::len).sum();

    let [mut seal, mut seal_fresh, mut open, mut open_fresh] = [Took::MAX; 4];
    let mut parts = [Took::MAX; 6];
    for _ in 0..rounds {
        seal.best(all_cores(&mut cores, |core| {
            for plain in &core.plain {
                black_box(core.sealer.seal_into(&secret, plain, level, &mut core.buffer)).expect("a chunk");
            }
        }));
        parts[0].best(all_cores(&mut cores, |core| {
            for plain in &core.plain {
                black_box(core.compressor.compress_to_buffer(plain, core.room.as_mut_slice())).expect("room");
            }
        }));
        parts[1].best(all_cores(&mut cores, |core| {
            for body in &core.bodies {
                black_box(blake3::keyed_hash(secret.expose(), body));
            }
        }));
        parts[2].best(all_cores(&mut cores, |core| {
            for (body, chunk) in core.bodies.iter().zip(&core.sealed) {
                let room = &mut core.room[..body.len()];
                let tag = cipher(&chunk.key).encrypt_inout_detached(&Nonce::default(), &[], room.into());
                black_box(tag).expect("a short message");
            }
        }));
        parts[3].best(all_cores(&mut cores, |core| {
            for chunk in &core.sealed {
                black_box(Sha1::digest(&chunk.bytes));
            }
        }));
        parts[4].best(all_cores(&mut cores, |core| {
            for chunk in &core.sealed {
                decrypt(chunk, &mut core.room);
            }
        }));
        parts[5].best(all_cores(&mut cores, |core| {
            for body in &core.bodies {
                if let [1, frame @ ..] = body.as_slice() {
                    black_box(core.decompressor.decompress_to_buffer(frame, &mut core.room[..CHUNK_SIZE]))
                        .expect("a frame");
                }
            }
        }));
        open.best(all_cores(&mut cores, |core| {
            for Sealed { name, key, bytes } in &core.sealed {
                core.opener.open_into(&secret, name, key, bytes, &mut core.buffer).expect("what was sealed");
            }
        }));
        seal_fresh.best(all_cores(&mut cores, |core| {
            for plain in &core.plain {
                black_box(chunk::seal(&secret, plain, level)).expect("a chunk");
            }
        }));
        open_fresh.best(all_cores(&mut cores, |core| {
            for Sealed { name, key, bytes } in &core.sealed {
                black_box(chunk::open(&secret, name, key, bytes)).expect("what was sealed");
            }
        }));
    }

    let [zstd, blake3, encrypt, sha1, decrypt, unzstd] = parts;
    let rate = |took: Took| (bytes / took.wall.as_secs_f64() / 1e5).round() / 10.0;
    let side = |whole: Took, fresh: Took, sum: Took, named: serde_json::Value| {
        let per = |sum: Duration, whole: Duration| {
            (sum.as_secs_f64() / whole.as_secs_f64() * 1000.0).round() / 1000.0
        };
        let ratio = per(sum.cpu, whole.cpu);
        serde_json::json!({
            "mb_per_s": rate(whole),
            "mb_per_s_without_buffer_reuse": rate(fresh),
            "sum_of_parts_mb_per_s": rate(sum),
            "ratio": ratio,
            "ratio_wall": per(sum.wall, whole.wall),
            "goal": GOAL,
            "goal_met": ratio >= GOAL,
            "us_per_chunk_and_core": (whole.cpu.as_secs_f64() * 1e6 / share as f64).round(),
            "parts_mb_per_s": named,
        })
    };
    let sealing = serde_json::json!({ "zstd": rate(zstd), "blake3": rate(blake3), "aes_gcm": rate(encrypt), "sha1": rate(sha1) });
    let opening = serde_json::json!({ "sha1": rate(sha1), "aes_gcm": rate(decrypt), "blake3": rate(blake3), "unzstd": rate(unzstd) });
    serde_json::json!({
        "zstd_level": level,
        "cores": threads,
        "chunks": share * threads,
        "compression": (bytes / packed as f64 * 100.0).round() / 100.0,
        "seal": side(seal, seal_fresh, zstd + blake3 + encrypt + sha1, sealing),
        "open": side(open, open_fresh, sha1 + decrypt + blake3 + unzstd, opening),
    })
}
