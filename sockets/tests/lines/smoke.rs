//! Fuzzing in small: the seeds, seeds with changes, and random streams. `fuzz/` goes on from here without bounds.

use crate::entries::{ALL, Chunk, End, cut, decode, oracle};
use parcel::wire::vmm::{GuestState, Reply};
use proptest::prelude::*;
use sockets::{Broken, Error, MAX_LINE, codec::encode};

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lines/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6, "the seeds are there");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn seeds_go_through_every_entry() {
    for seed in seeds() {
        ALL.iter().for_each(|(_, entry)| entry(&seed));
    }
}

/// Every entry has its fuzz target, and every target its entry.
#[test]
fn every_entry_has_a_fuzz_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/socket_targets");
    let mut targets: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    targets.sort();
    let names: Vec<_> = ALL.iter().map(|(name, _)| format!("socket_{name}")).collect();
    assert_eq!(targets, names);
}

#[test]
fn a_line_has_at_most_its_limit() {
    let line = |len: usize| {
        let mut bytes = vec![b'x'; len - 1];
        bytes.push(b'\n');
        [Chunk { bytes, ..Chunk::default() }]
    };
    for len in [1, 4096, MAX_LINE] {
        let (lines, end) = decode(0, &line(len), |_| true);
        assert_eq!((lines.len(), lines[0].0.len(), end), (1, len, End::Closed));
        assert_eq!(decode(0, &cut(&line(len), 4095), |_| true).0.len(), 1);
    }
    assert_eq!(decode(0, &line(MAX_LINE + 1), |_| true), (vec![], End::Broken));
    assert_eq!(decode(0, &cut(&line(MAX_LINE + 1), 4095), |_| true), (vec![], End::Broken));
    // What is sent keeps the same limit: quotes and the line's end count.
    let text = |len: usize| "x".repeat(len);
    assert_eq!(encode(&text(MAX_LINE - 3)).unwrap().len(), MAX_LINE);
    assert!(matches!(encode(&text(MAX_LINE - 2)), Err(Error::Broken(Broken::LineTooLong))));
    assert_eq!(
        **encode(&Reply::Status { state: GuestState::Paused, failure: None, clock_behind: false }).unwrap(),
        *b"{\"reply\":\"status\",\"state\":\"paused\"}\n"
    );
}

#[test]
fn many_short_lines_take_no_time_for_their_number() {
    let chunk = Chunk { bytes: b"{}\n".repeat(200_000), ..Chunk::default() };
    assert_eq!(decode(0, &[chunk.clone(), chunk], |_| false).0.len(), 400_000);
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let byte = prop_oneof![3 => Just(b'\n'), 10 => any::<u8>()];
    let descriptors = prop_oneof![4 => Just(0usize), 3 => 1..3usize, 1 => 3..7usize];
    (prop::collection::vec(byte, 0..40), descriptors, prop::bool::weighted(0.01))
        .prop_map(|(bytes, count, lost)| Chunk { bytes, descriptors: vec![0; count], lost })
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_how_the_stream_was_cut(
        mut chunks in prop::collection::vec(chunk(), 0..40),
        most in 0..5usize,
        len in 1..20usize,
        every in 1..9usize,
    ) {
        let all = chunks.iter_mut().flat_map(|chunk| &mut chunk.descriptors);
        for (number, id) in all.enumerate() {
            *id = number;
        }
        let expected = oracle(most, &chunks);
        prop_assert_eq!(&decode(most, &chunks, |index| index % every == 0), &expected);
        prop_assert_eq!(&decode(most, &cut(&chunks, len), |index| index % every == 0), &expected);
    }

    #[test]
    fn changed_seeds_go_through_every_entry(
        seed in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let seeds = seeds();
        let mut input = seeds[seed.index(seeds.len())].clone();
        for (place, value) in changes {
            let place = place.index(input.len());
            input[place] = value;
        }
        ALL.iter().for_each(|(_, entry)| entry(&input));
    }
}
