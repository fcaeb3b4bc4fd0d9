//! The lock: one holder, whose writes are the only ones.

use crate::{
    client::{Client, Code, claim, hold, send},
    machine::{Machine, kiosk, wants},
    realm::principal,
    server::Setup,
};
use parcel::{
    id::{BootId, Epoch, Version},
    keyring::ImageKind,
    record::ImageInfo,
    tag::Miss,
    wire::{
        hold::{HEADER, Hold},
        http::LockRequest,
    },
};
use reqwest::Method;
use std::collections::BTreeMap;

#[tokio::test]
async fn of_two_who_lock_at_once_exactly_one_wins() {
    let setup = Setup::new();
    let server = setup.start();
    let it = Client::of("it", &setup, &server).await;
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let mut epoch = it.create(id, "work", "shanta", "cli").await.unwrap().epoch;
    it.unlock(id, epoch).await.unwrap();
    epoch = epoch.next();
    for _ in 0..5 {
        // Two sessions of the user on four kiosks each; as different holders as two users are.
        let tries = (0..8).map(|n| {
            let client = shanta.clone();
            async move { client.lock(id, &format!("kiosk {n}"), None).await }
        });
        let answers = futures::future::join_all(tries).await;
        let won: Vec<_> = answers.iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(won[0].epoch, epoch.next());
        let held = shanta.show(id).await.unwrap();
        for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!((lost.status, lost.error.code.text()), (409, "locked"));
            assert_eq!(lost.error.holder, held.lock);
        }
        shanta.unlock(id, held.epoch).await.unwrap();
        epoch = held.epoch.next();
    }
}

#[tokio::test]
async fn owner_and_administrator_who_race_for_the_lock_never_both_hold_it() {
    let setup = Setup::new();
    let server = setup.start();
    let it = Client::of("it", &setup, &server).await;
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let version = machine.seal(1, 0, 1, &BTreeMap::from([(0, 1)]));
    it.create(id, "work", "shanta", "cli").await.unwrap();
    for _ in 0..10 {
        let (his, hers) = futures::join!(it.create(id, "work", "shanta", "cli"), shanta.break_lock(id, "a"));
        let hers = hers.unwrap().epoch;
        let (name, bytes) = &version.chunks[0];
        let she_writes = shanta.put_chunk(id, hers, *name, bytes).await.is_ok();
        let he_writes = match his {
            Ok(his) => it.put_chunk(id, his.epoch, *name, bytes).await.is_ok(),
            Err(_) => false,
        };
        // Her breaking always ends his hold; he cannot take it back.
        assert!(she_writes && !he_writes);
        shanta.unlock(id, hers).await.unwrap();
    }
}

#[tokio::test]
async fn a_late_holder_is_refused_and_its_chunks_are_kept() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let old = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let late = machine.seal(1, 0, 2, &BTreeMap::from([(0, 1), (1, 2)]));
    late.send(&shanta, id, old).await;

    assert_eq!(shanta.lock(id, "b", None).await.code(), "409 locked");
    let new = shanta.break_lock(id, "b").await.unwrap().epoch;
    assert!(new > old);
    for answer in [
        shanta.commit(id, old, Version(1), &late.record).await.map(drop),
        shanta.put_chunk(id, old, late.chunks[0].0, &late.chunks[0].1).await.map(drop),
        shanta.unlock(id, old).await.map(drop),
        shanta.put(&format!("parcels/{id}/slots?epoch={old}"), r#"{"format":1,"slots":[]}"#).await.map(drop),
    ] {
        let refused = answer.unwrap_err();
        assert_eq!((refused.status, refused.error.code.text()), (409, "stale-epoch"));
        let holder = refused.error.holder.unwrap();
        assert_eq!((holder.kiosk.as_str(), holder.epoch), ("b", new));
    }
    assert_eq!(shanta.show(id).await.unwrap().version, Version(0));
    assert_eq!(shanta.have(id, &late.names()).await.unwrap(), [1, 1, 1]);
    // An epoch that never was is no better than an old one.
    assert_eq!(shanta.unlock(id, Epoch(u64::MAX)).await.code(), "409 unknown-claim");
    // The new holder finds the old one's objects there and commits.
    shanta.commit(id, new, Version(1), &late.record).await.unwrap();
}

#[tokio::test]
async fn a_kiosk_of_the_same_name_takes_no_lock_but_the_same_request_does() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let first = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    // Another kiosk of that name, or the same one after its power failed.
    for boot in [1, 2] {
        let ask = LockRequest { boot: BootId([boot; 16]), ..Client::ask("a", None) };
        let refused = shanta.lock_as(id, &ask, false).await.unwrap_err();
        assert_eq!((refused.status, refused.error.code.text()), (409, "locked"));
        assert_eq!(refused.error.holder.unwrap().epoch, first);
    }
    shanta.unlock(id, first).await.unwrap();
    // The answer to that was lost.
    shanta.unlock(id, first).await.unwrap();
    let seen = shanta.show(id).await.unwrap();
    assert_eq!((seen.epoch, seen.lock), (first.next(), None));

    // Answers that were lost: the same acquisition, once by taking and once by breaking.
    let ask = Client::ask("a", None);
    let second = shanta.lock_as(id, &ask, false).await.unwrap().epoch;
    assert_eq!(shanta.lock_as(id, &ask, false).await.unwrap().epoch, second);
    let other = Client::ask("b", None);
    let third = shanta.lock_as(id, &other, true).await.unwrap().epoch;
    assert_eq!(shanta.lock_as(id, &other, true).await.unwrap().epoch, third);
    assert_eq!(third, second.next());
    // What was broken comes back by no request, whenever that arrives.
    for breaking in [false, true] {
        assert_eq!(shanta.lock_as(id, &ask, breaking).await.code(), "409 stale-epoch");
    }
    shanta.unlock(id, third).await.unwrap();
    for breaking in [false, true] {
        assert_eq!(shanta.lock_as(id, &other, breaking).await.code(), "409 stale-epoch");
    }
    // The claim is the holder's alone.
    let listed = shanta.get("parcels").await.unwrap();
    let claim = other.claim.to_hex();
    assert!(!String::from_utf8(listed.to_vec()).unwrap().contains(claim.as_str()));
}

