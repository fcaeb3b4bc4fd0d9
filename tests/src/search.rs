//! Looking for secrets in dumps of memory and disks.

use anyhow::{Context, Result};
use memchr::memmem::Finder;
use std::{fs::File, io::Read, path::Path};

/// Something that must not be found: a name for people and its bytes.
#[derive(Clone)]
pub struct Needle {
    /// What it is.
    pub name: String,
    bytes: Vec<u8>,
}

impl Needle {
    /// A needle of at least 8 bytes: shorter ones are found by chance.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 8, "{name} is too short to be looked for");
        Self { name: name.to_owned(), bytes: bytes.to_vec() }
    }
}

/// Counts how often each needle stands in a file.
pub fn count(file: &Path, needles: &[Needle]) -> Result<Vec<(String, usize)>> {
    const PIECE: usize = 16 << 20;
    let finders: Vec<Finder<'_>> = needles.iter().map(|needle| Finder::new(&needle.bytes)).collect();
    let overlap = needles.iter().map(|needle| needle.bytes.len() - 1).max().unwrap_or(0);
    let mut counts = vec![0; needles.len()];
    let mut from = File::open(file).with_context(|| format!("cannot read the dump {}", file.display()))?;
    let mut buffer: Vec<u8> = Vec::with_capacity(PIECE + overlap);
    loop {
        let kept = buffer.len();
        let read = (&mut from).take(PIECE as u64).read_to_end(&mut buffer)?;
        if read == 0 {
            break;
        }
        for ((finder, needle), count) in finders.iter().zip(needles).zip(&mut counts) {
            // A needle that lies wholly in the kept end was counted with the piece before.
            let start = (kept + 1).saturating_sub(needle.bytes.len());
            *count += finder.find_iter(&buffer[start..]).count();
        }
        let keep = overlap.min(buffer.len());
        buffer.drain(..buffer.len() - keep);
    }
    Ok(needles.iter().map(|needle| needle.name.clone()).zip(counts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_counted_once_also_across_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dump");
        let mut bytes = vec![0u8; 33 << 20];
        for at in [0, 100, (16 << 20) - 5, (16 << 20) + 100, (32 << 20) - 8, (33 << 20) - 10] {
            bytes[at..at + 10].copy_from_slice(b"canary-one");
        }
        bytes[(16 << 20) + 6..(16 << 20) + 6 + 20].copy_from_slice(b"another canary here!");
        std::fs::write(&file, &bytes).unwrap();
        let needles = [
            Needle::new("one", b"canary-one"),
            Needle::new("long", b"another canary here!"),
            Needle::new("none", b"never planted"),
        ];
        let found = count(&file, &needles).unwrap();
        assert_eq!(found, [("one".to_owned(), 6), ("long".to_owned(), 1), ("none".to_owned(), 0)]);
    }
}
