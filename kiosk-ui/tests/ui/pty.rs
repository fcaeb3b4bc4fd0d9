//! The real program in a real pseudo-terminal, with sockets that speak the real protocol at its other side, and a
//! terminal emulator as its reader.

use crate::{
    desk::*,
    kiosk::{Kiosk, NOWHERE},
    peers::{Cached, Console, Init},
};
use parcel::{
    id::ParcelId,
    secret::ParcelKey,
    slot::{Argon2Cost, Proof, Slots},
    wire::{
        daemon::{Reply, Request, Status},
        session::{Command, Phase, State},
    },
};

const KEY: [u8; 32] = [0x5a; 32];

/// Slots that open with `password`, cheaply.
fn slots(parcel: &ParcelId, password: &str) -> String {
    let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let mut slots = Slots::default();
    slots
        .set_password(password.as_bytes(), &ParcelKey::from_bytes(KEY), parcel, [3; 16], cost)
        .expect("a slot");
    slots.to_json()
}

fn answer(request: &Request) -> Reply {
    match request {
        Request::Parcels => Reply::Parcels { parcels: parcels() },
        Request::Slots { parcel } => Reply::Slots { slots: slots(parcel, PASSWORD) },
        Request::Status => Reply::Status(Status { bytes_in: 71_000_000, ..Status::default() }),
        _ => Reply::Ok,
    }
}

#[test]
fn a_session_from_the_list_to_the_report() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let cached = Cached::listen(dir.path(), answer);
    let console = Console::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));

    init.say(state(Phase::Choose));
    kiosk.wait_for("Your computers");
    kiosk.wait_for("travel");
    // This program was not there when the user logged in, so it asks.
    kiosk.keys("\r");
    kiosk.wait_for("Type the password");
    kiosk.keys("wrong\r");
    kiosk.wait_for("That does not open it");
    kiosk.keys(&format!("{PASSWORD}\r"));
    let parcel = parcels()[0].id;
    let slots = Slots::from_json(slots(&parcel, PASSWORD).as_bytes()).expect("slots");
    assert_eq!(init.next(), Command::Opened(Proof::new(slots, &ParcelKey::from_bytes(KEY))));
    assert_eq!(
        init.next(),
        Command::Resume { parcel, name: "desk".into(), cold_boot: false, break_lock: false }
    );
    let key = cached.requests().into_iter().find_map(|request| match request {
        Request::Key { parcel: of, key } if of == parcel => Some(key),
        _ => None,
    });
    assert_eq!(key, Some(hex(&KEY).into()));

    init.say(State { parcel: Some("desk".into()), doing: "Reading".into(), ..state(Phase::Restore) });
    kiosk.wait_for("Resuming desk");
    init.say(running());
    assert_eq!(init.next(), Command::ConsoleSize { cols: 80, rows: 24 });
    console.say(b"\x1b[2J\x1b[Hguest says hello\r\n$ ");
    kiosk.wait_for("guest says hello");
    // An arrow key whose bytes come apart is one arrow key.
    kiosk.keys("ls\x1b");
    kiosk.keys("[");
    kiosk.keys("A\r");
    console.wait_for(b"ls\x1b[A\r");

    kiosk.keys("\x1d");
    kiosk.wait_for("Suspend: save it");
    kiosk.keys("d");
    kiosk.wait_for("67.7 MiB");
    kiosk.keys("q\x1ds");
    assert_eq!(init.next(), Command::Suspend);
    init.say(State {
        parcel: Some("desk".into()),
        timeline: timeline(&[Phase::Save]),
        ..state(Phase::Commit)
    });
    kiosk.wait_for("Suspending desk");
    init.say(State { report: Some(report(true)), ..state(Phase::Login) });
    kiosk.wait_for("Wipe report");
    kiosk.wait_for("the wipe is verified");
    kiosk.keys("\r");
    assert_eq!(init.next(), Command::Dismiss);
    kiosk.wait_for("Log in");
    assert!(!kiosk.everything().contains(PASSWORD));
}

#[test]
fn a_line_without_a_size_is_80_by_24_until_its_terminal_answers() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let _console = Console::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, None);
    init.say(running());
    assert_eq!(init.next(), Command::ConsoleSize { cols: 80, rows: 23 });
    kiosk.wait_for("Ctrl-]");
    assert!(kiosk.everything().contains("\x1b[6n"));
    kiosk.keys("\x1b[30;100R");
    assert_eq!(init.next(), Command::ConsoleSize { cols: 100, rows: 29 });
}

#[test]
fn a_terminal_that_is_plugged_in_later_is_shown_everything_at_ctrl_l() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, None);
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    kiosk.plug_in_another();
    kiosk.keys("\x0c");
    kiosk.wait_for("Log in");
    kiosk.wait_for("Realm");
    assert_eq!(kiosk.everything().matches("\x1b[6n").count(), 2, "it was asked for its size, too");
}

#[test]
fn it_finds_init_again_and_leaves_the_terminal_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let mut kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    drop(init);
    kiosk.wait_for("A part of this kiosk does not answer");
    let init = Init::listen(dir.path());
    let mut back = state(Phase::Login);
    back.kiosk = "kiosk-again".into();
    init.say(back);
    kiosk.wait_for("kiosk-again");
    assert!(kiosk.is_raw());
    kiosk.terminate();
    assert!(!kiosk.is_raw());
    kiosk.wait_for_blank();
}

#[test]
fn a_guest_that_prints_without_end_keeps_nobody_from_the_menu() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let console = Console::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    init.say(running());
    console.say(b"ready");
    kiosk.wait_for("ready");
    assert_eq!(init.next(), Command::ConsoleSize { cols: 80, rows: 24 });
    for _ in 0..64 {
        console.say(&b"\x1b[65535@\x1b[65535L\x1b[6n".repeat(4096));
    }
    kiosk.keys("\x1d");
    kiosk.wait_for("Suspend: save it");
    kiosk.keys("s");
    assert_eq!(init.next(), Command::Suspend);
}

#[test]
fn a_terminal_that_is_gone_ends_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let init = Init::listen(dir.path());
    let kiosk = Kiosk::start(dir.path(), NOWHERE, Some((80, 25)));
    init.say(state(Phase::Login));
    kiosk.wait_for("Log in");
    kiosk.hang_up();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
