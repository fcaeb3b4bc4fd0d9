//! Fuzzing in small: every entry on good inputs, on changed ones and on random ones of a seeded generator, so that each run of
//! the tests tries the same. `fuzz/` goes on from here without bounds.

use crate::entries::{ALL, GOLDEN, good_passes};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Inputs that reach far; each entry is given all of them.
fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut corpus: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    corpus.extend([vec![], vec![0; 100], vec![0xff; 200], GOLDEN.to_vec()]);
    for line in [
        "\u{1}{\"cmd\":\"status\"}\n{\"cmd\":\"save\"}\n{\"cmd\":\"status\"}\n",
        "\u{0}{\"cmd\":\"console_size\",\"cols\":80,\"rows\":25}\n{\"cmd\":\"pause\"}\n",
        "\u{1}{\"reply\":\"machine\",\"machine\":{\"vcpus\":2,\"memory_mib\":64,\"cpu_baseline\":\"x86-64-v1\",\
         \"mac\":\"52:54:00:12:34:56\"},\"start\":{\"how\":\"restore\"},\"disk_socket\":\"\"}\n{\"reply\":\"ready\"}\n\
         {\"reply\":\"saved\"}\n{\"reply\":\"saved\"}\n",
        "\u{82}{\"reply\":\"machine\",\"machine\":{\"vcpus\":1,\"memory_mib\":64,\"cpu_baseline\":\"x86-64-v2\",\
         \"mac\":\"52:54:00:12:34:56\"},\"start\":{\"how\":\"cold\",\"cmdline\":\"quiet\"},\"disk_socket\":\"/d\"}\n",
    ] {
        // One byte first, which is not text.
        let mut bytes = line.as_bytes().to_vec();
        if line.starts_with('\u{82}') {
            bytes.remove(0);
            bytes[0] = 0x82;
        }
        corpus.push(bytes);
    }
    corpus
}

fn through_all(input: &[u8]) {
    for (_, entry) in ALL {
        entry(input);
    }
}

fn runner(cases: u32, seed: u8) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}

#[test]
fn good_inputs_go_through_every_entry() {
    corpus().iter().for_each(|input| through_all(input));
}

#[test]
fn changed_inputs_go_through_every_entry() {
    let corpus = corpus();
    let changes = prop::collection::vec((any::<Index>(), any::<u8>(), 0u8..4), 1..8);
    let run = |(seed, changes): (Index, Vec<(Index, u8, u8)>)| {
        let mut input = corpus[seed.index(corpus.len())].clone();
        for (place, value, how) in changes {
            let place = if input.is_empty() { 0 } else { place.index(input.len()) };
            match how {
                0 if place < input.len() => drop(input.remove(place)),
                1 => input.insert(place, value),
                2 => input.truncate(place.max(1)),
                _ => input.iter_mut().skip(place).take(1).for_each(|byte| *byte = value),
            }
        }
        through_all(&input);
        Ok(())
    };
    runner(300, 0x57).run(&(any::<Index>(), changes), run).unwrap();
}

#[test]
fn random_bytes_go_through_every_entry() {
    let run = |input: Vec<u8>| {
        through_all(&input);
        Ok(())
    };
    runner(300, 0x61).run(&prop::collection::vec(any::<u8>(), 0..400), run).unwrap();
}

#[test]
fn what_is_good_gets_through_every_check() {
    good_passes();
}

/// Every entry has its fuzz target, and every target its entry.
#[test]
fn every_entry_has_a_fuzz_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/vmm_targets");
    let mut targets: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    targets.sort();
    let mut names: Vec<_> = ALL.iter().map(|(name, _)| format!("vmm_{name}")).collect();
    names.sort();
    assert_eq!(targets, names);
}
