//! How fast chunks are sealed and opened, on all cores at once, beside the sum of what they are made of, in the same run.
//!
//! `cargo bench -p parcel --bench seal -- [--out FILE] [--rounds N] [INPUT…]`
//!
//! The input is program code: the files named, else shared libraries of this machine, else this program. Every core has
//! its own share and goes through it, round by round. At each chunk it seals (or opens) it as a whole, then does the
//! same by the bare parts, one after the other on each other's output, each with its own clock reading; which of the
//! two comes first changes from chunk to chunk and from round to round. So both meet the same bytes, the same caches and
//! the same neighbours. For each chunk and step the median over the rounds counts, which drops the rounds in which
//! something else had the core; a sum of medians over all chunks is what is compared. Times are by the clock on the
//! wall. Results are JSON on standard output, and in FILE, whose path counts from the workspace's root.

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::AeadInOut, aead::inout::InOutBuf};
use parcel::chunk::{self, CHUNK_SIZE, MAX_SEALED, Opener, Sealed, Sealer};
use parcel::secret::Secret;
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
/// Bytes of the authentication tag.
const TAG: usize = 16;

fn main() -> std::io::Result<()> {
    let (mut out, mut rounds, mut inputs) = (None, 21, Vec::new());
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
    if chunks.len() < threads {
        let few = format!("the input is too short: name files of {threads} times {CHUNK_SIZE} bytes or more");
        return Err(std::io::Error::other(few));
    }
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

/// How long one chunk took, a value for each round.
#[derive(Clone, Default)]
struct Times {
    /// With buffers kept between chunks.
    whole: Vec<Duration>,
    /// With a new vector for each chunk.
    fresh: Vec<Duration>,
    parts: [Vec<Duration>; 4],
}

/// A chunk of the input, and what was measured of it.
struct Piece {
    plain: Vec<u8>,
    sealed: Sealed,
    seal: Times,
    open: Times,
}

/// What one core works with.
struct Core<'a> {
    secret: &'a Secret,
    level: i32,
    sealer: Sealer,
    opener: Opener,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// For the whole.
    buffer: Vec<u8>,
    /// For the parts: body and tag, and what opening leaves.
    body: Vec<u8>,
    room: Vec<u8>,
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = black_box(work());
    times.push(start.elapsed());
    result
}

impl<'a> Core<'a> {
    fn new(secret: &'a Secret, level: i32) -> Self {
        Self {
            secret,
            level,
            sealer: Sealer::new().expect("memory"),
            opener: Opener::new(),
            compressor: zstd::bulk::Compressor::new(level).expect("memory"),
            decompressor: zstd::bulk::Decompressor::new().expect("memory"),
            buffer: Vec::new(),
            body: vec![0; 2 * MAX_SEALED],
            room: vec![0; CHUNK_SIZE],
        }
    }

    /// Measures a chunk once; `turn` says which way comes first.
    fn visit(&mut self, piece: &mut Piece, turn: usize) {
        for way in turn..turn + 3 {
            match way % 3 {
                0 => self.seal(piece),
                1 => self.seal_by_parts(piece),
                _ => {
                    let sealed =
                        timed(&mut piece.seal.fresh, || chunk::seal(self.secret, &piece.plain, self.level));
                    assert!(sealed.is_ok_and(|sealed| sealed.name == piece.sealed.name));
                }
            }
        }
        for way in turn..turn + 3 {
            match way % 3 {
                0 => self.open(piece),
                1 => self.open_by_parts(piece),
                _ => {
                    let Sealed { name, key, bytes } = &piece.sealed;
                    let opened = timed(&mut piece.open.fresh, || chunk::open(self.secret, name, key, bytes));
                    assert!(opened.is_ok_and(|plain| plain == piece.plain));
                }
            }
        }
    }

    fn seal(&mut self, piece: &mut Piece) {
        let sealed = timed(&mut piece.seal.whole, || {
            self.sealer.seal_into(self.secret, &piece.plain, self.level, &mut self.buffer)
        });
        assert!(sealed.is_ok_and(|(name, _)| name == piece.sealed.name));
    }

    fn seal_by_parts(&mut self, piece: &mut Piece) {
        let [zstd, blake3, encrypt, sha1] = &mut piece.seal.parts;
        let (plain, body) = (&piece.plain, &mut self.body);
        let packed = timed(zstd, || self.compressor.compress_to_buffer(plain, &mut body[1..])).expect("room");
        let len = 1 + packed.min(plain.len());
        body[0] = u8::from(packed < plain.len());
        if body[0] == 0 {
            body[1..len].copy_from_slice(plain);
        }
        timed(blake3, || blake3::keyed_hash(self.secret.expose(), &body[..len]));
        let tag = timed(encrypt, || {
            Aes256Gcm::new(piece.sealed.key.expose().into()).encrypt_inout_detached(
                &Nonce::default(),
                &[],
                InOutBuf::from(&mut body[..len]),
            )
        });
        body[len..len + TAG].copy_from_slice(&tag.expect("a short message"));
        let name = timed(sha1, || Sha1::digest(&body[..len + TAG]));
        assert!(name[..] == piece.sealed.name.0, "the parts make what the whole makes");
    }

