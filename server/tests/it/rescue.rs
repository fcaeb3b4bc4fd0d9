//! A rescue beyond the quota: what the server refuses takes nothing, and work that has to wait goes home.

use crate::{
    client::{Client, Code, claim},
    machine::{Machine, random_id, wants},
    realm::principal,
    tenure::Site,
};
use parcel::{
    id::{BootId, ParcelId, Version},
    wire::{
        daemon::{Reply, Request},
        hold::Claim,
        http::{CreateParcel, Rescue},
    },
};

/// A site whose only parcel is all that its owner may have.
async fn full_quota() -> Site {
    let mut site = Site::new().await;
    site.down();
    site.setup.edit("[limits]", "[[quota]]\nowners = [\"*\"]\nparcels = 1\n[limits]");
    site.up();
    site
}

fn rescues(parcel: ParcelId, broken: &Claim) -> CreateParcel {
    let id = random_id();
    CreateParcel {
        id,
        name: format!("rescued into {id}"),
        owner: principal("shanta"),
        kiosk: "a".to_owned(),
        boot: BootId([1; 16]),
        claim: claim(),
        rescues: Some(Rescue { parcel, claim: broken.clone() }),
    }
}

/// Locks, breaks and rescues until the server makes no more parcels: those it made, and the one it refused.
async fn without_work(client: &Client, id: ParcelId) -> (Vec<CreateParcel>, CreateParcel) {
    let mut made = Vec::new();
    loop {
        let ask = Client::ask("a", None);
        client.lock_as(id, &ask, true).await.unwrap();
        client.break_lock(id, "b").await.unwrap();
        let rescue = rescues(id, &ask.claim);
        match client.create_as(&rescue).await {
            Ok(_) => made.push(rescue),
            refused => {
                assert_eq!(refused.code(), "403 quota-parcels");
                return (made, rescue);
            }
        }
        assert!(made.len() < 20, "nothing stops it");
    }
}

async fn discard(client: &Client, id: ParcelId) {
    let epoch = client.break_lock(id, "desk").await.unwrap().epoch;
    client.discard(id, epoch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_that_was_refused_is_still_to_come() {
    let site = full_quota().await;
    let (id, client) = (site.machine.id, site.client().await);
    let (made, refused) = without_work(&client, id).await;
    // One whose answer was lost is asked for again.
    client.create_as(&made[0]).await.unwrap();
    discard(&client, made[0].id).await;
    let epoch = client.create_as(&refused).await.unwrap().epoch;
    let first = Machine::with_id(refused.id).record(1, 0, Vec::new(), wants(1));
    client.commit(refused.id, epoch, Version(1), &first).await.unwrap();
    assert_eq!(without_work(&client, id).await.0.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_waits_for_its_parcel_and_goes_home() {
    let site = full_quota().await;
    let (id, client) = (site.machine.id, site.client().await);
    let kiosk = site.kiosk_at(site.server.as_ref().unwrap().addr.port(), "kiosk-A", 1).await;
    kiosk.work(&site.machine, false).await;
    let (made, _) = without_work(&client, id).await;
    assert_eq!(kiosk.ask(Request::Commit).await.unwrap_err().code.text(), "stale-epoch");
    let daemon = kiosk.daemon.clone();
    let rescuing = tokio::spawn(async move { daemon.answer(Request::Rescue).await });
    kiosk.shows("quota-parcels").await;
    assert!(!rescuing.is_finished());
    discard(&client, made[0].id).await;
    let Reply::Rescued { parcel, name, .. } = rescuing.await.unwrap().unwrap() else { panic!("no rescue") };
    assert_eq!(name, "work, rescued from kiosk-A");
    let info = client.show(parcel).await.unwrap();
    assert_eq!((info.version, info.lock), (Version(1), None));
}
