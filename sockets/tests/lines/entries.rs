//! What the fuzz target and the ordinary tests put into the codec. It may not panic, its lines do not depend on how the
//! stream was cut, and it holds or hands out every descriptor that came, or has dropped it.

use sockets::{Broken, Error, MAX_LINE, codec::Decoder};
use std::{cell::Cell, rc::Rc};

/// A function that takes any bytes, and its name.
pub type Entry = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Entry] = &[("lines", lines)];

/// A descriptor that is counted while it is there.
#[derive(Debug)]
pub struct Token {
    id: usize,
    alive: Rc<Cell<usize>>,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// What is read at once.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<usize>,
    pub lost: bool,
}

/// A line and the descriptors with it; at last, how the stream ended.
pub type Said = (Vec<(Vec<u8>, Vec<usize>)>, End);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Unfinished,
    Broken,
}

/// Puts chunks into a decoder, and takes lines whenever `taken` says so, and at the end.
pub fn decode(most: usize, chunks: &[Chunk], mut taken: impl FnMut(usize) -> bool) -> Said {
    let alive = Rc::new(Cell::new(0));
    let mut decoder = Decoder::new(most);
    let mut lines = Vec::new();
    let mut broken = false;
    for (index, chunk) in chunks.iter().enumerate() {
        let tokens = chunk.descriptors.iter().map(|id| {
            alive.set(alive.get() + 1);
            Token { id: *id, alive: Rc::clone(&alive) }
        });
        decoder.push(&chunk.bytes, tokens.collect(), chunk.lost);
        if taken(index) || index + 1 == chunks.len() {
            loop {
                match decoder.take() {
                    Ok(Some(line)) => {
                        assert!(line.bytes.ends_with(b"\n") && line.bytes.len() <= MAX_LINE);
                        assert!(line.descriptors.len() <= most);
                        assert!(alive.get() >= line.descriptors.len());
                        lines.push((
                            line.bytes.to_vec(),
                            line.descriptors.iter().map(|token| token.id).collect(),
                        ));
                    }
                    Ok(None) => break,
                    Err(why) => {
                        assert_eq!(decoder.take().unwrap_err(), why, "a broken connection stays broken");
                        assert_eq!(alive.get(), 0, "a broken connection holds nothing");
                        assert!(!decoder.has_room());
                        broken = true;
                        break;
                    }
                }
            }
            // Whoever takes the lines holds no more than those of one unfinished line.
            assert!(alive.get() <= most);
        }
    }
    let end = match decoder.end() {
        Error::Closed => End::Closed,
        Error::Broken(Broken::Unfinished) => End::Unfinished,
        Error::Broken(_) => End::Broken,
        other => panic!("{other:?}"),
    };
    assert_eq!(broken, end == End::Broken);
    assert_eq!(alive.get(), 0, "nothing is held at the end of a stream");
    (lines, end)
}

/// The same, from the whole stream, in the simplest way.
pub fn oracle(most: usize, chunks: &[Chunk]) -> Said {
    let mut stream = Vec::new();
    let mut events = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.bytes.is_empty()) {
        stream.extend(&chunk.bytes);
        events.push((stream.len() - 1, chunk));
    }
    let mut lines = Vec::new();
    let mut start = 0;
    while start < stream.len() {
        let end = stream[start..].iter().position(|byte| *byte == b'\n').map(|at| start + at + 1);
        let range = start..end.unwrap_or(stream.len());
        let with: Vec<_> = events.iter().filter(|(place, _)| range.contains(place)).collect();
        let ids: Vec<usize> = with.iter().flat_map(|(_, chunk)| chunk.descriptors.clone()).collect();
        let room = if end.is_some() { MAX_LINE } else { MAX_LINE - 1 };
        if range.len() > room || ids.len() > most || with.iter().any(|(_, chunk)| chunk.lost) {
            return (lines, End::Broken);
        }
        let Some(end) = end else { return (lines, End::Unfinished) };
        lines.push((stream[range].to_vec(), ids));
        start = end;
    }
    (lines, End::Closed)
}

/// The chunks cut into pieces of at most `len` bytes. What came with a chunk comes with its last piece.
pub fn cut(chunks: &[Chunk], len: usize) -> Vec<Chunk> {
    let mut pieces = Vec::new();
    for chunk in chunks {
        let parts: Vec<&[u8]> = chunk.bytes.chunks(len).collect();
        for (index, part) in parts.iter().enumerate() {
            let mut piece = Chunk { bytes: part.to_vec(), ..Chunk::default() };
            if index + 1 == parts.len() {
                (piece.descriptors, piece.lost) = (chunk.descriptors.clone(), chunk.lost);
            }
            pieces.push(piece);
        }
    }
    pieces
}

/// Bytes as chunks: a head, then so many bytes. The first byte says how many descriptors a line may have.
fn chunks(data: &[u8]) -> (usize, Vec<Chunk>) {
    let [most, rest @ ..] = data else { return (0, Vec::new()) };
    let (mut rest, mut chunks, mut next) = (rest, Vec::new(), 0);
    while let [head, descriptors, more @ ..] = rest {
        let (bytes, left) = match head {
            // Lines of the longest kind are made, not read.
            0xf0.. => (vec![b'x'; (MAX_LINE >> 2) + usize::from(*head) - 0xf8], more),
            len => {
                let (bytes, left) = more.split_at(usize::from(*len).min(more.len()));
                (bytes.to_vec(), left)
            }
        };
        // Most chunks bring none.
        let count = usize::from(descriptors & 0x0f).saturating_sub(8);
        chunks.push(Chunk {
            bytes,
            descriptors: (next..next + count).collect(),
            lost: descriptors & 0xf0 == 0xf0,
        });
        next += count;
        rest = left;
    }
    (usize::from(most % 5), chunks)
}

/// Any chunks, taken at once, at the end, and cut into single bytes.
pub fn lines(data: &[u8]) {
    let (most, chunks) = chunks(data);
    let expected = oracle(most, &chunks);
    assert_eq!(decode(most, &chunks, |_| true), expected);
    assert_eq!(decode(most, &chunks, |_| false), expected);
    assert_eq!(decode(most, &chunks, |index| index % 3 == 0), expected);
    let len: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    let small = if len < 10_000 { 1 } else { 4096 };
    assert_eq!(decode(most, &cut(&chunks, small), |_| true), expected);
}
