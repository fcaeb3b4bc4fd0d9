//! One user fills the store, as far as the server lets him, and nobody loses a lock by it.

use crate::{
    client::Client,
    machine::{Machine, random_id, wants},
    quota::slots_of,
    server::Setup,
};
use parcel::{
    chunk::name_of,
    id::Version,
    record::{MAX_SEALED, Public},
};

fn full<T: std::fmt::Debug>(answer: Result<T, crate::client::Refused>) -> bool {
    match answer {
        Ok(_) => false,
        Err(refused) => {
            assert_eq!((refused.status, refused.error.code.text()), (507, "store-full"));
            true
        }
    }
}

/// A record that is so much longer than it would have to be, as only a stranger to the format writes it.
fn padded(machine: &Machine, n: u64, more: usize) -> Vec<u8> {
    let mut bytes = machine.record(n, n - 1, Vec::new(), wants(1));
    bytes.extend(vec![n as u8; more]);
    assert_eq!(Public::read(&bytes).unwrap().version, Version(n), "the server cannot tell");
    bytes
}

#[tokio::test]
async fn whoever_fills_the_store_and_its_reserve_with_records_stops_no_lock() {
    // With files to spare, then with few.
    for size in ["32m", "64m,nr_inodes=2000"] {
        let setup = Setup::new();
        let server = setup.start_in_a_store_of(size);
        let (ravi, other) = (Client::of("ravi", &setup, &server).await, Machine::new());
        let epoch = ravi.create(other.id, "work", "ravi", "b").await.unwrap().epoch;
        let first = other.record(1, 0, Vec::new(), wants(1));
        ravi.commit(other.id, epoch, Version(1), &first).await.unwrap();

        let (shanta, machine) = (Client::of("shanta", &setup, &server).await, Machine::new());
        let (id, mut version) = (machine.id, 0);
        let mine = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
        let small = size.contains("inodes");
        let mut len = if small { 8 } else { 1 << 19 };
        for n in 0u64.. {
            let mut object = vec![0; len];
            object[..8].copy_from_slice(&n.to_le_bytes());
            if !full(shanta.put_chunk(id, mine, name_of(&object), &object).await) {
                continue;
            }
            if len == 8 {
                break;
            }
            len = (len / 4).max(8);
        }
        // The reserve serves commits, and not to its end.
        let mut more = if small { 0 } else { 30_000 };
        loop {
            let record = padded(&machine, version + 1, more);
            if !full(shanta.commit(id, mine, Version(version + 1), &record).await) {
                version += 1;
            } else if more == 0 {
                break;
            } else {
                more /= 2;
            }
        }
        assert!(version > 5, "{size}: {version}");
        let slots = format!("parcels/{}/slots?epoch={epoch}", other.id);
        assert!(full(ravi.put(&slots, slots_of(other.id)).await), "{size}");
        assert!(full(ravi.create(random_id(), "more", "ravi", "b").await), "{size}");

        // Heads grow to all the claims that they remember.
        ravi.unlock(other.id, epoch).await.unwrap();
        for _ in 0..35 {
            ravi.lock(other.id, "b", None).await.unwrap();
            let epoch = ravi.break_lock(other.id, "c").await.unwrap().epoch;
            ravi.unlock(other.id, epoch).await.unwrap();
        }
        shanta.unlock(id, mine).await.unwrap();
        assert_eq!(shanta.show(id).await.unwrap().version, Version(version));
    }
}

#[tokio::test]
async fn a_record_has_no_room_for_what_no_client_can_open() {
    let setup = Setup::new();
    let server = setup.start();
    let (shanta, machine) = (Client::of("shanta", &setup, &server).await, Machine::new());
    let epoch = shanta.create(machine.id, "work", "shanta", "a").await.unwrap().epoch;
    let plain = machine.record(1, 0, Vec::new(), wants(1));
    let long = [&plain[..], &vec![0; MAX_SEALED]].concat();
    let refused = shanta.commit(machine.id, epoch, Version(1), &long).await.unwrap_err();
    assert_eq!((refused.status, refused.error.code.text()), (400, "bad-record"));
    let text = &refused.error.message;
    assert!(text.contains("its sealed part is longer than any may be"), "{text}");
    // Nor for spaces in its public part.
    let end = 12 + u32::from_le_bytes(plain[8..12].try_into().unwrap()) as usize;
    let (clear, sealed) = plain.split_at(end);
    let mut spaced = [clear, &[b' '; 1000], sealed].concat();
    spaced[8..12].copy_from_slice(&(end as u32 - 12 + 1000).to_le_bytes());
    let refused = shanta.commit(machine.id, epoch, Version(1), &spaced).await.unwrap_err();
    assert_eq!((refused.status, refused.error.code.text()), (400, "bad-record"));
    shanta.commit(machine.id, epoch, Version(1), &plain).await.unwrap();
}
