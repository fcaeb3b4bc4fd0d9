//! Quotas, what is kept free for sessions, and whose name is whose.

use crate::{
    client::{Client, Code, hold},
    machine::{Machine, random_id, wants},
    realm::principal,
    server::Setup,
};
use parcel::{
    id::{BootId, ParcelId, Version},
    secret::ParcelKey,
    slot::{Argon2Cost, RecoveryKey, Slots},
    wire::http::CreateParcel,
};

const QUOTAS: &str = "[[quota]]\nowners = [\"shanta@*\"]\nparcels = 2\n\
     [[quota]]\nowners = [\"ravi@WAYSTATION.TEST\"]\nparcels = 1\ncreate = false\n[limits]";

#[tokio::test]
async fn a_quota_stops_making_parcels_and_no_commit() {
    let setup = Setup::new();
    setup.edit("[limits]", QUOTAS);
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let machine = Machine::new();
    let epoch = shanta.create(machine.id, "work", "shanta", "a").await.unwrap().epoch;
    let spare = random_id();
    let spare_epoch = shanta.create(spare, "spare", "shanta", "a").await.unwrap().epoch;
    let third = shanta.create(random_id(), "third", "shanta", "a").await;
    let text = &third.as_ref().unwrap_err().error.message;
    assert!(text.contains("shanta@WAYSTATION.TEST has 2 parcels and may have 2 on this server"), "{text}");
    assert_eq!(third.code(), "403 quota-parcels");
    // Asked again after a lost answer, what was made is not counted against itself.
    let again = CreateParcel {
        id: spare,
        name: "spare".to_owned(),
        owner: principal("shanta"),
        kiosk: "a".to_owned(),
        boot: BootId([1; 16]),
        claim: hold(spare, spare_epoch).claim,
        rescues: None,
    };
    assert_eq!(shanta.create_as(&again).await.unwrap().epoch, spare_epoch);
    shanta.discard(spare, spare_epoch).await.unwrap();
    shanta.create(random_id(), "third", "shanta", "a").await.unwrap();

    let ravi = Client::of("ravi", &setup, &server).await;
    assert_eq!(ravi.create(random_id(), "work", "ravi", "b").await.code(), "403 may-not-create");
    let it = Client::of("it", &setup, &server).await;
    it.create(random_id(), "work", "ravi", "desk").await.unwrap();
    assert_eq!(it.create(random_id(), "more", "ravi", "desk").await.code(), "403 quota-parcels");
    assert_eq!(it.create(random_id(), "own", "it", "desk").await.code(), "403 quota-parcels");

    // Whoever has more than he may have goes on with it.
    drop(server);
    setup.edit("parcels = 2", "parcels = 0");
    let server = setup.start();
    let shanta = Client::of("shanta", &setup, &server).await;
    let first = machine.record(1, 0, Vec::new(), wants(1));
    shanta.commit(machine.id, epoch, Version(1), &first).await.unwrap();
    shanta.unlock(machine.id, epoch).await.unwrap();
    let epoch = shanta.lock(machine.id, "a", None).await.unwrap().epoch;
    let second = machine.record(2, 1, Vec::new(), wants(1));
    shanta.commit(machine.id, epoch, Version(2), &second).await.unwrap();
}

/// Key slots as a user's are: a password, and a recovery key.
pub fn slots_of(parcel: ParcelId) -> String {
    let (mut slots, key) = (Slots::default(), ParcelKey::from_bytes([1; 32]));
    let cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
    slots.set_password(b"pw", &key, &parcel, [2; 16], cost).unwrap();
    slots.set_recovery(&RecoveryKey::from_bytes([3; 20]), &key, &parcel);
    slots.to_json()
}

#[tokio::test]
async fn what_is_kept_free_is_not_for_new_parcels() {
    for size in ["4m", "64m,nr_inodes=1200"] {
        let setup = Setup::new();
        setup.edit("[limits]", "[[quota]]\nowners = [\"*\"]\nparcels = 100000\n[limits]");
        let server = setup.start_in_a_store_of(size);
        let shanta = Client::of("shanta", &setup, &server).await;
        let machine = Machine::new();
        let epoch = shanta.create(machine.id, "work", "shanta", "a").await.unwrap().epoch;
        let first = machine.record(1, 0, Vec::new(), wants(1));
        shanta.commit(machine.id, epoch, Version(1), &first).await.unwrap();
        let ravi = Client::of("ravi", &setup, &server).await;
        let mut made = 0;
        let refused = loop {
            let name = format!("empty {made}");
            match ravi.create(random_id(), &name, "ravi", "b").await {
                Ok(_) => made += 1,
                refused => break refused,
            }
            assert!(made < 2000, "nothing stops it");
        };
        assert_eq!(refused.code(), "507 store-full", "{size}");
        assert!(made > 50, "{size}: {made}");
        shanta.unlock(machine.id, epoch).await.unwrap();
        let epoch = shanta.lock(machine.id, "a", None).await.unwrap().epoch;
        let second = machine.record(2, 1, Vec::new(), wants(1));
        shanta.commit(machine.id, epoch, Version(2), &second).await.unwrap();
        let path = format!("parcels/{}/slots", machine.id);
        let slots = slots_of(machine.id);
        shanta.put(&format!("{path}?epoch={epoch}"), slots.clone()).await.unwrap();
        assert_eq!(shanta.get(&path).await.unwrap(), slots.as_bytes(), "{size}");
        shanta.unlock(machine.id, epoch).await.unwrap();
    }
}

#[tokio::test]
async fn names_are_exact_unless_their_realm_is_not() {
    let setup = Setup::new();
    let server = setup.start();
    let it = Client::of("it", &setup, &server).await;
    it.create(random_id(), "work", "Shanta", "desk").await.unwrap();
    let shanta = Client::of("shanta", &setup, &server).await;
    assert_eq!(shanta.list().await.len(), 0);
    assert_eq!(Client::of("Shanta", &setup, &server).await.list().await.len(), 1);
    drop(server);

    setup.edit("admins", "case_insensitive_realms = [\"Waystation.Test\"]\nadmins");
    setup.edit("it@WAYSTATION.TEST", "IT@waystation.test");
    let server = setup.start();
    // The token is older than the change.
    let mut again = Client::new(&setup, &server);
    again.token = shanta.token;
    assert_eq!(again.list().await.len(), 1);
    let capital = Client::new(&setup, &server).log_in("Shanta").await;
    assert_eq!(capital.principal, principal("shanta"));
    let it = Client::of("it", &setup, &server).await;
    it.create(random_id(), "more", "SHANTA", "desk").await.unwrap();
    assert_eq!(it.create(random_id(), "work", "sHANTA", "desk").await.code(), "409 name-taken");
    assert_eq!(again.list().await.len(), 2);
}

#[tokio::test]
async fn an_enterprise_name_is_a_name() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::of("desk\\@mail.test", &setup, &server).await;
    client.create(random_id(), "work", "desk\\@mail.test", "a").await.unwrap();
    assert_eq!(client.list().await[0].owner, "desk\\@mail.test@WAYSTATION.TEST");
}
