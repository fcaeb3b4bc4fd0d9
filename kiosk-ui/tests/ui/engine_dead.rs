//! The client engine was killed in a session: what the real screens can do for its user without the engine and the network,
//! and with a password that was changed since.

use crate::{
    again::restarted,
    desk::*,
    kiosk::{Kiosk, NOWHERE, World},
    loopback::free_port,
    peers::{Cached, Init},
    realm::Realm,
    renewal::{Server, create, engine, logged_in},
};
use cache::control::{Client, ControlError};
use parcel::{
    id::ParcelId,
    secret::ParcelKey,
    slot::{Argon2Cost, Proof, Slots},
    wire::{
        Code,
        daemon::{Reply, Request},
        session::{Command, Phase, State},
    },
};
use sockets::names;
use std::{fs, thread, time::Duration};

const KEY: [u8; 32] = [0x5a; 32];
const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

fn slots(parcel: &ParcelId) -> Slots {
    slots_of(parcel, PASSWORD, KEY)
}

fn slots_of(parcel: &ParcelId, password: &str, key: [u8; 32]) -> Slots {
    let mut slots = Slots::default();
    slots
        .set_password(password.as_bytes(), &ParcelKey::from_bytes(key), parcel, [3; 16], CHEAP)
        .expect("a slot");
    slots
}

fn answer(request: &Request) -> Reply {
    match request {
        Request::Parcels => Reply::Parcels { parcels: parcels() },
        Request::Slots { parcel } => Reply::Slots { slots: slots(parcel).to_json() },
        _ => Reply::Ok,
    }
}

/// What the screens tell `init` next, but for the size of the console.
fn told(init: &Init) -> Command {
    loop {
        match init.next() {
            Command::ConsoleSize { .. } => {}
            command => return command,
        }
    }
}

/// A wrong password is refused, and the right one makes the screens tell `init` this.
fn proves(kiosk: &Kiosk, init: &Init, then: &Command) {
    kiosk.keys("not it\r");
    assert_eq!(told(init), Command::WrongPassword);
    kiosk.wait_for("Code for IT: wrong-password");
    // The next try waits for two seconds, and Enter with it.
    kiosk.wait_for("The next try is in");
    kiosk.wait_until("end of the wait", |text| !text.contains("The next try is in"));
    kiosk.keys(&format!("\x15{PASSWORD}\r"));
    if *then == Command::GiveUp {
        kiosk.wait_for("Lose your work?");
        kiosk.keys("y");
    }
    assert_eq!(told(init), *then);
}

#[test]
fn the_screen_is_unlocked_and_work_given_up_without_engine_and_network() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let engine = Cached::listen(dir.path(), answer);
    let mut kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    init.say(state(Phase::Choose));
    kiosk.wait_for("travel");
    kiosk.keys("\r");
    kiosk.wait_for("Type the password");
    kiosk.keys(&format!("{PASSWORD}\r"));
    let Command::Opened(proof) = init.next() else { panic!("it is open") };
    assert!(matches!(init.next(), Command::Resume { .. }));

    // Nobody is there any more who could be asked.
    let asked = engine.requests().len();
    fs::remove_file(dir.path().join(names::CACHED)).expect("it listened");
    let parcel_id = Some(parcels()[0].id);
    let used = |state| State { parcel_id, proof: Some(proof.clone()), ..state };
    init.say(used(State { locked: true, ..running() }));
    kiosk.wait_for("its screen is locked");
    proves(&kiosk, &init, &Command::Unlocked);
    // Keys that were on their way to the locked screen are nobody's.
    thread::sleep(Duration::from_secs(3));
    init.say(used(restarted()));
    kiosk.wait_for_words("Press L and type your password");
    kiosk.keys("c");
    kiosk.wait_for("Give up?");
    proves(&kiosk, &init, &Command::GiveUp);
    assert_eq!(engine.requests().len(), asked);
    assert!(!kiosk.everything().contains(PASSWORD));

    // Nor do screens that start again need anybody but `init`.
    kiosk.terminate();
    drop(init);
    let init = Init::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    init.say(used(restarted()));
    kiosk.wait_for_words("Press L and type your password");
    init.say(used(State { presses: 1, ..restarted() }));
    kiosk.wait_for("The power button was pressed");
    kiosk.keys("c");
    kiosk.wait_for("Give up?");
    proves(&kiosk, &init, &Command::GiveUp);
}