    fn open(&mut self, piece: &mut Piece) {
        let Sealed { name, key, bytes } = &piece.sealed;
        let opened = timed(&mut piece.open.whole, || {
            self.opener.open_into(self.secret, name, key, bytes, &mut self.buffer)
        });
        assert!(opened.is_ok() && self.buffer == piece.plain);
    }

    fn open_by_parts(&mut self, piece: &mut Piece) {
        let [sha1, decrypt, blake3, unzstd] = &mut piece.open.parts;
        timed(sha1, || Sha1::digest(&piece.sealed.bytes));
        let (data, tag) = piece.sealed.bytes.split_last_chunk::<TAG>().expect("a tag");
        let body = &mut self.body[..data.len()];
        timed(decrypt, || {
            Aes256Gcm::new(piece.sealed.key.expose().into()).decrypt_inout_detached(
                &Nonce::default(),
                &[],
                InOutBuf::new(data, body).expect("equal lengths"),
                &(*tag).into(),
            )
        })
        .expect("what was sealed");
        timed(blake3, || blake3::keyed_hash(self.secret.expose(), body));
        let (codec, data) = body.split_first().expect("a codec byte");
        let room = self.room.as_mut_slice();
        timed(unzstd, || match codec {
            0 => room[..data.len()].copy_from_slice(data),
            _ => assert!(self.decompressor.decompress_to_buffer(data, room).is_ok(), "a frame"),
        });
        assert!(self.room.starts_with(&piece.plain), "the parts make what the whole makes");
    }
}

/// The sum over chunks of the median over rounds, in seconds.
fn sum_of_medians<'a>(chunks: impl Iterator<Item = &'a Vec<Duration>>) -> f64 {
    let median = |times: &'a Vec<Duration>| {
        let mut times = times.clone();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    chunks.map(median).sum()
}

fn measure(chunks: &[Vec<u8>], level: i32, threads: usize, rounds: usize) -> serde_json::Value {
    let secret = &Secret::from_bytes([7; 32]);
    let share = chunks.len() / threads;
    let barrier = &Barrier::new(threads);
    let run = |part: &[Vec<u8>]| {
        let piece = |plain: &Vec<u8>| Piece {
            plain: plain.clone(),
            sealed: chunk::seal(secret, plain, level).expect("a chunk"),
            seal: Times::default(),
            open: Times::default(),
        };
        let mut pieces: Vec<Piece> = part.iter().map(piece).collect();
        let mut core = Core::new(secret, level);
        barrier.wait();
        for round in 0..rounds {
            for (i, piece) in pieces.iter_mut().enumerate() {
                core.visit(piece, round + i);
            }
        }
        pieces
    };
    let run = &run;
    let pieces: Vec<Piece> = std::thread::scope(|scope| {
        let parts = chunks.chunks_exact(share).take(threads);
        let cores: Vec<_> = parts.map(|part| scope.spawn(move || run(part))).collect();
        cores.into_iter().flat_map(|core| core.join().expect("a thread of the benchmark")).collect()
    });

    let bytes = (pieces.len() * CHUNK_SIZE) as f64;
    let packed: usize = pieces.iter().map(|piece| piece.sealed.bytes.len() - TAG).sum();
    // Cores work at once, so what they take together goes by in a share of it.
    let rate = |seconds: f64| (bytes / seconds * threads as f64 / 1e5).round() / 10.0;
    let side = |times: fn(&Piece) -> &Times, names: [&str; 4]| {
        let sum =
            |of: fn(&Times) -> &Vec<Duration>| sum_of_medians(pieces.iter().map(|piece| of(times(piece))));
        let part = |i: usize| sum_of_medians(pieces.iter().map(|piece| &times(piece).parts[i]));
        let parts: [f64; 4] = std::array::from_fn(part);
        let (whole, all) = (sum(|times| &times.whole), parts.iter().sum::<f64>());
        let ratio = (all / whole * 1000.0).round() / 1000.0;
        let named = names.iter().zip(parts).map(|(name, seconds)| ((*name).to_owned(), rate(seconds).into()));
        serde_json::json!({
            "mb_per_s": rate(whole),
            "mb_per_s_without_buffer_reuse": rate(sum(|times| &times.fresh)),
            "sum_of_parts_mb_per_s": rate(all),
            "ratio": ratio,
            "goal": GOAL,
            "goal_met": ratio >= GOAL,
            "us_per_chunk_and_core": (whole * 1e6 / pieces.len() as f64).round(),
            "parts_mb_per_s": serde_json::Value::Object(named.collect()),
        })
    };
    serde_json::json!({
        "zstd_level": level,
        "cores": threads,
        "chunks": pieces.len(),
        "rounds": rounds,
        "compression": (bytes / packed as f64 * 100.0).round() / 100.0,
        "seal": side(|piece| &piece.seal, ["zstd", "blake3", "aes_gcm", "sha1"]),
        "open": side(|piece| &piece.open, ["sha1", "aes_gcm", "blake3", "unzstd"]),
    })
}
