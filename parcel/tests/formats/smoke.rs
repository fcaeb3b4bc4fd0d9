//! Fuzzing in small: every parser entry on golden files that were cut, spliced and flipped by a seeded generator, so that each
//! run of the tests tries the same thousands of hostile inputs. `fuzz/` goes on from here without bounds.

use crate::{entries, sample, slots, wire};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// One change to an input.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Drop(Index, u8),
    Insert(Index, Vec<u8>),
    Repeat(Index, u8),
    /// Writes a number where a length may stand.
    Number(Index, u32),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index, bytes: &[u8]| if bytes.is_empty() { 0 } else { index.index(bytes.len()) };
        match self {
            Self::Flip(index, bit) => {
                let at = at(index, bytes);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
            }
            Self::Set(index, to) => {
                let at = at(index, bytes);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = *to);
            }
            Self::Cut(index) => bytes.truncate(at(index, bytes)),
            Self::Drop(index, len) => {
                let from = at(index, bytes);
                bytes.drain(from..bytes.len().min(from + usize::from(*len)));
            }
            Self::Insert(index, fresh) => {
                let at = at(index, bytes);
                bytes.splice(at..at, fresh.iter().copied());
            }
            Self::Repeat(index, len) => {
                let from = at(index, bytes);
                let piece = bytes[from..bytes.len().min(from + usize::from(*len))].to_vec();
                bytes.splice(from..from, piece);
            }
            Self::Number(index, number) => {
                let at = at(index, bytes);
                bytes.iter_mut().skip(at).zip(number.to_le_bytes()).for_each(|(byte, to)| *byte = to);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let index = || any::<Index>();
    let number =
        prop_oneof![Just(0), Just(1), Just(u32::MAX), Just(0x7fff_ffff), Just(0x1_0000), any::<u32>()];
    prop_oneof![
        4 => (index(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (index(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        1 => index().prop_map(Change::Cut),
        2 => (index(), 1u8..).prop_map(|(at, len)| Change::Drop(at, len)),
        2 => (index(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, fresh)| Change::Insert(at, fresh)),
        1 => (index(), 1u8..).prop_map(|(at, len)| Change::Repeat(at, len)),
        2 => (index(), number).prop_map(|(at, number)| Change::Number(at, number)),
    ]
}

/// Good inputs of every kind; each entry is given all of them.
fn corpus() -> Vec<Vec<u8>> {
    // Under another key than the entries use: they must refuse every one.
    let key = sample::parcel_key();
    let leaf = sample::leaf().seal(&key, &sample::parcel_id(), parcel::keyring::ImageKind::Disk, 0).unwrap();
    let frame = zstd::bulk::compress(&[5; 1000], 1).unwrap();
    let mut private = vec![1];
    private.extend([7; 32]);
    private.extend([2, 0, 0, 0, b'r', b'o', 1, 0, 0, 0, 9, 0, 0, 0]);
    let mut map = vec![1, 2];
    map.extend([0, 0, 0, 0, 32, 0, 0, 0, 65, 0, 0, 0]);
    let mut corpus = vec![
        parcel::chunk::seal(&sample::secret(), &[5; 1000], 3).unwrap().bytes,
        [&[1], &frame[..]].concat(),
        [&[0], &frame[..]].concat(),
        leaf.bytes,
        sample::record().seal(&key).unwrap(),
        private,
        map,
        slots::slots(slots::CHEAP).to_json().into_bytes(),
        slots::recovery().to_text().as_bytes().to_vec(),
        sample::parcel_id().to_string().into_bytes(),
        sample::name(3).to_string().into_bytes(),
        key.to_hex().as_bytes().to_vec(),
        serde_json::to_vec(&(sample::tag(), sample::inventory())).unwrap(),
        vec![],
    ];
    corpus.extend(wire::lines().into_iter().map(String::into_bytes));
    corpus
}

fn runner(cases: u32, seed: u8) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}

#[test]
fn good_inputs_go_through_every_entry() {
    for input in corpus() {
        for (_, entry) in entries::ALL {
            entry(&input);
        }
    }
}

#[test]
fn mutated_inputs_go_through_every_entry() {
    let corpus = corpus();
    let inputs = (any::<Index>(), prop::collection::vec(change(), 1..6));
    let run = |(seed, changes): (Index, Vec<Change>)| {
        let mut input = corpus[seed.index(corpus.len())].clone();
        changes.iter().for_each(|change| change.apply(&mut input));
        for (_, entry) in entries::ALL {
            entry(&input);
        }
        Ok(())
    };
    runner(3000, 0x57).run(&inputs, run).unwrap();
}

#[test]
fn random_bytes_go_through_every_entry() {
    let inputs =
        prop_oneof![prop::collection::vec(any::<u8>(), 0..300), ".{0,80}".prop_map(String::into_bytes)];
    let run = |input: Vec<u8>| {
        for (_, entry) in entries::ALL {
            entry(&input);
        }
        Ok(())
    };
    runner(1000, 0x61).run(&inputs, run).unwrap();
}

/// Every entry has its fuzz target, and every target its entry.
#[test]
fn every_entry_has_a_fuzz_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/fuzz_targets");
    let mut targets: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    targets.sort();
    let mut names: Vec<_> = entries::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(targets, names);
}
