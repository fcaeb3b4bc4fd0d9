//! The server is killed; what was committed is whole, and nothing that was answered is lost.

use crate::{
    client::Client,
    machine::{Machine, wants},
    server::Setup,
};
use parcel::{
    id::{ChunkName, Version},
    keyring::PublicLeaf,
    record::Public,
};
use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Everything that the last version of the only parcel names is stored under its name.
async fn assert_whole(client: &Client, machine: &Machine, version: Version) {
    if version == Version(0) {
        return;
    }
    let record = client.get(&format!("parcels/{}/versions/{version}", machine.id)).await.unwrap();
    let public = Public::read(&record).unwrap();
    assert_eq!(public.version, version);
    let fetch = |name: ChunkName| async move {
        let bytes = client.get(&format!("chunks/{name}")).await.unwrap();
        assert_eq!(parcel::chunk::name_of(&bytes), name);
        bytes
    };
    for leaf in public.leaf_names() {
        for name in PublicLeaf::read(&fetch(leaf).await).unwrap().names.into_iter().flatten() {
            fetch(name).await;
        }
    }
}

#[tokio::test]
async fn killed_in_mid_commit_the_last_version_is_whole() {
    let setup = Setup::new();
    let machine = Arc::new(Machine::new());
    let id = machine.id;
    let mut disk = BTreeMap::new();
    let mut kept = 0;
    for round in 0..8u64 {
        let server = setup.start();
        let client = Client::of("shanta", &setup, &server).await;
        let (epoch, mut version) = if round == 0 {
            (client.create(id, "work", "shanta", "a").await.unwrap().epoch, Version(0))
        } else {
            // The kiosk does not know what became of its lock, and its user takes it over.
            let taken = client.break_lock(id, "a").await.unwrap();
            (taken.epoch, taken.version)
        };
        assert!(version.0 >= kept, "version {kept} was answered, and is lost: {version}");
        assert_whole(&client, &machine, version).await;

        // Suspends as fast as it can, until the server is shot.
        let answered = Arc::new(AtomicU64::new(version.0));
        let suspending = {
            let (client, machine, answered) = (client.clone(), Arc::clone(&machine), Arc::clone(&answered));
            let mut disk = disk.clone();
            tokio::spawn(async move {
                loop {
                    disk.insert(version.0 % 5, (version.0 % 251) as u8);
                    let next = machine.seal(version.0 + 1, version.0, 8, &disk);
                    let sends = next.chunks.iter().chain(&next.leaves);
                    for (name, bytes) in sends {
                        let path = format!("parcels/{id}/chunks/{name}?epoch={epoch}");
                        let sent = client.under(reqwest::Method::PUT, &path).body(bytes.clone()).send().await;
                        if !sent.is_ok_and(|answer| answer.status().is_success()) {
                            return;
                        }
                    }
                    version = version.next();
                    let path = format!("parcels/{id}/versions/{version}?epoch={epoch}");
                    let sent = client.under(reqwest::Method::PUT, &path).body(next.record).send().await;
                    if !sent.is_ok_and(|answer| answer.status().is_success()) {
                        return;
                    }
                    answered.store(version.0, Ordering::SeqCst);
                }
            })
        };
        // However slow the machine is, something is kept before the first time.
        let begun = Instant::now();
        while round == 0 && answered.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "nothing is ever answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(37 + 29 * round)).await;
        server.kill();
        suspending.await.unwrap();
        kept = answered.load(Ordering::SeqCst);
        disk.insert(round % 7, round as u8);
    }
    let server = setup.start();
    let client = Client::of("shanta", &setup, &server).await;
    let last = client.show(id).await.unwrap();
    assert!(last.version.0 >= kept && kept > 0, "{kept} answered, {} there", last.version);
    assert_whole(&client, &machine, last.version).await;
    assert_eq!(fs::read_dir(setup.path("store/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_record_without_its_head_was_never_committed() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = client.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let first = machine.record(1, 0, Vec::new(), wants(1));
    client.commit(id, epoch, Version(1), &first).await.unwrap();
    server.kill();

    // What a crash between the two last steps of a commit leaves.
    let left = machine.record(2, 1, Vec::new(), wants(2));
    fs::write(setup.path(&format!("store/parcels/{id}/versions/2")), &left).unwrap();
    let server = setup.start();
    let token = client.token;
    let mut client = Client::new(&setup, &server);
    client.token = token;
    assert_eq!(client.show(id).await.unwrap().version, Version(1));
    let list = client.get(&format!("parcels/{id}/versions")).await.unwrap();
    assert!(!String::from_utf8_lossy(&list).contains("\"version\":2"));
    assert_eq!(client.get(&format!("parcels/{id}/versions/2")).await.unwrap_err().status, 404);
    // The kiosk, still there with its epoch, commits something else under that number.
    let second = machine.record(2, 1, Vec::new(), wants(3));
    client.commit(id, epoch, Version(2), &second).await.unwrap();
    assert_eq!(client.get(&format!("parcels/{id}/versions/2")).await.unwrap(), second);
}

#[tokio::test]
async fn a_head_that_cannot_be_read_hides_no_other_parcel() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::of("shanta", &setup, &server).await;
    let (sick, well) = (Machine::new().id, Machine::new().id);
    client.create(sick, "sick", "shanta", "a").await.unwrap();
    client.create(well, "well", "shanta", "a").await.unwrap();
    fs::write(setup.path(&format!("store/parcels/{sick}/head")), "{}").unwrap();
    assert_eq!(client.list().await.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["well"]);
    let refused = client.show(sick).await.unwrap_err();
    assert_eq!((refused.status, refused.error.code.text()), (500, "store"));
    assert!(!refused.error.message.contains("/"), "{}", refused.error.message);

    // With a damaged record, what the record would tell is missing from the list, and nothing else is.
    let epoch = client.show(well).await.unwrap().epoch;
    let machine = Machine::with_id(well);
    client.commit(well, epoch, Version(1), &machine.record(1, 0, Vec::new(), wants(1))).await.unwrap();
    fs::write(setup.path(&format!("store/parcels/{well}/versions/1")), "x").unwrap();
    let listed = client.list().await;
    assert_eq!((listed[0].name.as_str(), listed[0].version, &listed[0].tag), ("well", Version(1), &None));
    assert_eq!(client.show(well).await.unwrap_err().status, 500);
}

#[tokio::test]
async fn a_full_store_refuses_and_what_was_committed_stays() {
    let setup = Setup::new();
    let server = setup.start_in_a_store_of("3m");
    let client = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = client.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let first = machine.seal(1, 0, 4, &BTreeMap::from([(0, 1), (1, 2)]));
    first.send(&client, id, epoch).await;
    client.commit(id, epoch, Version(1), &first.record).await.unwrap();
    let mut size = 400_000;
    let mut refusals = 0;
    for n in 0.. {
        let mut bytes = vec![n as u8; size];
        bytes[0] = (size % 251) as u8;
        let name = parcel::chunk::name_of(&bytes);
        match client.put_chunk(id, epoch, name, &bytes).await {
            Ok(_) => assert!(n < 1000),
            Err(refused) => {
                assert_eq!((refused.status, refused.error.code.text()), (507, "store-full"));
                assert_eq!(client.have(id, &[name]).await.unwrap(), [0]);
                refusals += 1;
                // Down to the smallest.
                if size == 1 {
                    break;
                }
                size = (size / 4).max(1);
            }
        }
    }
    assert!(refusals > 3);
    // What chunks leave is enough for what must go on: locks, and a commit whose chunks are there.
    client.unlock(id, epoch).await.unwrap();
    let epoch = client.lock(id, "b", None).await.unwrap().epoch;
    let second = machine.record(2, 1, Vec::new(), wants(1));
    client.commit(id, epoch, Version(2), &second).await.unwrap();

    // Versions without end do not take the room of the locks.
    let mut last = 2;
    let refused = loop {
        let next = machine.record(last + 1, last, Vec::new(), wants(1));
        match client.commit(id, epoch, Version(last + 1), &next).await {
            Ok(_) => last += 1,
            Err(refused) => break refused,
        }
        assert!(last < 1000);
    };
    assert_eq!((refused.status, refused.error.code.text()), (507, "store-full"));
    client.unlock(id, epoch).await.unwrap();
    client.lock(id, "b", None).await.unwrap();
    let epoch = client.break_lock(id, "c").await.unwrap().epoch;

    // Somebody else takes the last page: now not even a head fits.
    let store = server.root().join(setup.path("store").strip_prefix("/").unwrap());
    let mut others = fs::File::create(store.join("others")).unwrap();
    while std::io::Write::write_all(&mut others, &[1; 4096]).is_ok() {}
    let next = machine.record(last + 1, last, Vec::new(), wants(1));
    let refused = client.commit(id, epoch, Version(last + 1), &next).await.unwrap_err();
    assert_eq!((refused.status, refused.error.code.text()), (507, "store-full"));
    assert_eq!(client.show(id).await.unwrap().version, Version(last));
    assert_whole(&client, &machine, Version(2)).await;
    assert_whole(&client, &machine, Version(1)).await;
}
