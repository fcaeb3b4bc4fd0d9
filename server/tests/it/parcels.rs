//! Who sees which parcel, and who may make one.

use crate::{
    client::{Client, Code, claim},
    machine::{Machine, random_id},
    realm::principal,
    server::Setup,
};
use parcel::{
    id::{BootId, Epoch, Version},
    secret::ParcelKey,
    slot::{Argon2Cost, Slots},
    wire::http::{CreateParcel, VersionInfo},
};
use std::collections::BTreeMap;

#[tokio::test]
async fn only_its_owner_sees_a_parcel() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let ravi = Client::of("ravi", &setup, &server).await;
    let it = Client::of("it", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    let epoch = shanta.create(id, "work", "shanta", "a").await.unwrap().epoch;
    let version = machine.seal(1, 0, 3, &BTreeMap::from([(0, 1)]));
    version.send(&shanta, id, epoch).await;
    shanta.commit(id, epoch, Version(1), &version.record).await.unwrap();

    // Ravi, and even an administrator, cannot tell it from one that does not exist.
    for other in [&ravi, &it] {
        assert!(other.list().await.is_empty());
        assert_eq!(other.show(id).await.code(), "404 no-such-parcel");
        assert_eq!(other.get(&format!("parcels/{id}/versions")).await.code(), "404 no-such-parcel");
        assert_eq!(other.get(&format!("parcels/{id}/versions/1")).await.code(), "404 no-such-parcel");
        assert_eq!(other.get(&format!("parcels/{id}/slots")).await.code(), "404 no-such-parcel");
        assert_eq!(other.put(&format!("parcels/{id}/slots"), "{}").await.code(), "400 bad-slots");
        let slots = Slots::default().to_json();
        assert_eq!(other.put(&format!("parcels/{id}/slots"), slots).await.code(), "404 no-such-parcel");
        assert_eq!(other.lock(id, "b", None).await.code(), "404 no-such-parcel");
        assert_eq!(other.break_lock(id, "b").await.code(), "404 no-such-parcel");
        assert_eq!(other.unlock(id, epoch).await.code(), "404 no-such-parcel");
        assert_eq!(other.have(id, &version.names()).await.code(), "404 no-such-parcel");
        let (name, bytes) = &version.chunks[0];
        assert_eq!(other.put_chunk(id, epoch, *name, bytes).await.code(), "404 no-such-parcel");
        assert_eq!(other.commit(id, epoch, Version(2), &version.record).await.code(), "404 no-such-parcel");
        // Sealed objects are worth nothing without their key; lookaside needs them for everybody.
        assert_eq!(other.get(&format!("chunks/{name}")).await.unwrap(), *bytes);
    }
    let unknown = random_id();
    let mut theirs = ravi.show(id).await.unwrap_err().error;
    theirs.message = theirs.message.replace(&id.to_string(), &unknown.to_string());
    assert_eq!(theirs, ravi.show(unknown).await.unwrap_err().error);
    assert_eq!(shanta.show(id).await.unwrap().version, Version(1));
    assert_eq!(shanta.get("parcels/xyz").await.code(), "404 no-such-parcel");
}