/// A server that is against the user cannot have the screen unlocked by a slot of its own making.
#[test]
fn what_opens_another_key_unlocks_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    let parcel = parcels()[0].id;
    let other = Proof::new(slots(&parcel), &ParcelKey::from_bytes([0xa5; 32]));
    init.say(State { locked: true, parcel_id: Some(parcel), proof: Some(other), ..running() });
    kiosk.wait_for("its screen is locked");
    kiosk.keys(&format!("{PASSWORD}\r"));
    kiosk.wait_for("Code for IT: other-key");
}

#[test]
fn a_password_that_was_changed_in_the_session_opens_what_the_engine_left_with_the_one_before() {
    const NEW: &str = "c0rrect-H0rse";
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let port = free_port();
    let server = Server::start(&dir.path().join("server"), port, &realm.keytab());
    let ca = fs::read_to_string(server.ca()).expect("the CA");
    let (killed, api, socket) = engine(dir.path(), port, &server.ca());

    let init = Init::listen(dir.path());
    let world = World { kdc: realm.port, server: port, ca: Some(&ca) };
    let kiosk = Kiosk::start(dir.path(), world, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    kiosk.keys(&format!("shanta\t{PASSWORD}\r"));
    let login = logged_in(&init);
    let parcel = parcels()[0].id;
    let hold = killed.block_on(create(&api, parcel, &login));
    let first = slots(&parcel);
    killed.block_on(api.put_slots(&parcel, Some(&hold), first.to_json().into())).expect("slots");

    realm.admin(&format!("cpw -pw {NEW} shanta"));
    killed.shutdown_background();
    let (engine, api, _) = engine(dir.path(), port, &server.ca());
    let proof = Proof::new(first, &ParcelKey::from_bytes(KEY));
    init.say(State { login: Some(login), proof: Some(proof), ..restarted() });
    kiosk.wait_for_words("Press L and type your password");
    kiosk.keys("l");
    kiosk.wait_for("opens what this kiosk keeps");
    kiosk.keys(&format!("{NEW}\r"));
    kiosk.wait_for_words("Your log-in password does not open this computer.");
    kiosk.keys("not it\r");
    kiosk.wait_for("That does not open it. Try again.");
    let mut client = Client::connect(&socket).expect("cached listens");
    let mut recover = || match client.ask(&Request::Recover { parcel }) {
        Err(ControlError::Refused(error)) => error.code,
        other => panic!("there are no changes: {other:?}"),
    };
    assert_eq!(recover(), Code::NoKey);
    kiosk.keys(&format!("{PASSWORD}\r"));
    let Command::Opened(proof) = told(&init) else { panic!("it is open") };
    assert!(matches!(told(&init), Command::LoggedIn(_)));
    kiosk.wait_for("You are logged in again.");
    assert_eq!(recover(), Code::NoChanges, "the engine has the key");

    // From here on the new password opens it: on the server, and on the way out of this session.
    let stored = engine.block_on(api.slots(&parcel)).expect("slots");
    let stored = Slots::from_json(&stored).expect("slots");
    let key = ParcelKey::from_bytes(KEY);
    assert_eq!(stored.open_password(NEW.as_bytes(), &parcel).as_ref(), Ok(&key));
    assert!(stored.open_password(PASSWORD.as_bytes(), &parcel).is_err());
    assert_eq!(proof, Proof::new(stored, &key));
    assert!(![PASSWORD, NEW].iter().any(|typed| kiosk.everything().contains(typed)));
    engine.shutdown_background();
}

/// Somebody has the server, and a KDC that takes a password of their choice: the key in use stays, and so does what proves its
/// password. What the session was opened with opens it, whatever the server says of it now.
#[test]
fn a_server_against_the_user_cannot_have_the_key_replaced() {
    const NEW: &str = "c0rrect-H0rse";
    let dir = tempfile::tempdir().expect("a folder");
    let realm = Realm::start(&dir.path().join("kdc"));
    realm.admin(&format!("addprinc +requires_preauth -pw {PASSWORD} shanta"));
    let port = free_port();
    let server = Server::start(&dir.path().join("server"), port, &realm.keytab());
    let ca = fs::read_to_string(server.ca()).expect("the CA");
    let (engine, api, socket) = engine(dir.path(), port, &server.ca());
    let init = Init::listen(dir.path());
    let world = World { kdc: realm.port, server: port, ca: Some(&ca) };
    let kiosk = Kiosk::start(dir.path(), world, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    kiosk.keys(&format!("shanta\t{PASSWORD}\r"));
    let login = logged_in(&init);
    let parcel = parcels()[0].id;
    let hold = engine.block_on(create(&api, parcel, &login));
    let theirs = slots_of(&parcel, NEW, [0xa5; 32]).to_json();
    engine.block_on(api.put_slots(&parcel, Some(&hold), theirs.into())).expect("slots");
    realm.admin(&format!("cpw -pw {NEW} shanta"));

    let proof = Proof::new(slots(&parcel), &ParcelKey::from_bytes(KEY));
    init.say(State { login: Some(login), proof: Some(proof.clone()), ..restarted() });
    let mut client = Client::connect(&socket).expect("cached listens");
    let mut recover = || match client.ask(&Request::Recover { parcel }) {
        Err(ControlError::Refused(error)) => error.code,
        other => panic!("there are no changes: {other:?}"),
    };
    kiosk.wait_for_words("Press L and type your password");
    kiosk.keys("l");
    kiosk.wait_for("opens what this kiosk keeps");
    kiosk.keys(&format!("{NEW}\r"));
    kiosk.wait_for_words("Your log-in password does not open this computer.");
    kiosk.keys(&format!("{NEW}\r"));
    kiosk.wait_for("Code for IT: other-key");
    assert_eq!(recover(), Code::NoKey, "the engine was given none");
    kiosk.keys(&format!("{NEW}\r"));
    kiosk.wait_for_words("Your log-in password does not open this computer.");
    kiosk.keys(&format!("{PASSWORD}\r"));
    let Command::Opened(now) = told(&init) else { panic!("it is open") };
    assert!(now.same_key(&proof));
    assert_eq!(recover(), Code::NoChanges);
    let key = ParcelKey::from_bytes(KEY);
    let stored = Slots::from_json(&engine.block_on(api.slots(&parcel)).expect("slots")).expect("slots");
    assert_eq!(stored.open_password(NEW.as_bytes(), &parcel).as_ref(), Ok(&key), "it is the user's again");
    assert!(matches!(told(&init), Command::LoggedIn(_)));

    // The slot of the server is another one once more: the log-in password opens what the session holds.
    let theirs = slots_of(&parcel, "something", [0xa5; 32]).to_json();
    engine.block_on(api.put_slots(&parcel, Some(&hold), theirs.into())).expect("slots");
    init.say(State { proof: Some(now.clone()), ..restarted() });
    kiosk.wait_for_words("Press L and type your password");
    // So long the screen says that the user is logged in again, and asks for nothing.
    thread::sleep(Duration::from_secs(6));
    kiosk.keys("l");
    kiosk.wait_for("opens what this kiosk keeps");
    kiosk.keys(&format!("{NEW}\r"));
    assert_eq!(told(&init), Command::Opened(now));
    engine.shutdown_background();
}
