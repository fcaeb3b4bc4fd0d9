//! Hostile output with sizes that change: the fuzz target in small.

mod entries;

use proptest::prelude::*;

#[test]
fn seeds_are_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/seeds");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        entries::terminal(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        entries::terminal(&bytes);
    }
}