#[tokio::test]
async fn the_right_epoch_with_another_claim_is_refused() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let sealed = machine.seal(1, 0, 1, &BTreeMap::from([(0, 1)]));
    let guessed = Hold { claim: claim(), ..hold(id, epoch) }.to_header();
    let (name, bytes) = &sealed.chunks[0];
    for (method, path, body) in [
        (Method::PUT, format!("parcels/{id}/versions/1"), sealed.record.clone()),
        (Method::PUT, format!("parcels/{id}/chunks/{name}"), bytes.clone()),
        (Method::PUT, format!("parcels/{id}/slots"), br#"{"format":1,"slots":[]}"#.to_vec()),
        (Method::DELETE, format!("parcels/{id}/lock"), Vec::new()),
        (Method::DELETE, format!("parcels/{id}"), Vec::new()),
    ] {
        let request =
            shanta.request(method.clone(), &path).header(HEADER, guessed.as_str()).body(body.clone());
        assert_eq!(send(request).await.code(), "409 unknown-claim", "{path}");
        let nonsense = shanta.request(method.clone(), &path).header(HEADER, "7").body(body.clone());
        assert_eq!(send(nonsense).await.code(), "400 bad-request", "{path}");
        if !path.ends_with("slots") {
            assert_eq!(
                send(shanta.request(method, &path).body(body)).await.code(),
                "400 bad-request",
                "{path}"
            );
        }
    }
    assert_eq!(shanta.show(id).await.unwrap().lock.unwrap().epoch, epoch);
}

#[tokio::test]
async fn a_kiosk_that_lacks_something_gets_no_lock() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let record = machine.record(1, 0, Vec::new(), wants(1024));
    shanta.commit(id, epoch, Version(1), &record).await.unwrap();
    shanta.unlock(id, epoch).await.unwrap();

    let mut small = kiosk(512);
    small.features.remove("aes");
    let refused = shanta.lock(id, "c", Some(small)).await.unwrap_err();
    assert_eq!((refused.status, refused.error.code.text()), (412, "hardware"));
    let must: Vec<_> = refused.error.misses.iter().filter(|m| m.must).map(|m| m.item.as_str()).collect();
    assert_eq!(must, ["cpu.feature.aes", "memory"]);
    assert!(refused.error.message.contains("cpu.feature.aes, memory"), "{}", refused.error.message);
    let seen = shanta.show(id).await.unwrap();
    assert_eq!((seen.lock, seen.epoch), (None, epoch.next()));

    // A wish that is not met does not refuse; without an inventory nothing is held against it.
    let taken = shanta.lock(id, "d", Some(kiosk(1024))).await.unwrap();
    assert_eq!(
        taken.misses.iter().map(|m| (m.must, m.item.as_str())).collect::<Vec<_>>(),
        [(false, "sound")]
    );
    assert_eq!(shanta.show(id).await.unwrap().lock.unwrap().principal, principal("shanta"));
    shanta.break_lock(id, "cli").await.unwrap();
}

#[tokio::test]
async fn a_cold_boot_depends_neither_on_the_device_model_nor_on_the_vendor() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let mut tag = wants(512);
    tag.device_model = 9;
    tag.cpu.vendor = Some("GenuineIntel".to_owned());
    let empty = |kind| ImageInfo { kind, bytes: 0, leaves: Vec::new() };
    let memory = [ImageKind::Packs, ImageKind::PageMap, ImageKind::State].map(empty);
    let record = machine.record(1, 0, memory.to_vec(), tag.clone());
    shanta.commit(id, epoch, Version(1), &record).await.unwrap();
    shanta.unlock(id, epoch).await.unwrap();

    let refused = shanta.lock(id, "b", Some(kiosk(512))).await.unwrap_err();
    let must = |misses: &[Miss]| -> Vec<String> {
        misses.iter().filter(|miss| miss.must).map(|miss| miss.item.clone()).collect()
    };
    assert_eq!(must(&refused.error.misses), ["cpu.vendor", "device_model"]);
    let taken = shanta.lock_to_boot(id, "b", kiosk(512)).await.unwrap();
    shanta.unlock(id, taken.epoch).await.unwrap();
    // What any start needs is held against a cold boot, too.
    let refused = shanta.lock_to_boot(id, "b", kiosk(256)).await.unwrap_err();
    assert_eq!(must(&refused.error.misses), ["memory"]);

    // A machine that was shut down boots, whoever asks.
    let taken = shanta.lock(id, "a", None).await.unwrap();
    tag.cpu.vendor = None;
    let record = machine.record(2, 1, Vec::new(), tag);
    shanta.commit(id, taken.epoch, Version(2), &record).await.unwrap();
    shanta.unlock(id, taken.epoch).await.unwrap();
    shanta.lock(id, "b", Some(kiosk(512))).await.unwrap();
}