#[tokio::test]
async fn an_administrator_makes_a_parcel_for_a_user_and_then_sees_it_no_more() {
    let setup = Setup::new();
    let server = setup.start();
    let it = Client::of("it", &setup, &server).await;
    let ravi = Client::of("ravi", &setup, &server).await;
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let id = machine.id;
    assert_eq!(ravi.create(id, "work", "shanta", "cli").await.code(), "403 not-admin");

    let ask = CreateParcel {
        id,
        name: "work".to_owned(),
        owner: principal("shanta"),
        kiosk: "cli".to_owned(),
        boot: BootId([1; 16]),
        claim: claim(),
        rescues: None,
    };
    let made = it.create_as(&ask).await.unwrap();
    assert_eq!((made.epoch, made.version), (Epoch(1), Version(0)));
    // Its answer was lost, so it is asked again, for the same acquisition. Another one is not given.
    assert_eq!(it.create_as(&ask).await.unwrap().epoch, Epoch(1));
    assert_eq!(it.create(id, "work", "shanta", "cli").await.code(), "409 exists");
    let epoch = it.break_lock(id, "cli").await.unwrap().epoch;
    assert_eq!(epoch, Epoch(2));
    let version = machine.seal(1, 0, 3, &BTreeMap::from([(0, 1)]));
    assert_eq!(
        it.put_chunk(id, made.epoch, version.chunks[0].0, &version.chunks[0].1).await.code(),
        "409 stale-epoch"
    );
    version.send(&it, id, epoch).await;
    it.commit(id, epoch, Version(1), &version.record).await.unwrap();

    let mut slots = Slots::default();
    let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
    slots.set_password(b"pw", &ParcelKey::from_bytes([1; 32]), &id, [2; 16], cost).unwrap();
    assert_eq!(it.get(&format!("parcels/{id}/slots")).await.code(), "404 no-slots");
    assert_eq!(it.put(&format!("parcels/{id}/slots"), slots.to_json()).await.code(), "403 not-owner");
    it.put(&format!("parcels/{id}/slots?epoch={epoch}"), slots.to_json()).await.unwrap();

    // Both see it while it is held; the lock is not the owner's.
    assert_eq!(it.list().await[0].id, id);
    let seen = &shanta.list().await[0];
    assert_eq!((seen.owner.as_str(), seen.disk_bytes), (principal("shanta").as_str(), 3 * 131_072));
    assert_eq!(seen.lock.as_ref().unwrap().principal, principal("it"));
    let refused = shanta.lock(id, "a", None).await.unwrap_err();
    assert_eq!(refused.error.holder.as_ref().unwrap().kiosk, "cli");
    assert_eq!(
        shanta.put_chunk(id, epoch, version.chunks[0].0, &version.chunks[0].1).await.code(),
        "409 locked"
    );
    assert_eq!(it.break_lock(id, "cli").await.code(), "403 not-owner");

    it.unlock(id, epoch).await.unwrap();
    assert!(it.list().await.is_empty());
    assert_eq!(it.lock(id, "cli", None).await.code(), "404 no-such-parcel");
    let stored = shanta.get(&format!("parcels/{id}/slots")).await.unwrap();
    assert_eq!(Slots::from_json(&stored).unwrap().open_password(b"pw", &id).unwrap().expose(), &[1; 32]);
    // The owner changes a password without a lock.
    shanta.put(&format!("parcels/{id}/slots"), Slots::default().to_json()).await.unwrap();
    let versions: Vec<VersionInfo> = shanta.get_json(&format!("parcels/{id}/versions")).await.unwrap();
    assert_eq!(
        versions.iter().map(|v| (v.version, v.parent)).collect::<Vec<_>>(),
        [(Version(1), Version(0))]
    );
    assert_eq!(shanta.get(&format!("parcels/{id}/versions/1")).await.unwrap(), version.record);
    assert_eq!(shanta.get(&format!("parcels/{id}/versions/2")).await.code(), "404 no-such-version");
}

#[tokio::test]
async fn names_and_ids_are_taken_once() {
    let setup = Setup::new();
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let ravi = Client::of("ravi", &setup, &server).await;
    let id = random_id();
    shanta.create(id, "work", "shanta", "a").await.unwrap();
    assert_eq!(shanta.create(random_id(), "work", "shanta", "a").await.code(), "409 name-taken");
    assert_eq!(shanta.create(id, "play", "shanta", "a").await.code(), "409 exists");
    assert_eq!(ravi.create(id, "work", "ravi", "a").await.code(), "409 exists");
    ravi.create(random_id(), "work", "ravi", "a").await.unwrap();
    for bad in ["", " x", "x\n", &"x".repeat(65)] {
        assert_eq!(shanta.create(random_id(), bad, "shanta", "a").await.code(), "400 bad-request", "{bad:?}");
        assert_eq!(
            shanta.create(random_id(), "ok", "shanta", bad).await.code(),
            "400 bad-request",
            "{bad:?}"
        );
    }
    assert_eq!(shanta.create(random_id(), "ok", "sh anta", "a").await.code(), "400 bad-request");
    // Of many that make parcels of one name at once, one succeeds.
    let makers = (0..8).map(|_| shanta.create(random_id(), "race", "shanta", "a"));
    let made = futures::future::join_all(makers).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    let names: Vec<_> = shanta.list().await.into_iter().map(|parcel| parcel.name).collect();
    assert_eq!(names, ["race", "work"]);
}
