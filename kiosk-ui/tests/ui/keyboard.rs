//! The choice of the keyboard, passwords that are shown on request, and what is unusual about the kiosk.

use crate::{desk::*, screens::check};
use kiosk_ui::{
    app::{Dialog, View},
    event::{Event, OpenError},
};
use parcel::wire::{
    health::Health,
    session::{Command, Keyboard, KeyboardLayout, Phase, State},
};

fn chosen(layout: &str) -> State {
    State { keyboard: Some(Keyboard { layout: layout.into(), ..keyboard() }), ..state(Phase::Login) }
}

fn use_layout(name: &str) -> Did {
    command(Command::Keyboard { layout: name.into() })
}

#[test]
fn a_layout_is_chosen_at_the_login_screen() {
    let mut desk = Desk::at_login();
    desk.keys("shanta\rsecret");
    desk.did();
    desk.function(2);
    check("login-keyboard", &desk);
    // By its letter, and on from there.
    desk.keys("g");
    check("login-keyboard-german", &desk);
    desk.keys("gq\r");
    assert_eq!(desk.did(), [use_layout("at")]);
    assert_eq!(desk.app.dialog, None);
    assert_eq!(desk.app.login.password.as_str(), "secret", "nothing went into the form");
    desk.state(chosen("at"));
    assert!(desk.text().contains("Keyboard  German (Austria)"), "{}", desk.text());
    // The cursor is on the one in use; nothing changes by Esc.
    desk.keys("\x0b");
    let at = desk.app.layouts().iter().position(|layout| layout.name == "at").unwrap();
    assert_eq!(desk.app.dialog, Some(Dialog::Keyboard(at)));
    desk.keys("\x1b[B\x1b[B\x1b[A\x1b");
    assert_eq!((desk.did(), desk.app.dialog), (vec![], None));
}

#[test]
fn the_cursor_stays_on_the_list() {
    let mut desk = Desk::at_login();
    desk.did();
    let last = keyboard().layouts.len() - 1;
    for (keys, at) in [
        ("\x1b[H", 0),
        ("\x1b[A", 0),
        ("\x1b[5~", 0),
        ("\x1b[F", last),
        ("\x1b[B", last),
        ("\x1b[6~", last),
        ("\x1b[H\x1b[6~", 8),
        ("\x1b[5~", 0),
        ("\u{e4}", 0),
        // A layout without a Latin title is found by its own letter.
        ("U", last),
    ] {
        if desk.app.dialog.is_none() {
            desk.function(2);
        }
        desk.keys(keys);
        assert_eq!(desk.app.dialog, Some(Dialog::Keyboard(at)), "{keys:?}");
        desk.text();
    }
    // While the window is open, the kiosk is told of a list without any.
    desk.state(State { keyboard: None, ..state(Phase::Login) });
    desk.text();
    desk.keys("\r");
    assert_eq!((desk.did(), desk.app.dialog), (vec![], None));
}

#[test]
fn a_serial_terminal_has_its_own_keyboard() {
    let mut desk = Desk::at_login();
    desk.state(State { keyboard: None, ..state(Phase::Login) });
    desk.function(2);
    desk.keys("\x0b");
    assert_eq!(desk.app.dialog, None);
    assert!(!desk.text().contains("Keyboard"), "{}", desk.text());
    // The image's file could not be read: the kernel's own layout, and none to choose.
    desk.state(State { keyboard: Some(Keyboard::default()), ..state(Phase::Login) });
    desk.function(2);
    assert_eq!(desk.app.dialog, None);
    assert!(desk.text().contains("Keyboard  English (US)"), "{}", desk.text());
}

const TYPED: &str = "Zur\u{df}ich-y";

/// Desks with [`TYPED`] in each field that takes a password.
fn fields() -> Vec<(&'static str, Desk)> {
    let mut login = Desk::at_login();
    login.keys("shanta\r");
    let mut ask = Desk::at_list();
    ask.keys("\r");
    ask.opened(parcels()[0].id, Err(OpenError::Wrong));
    let mut locked = Desk::new();
    locked.state(State { locked: true, ..running() });
    let mut give_up = Desk::at_run();
    give_up.keys("\x1dg");
    let mut again = Desk::at_run();
    again.keys("\x1dl");
    let mut all =
        vec![("login", login), ("opening", ask), ("locked", locked), ("give-up", give_up), ("again", again)];
    for (_, desk) in &mut all {
        desk.keys(TYPED);
    }
    all
}

#[test]
fn every_password_is_shown_on_request_only() {
    for (name, mut desk) in fields() {
        let hidden = desk.text();
        assert!(!hidden.contains(TYPED) && hidden.contains("[*********_"), "{name}:\n{hidden}");
        assert!(hidden.contains("F3 shows what you type."), "{name}:\n{hidden}");
        desk.did();
        desk.function(3);
        check(&format!("{name}-shown"), &desk);
        assert!(desk.text().contains(TYPED), "{name}:\n{}", desk.text());
        desk.function(3);
        assert_eq!(desk.text(), hidden, "{name}");
        // By the control key; and half a minute without a key hides it.
        desk.keys("\x10");
        desk.wait(29);
        assert!(desk.text().contains(TYPED), "{name}");
        desk.wait(1);
        assert!(!desk.text().contains(TYPED), "{name}");
        assert_eq!(desk.did(), [], "{name}");
        // What is typed after it was sent or taken back is hidden again.
        desk.keys("\x10\x1b");
        if name == "login" {
            desk.keys("shanta\r");
        }
        desk.keys(TYPED);
        assert!(!desk.text().contains(TYPED), "{name}");
    }
}

#[test]
fn what_was_sent_is_hidden_again() {
    let mut desk = Desk::at_login();
    desk.keys(&format!("shanta\r{TYPED}"));
    desk.function(3);
    desk.keys("\r");
    assert!(!desk.text().contains(TYPED), "{}", desk.text());
    // The next try begins hidden.
    let attempt = desk.last_attempt();
    let trouble = kiosk_ui::trouble::Trouble::new("No.", parcel::wire::Code::LoginDenied);
    desk.event(Event::LoggedIn { attempt, result: Err(trouble) });
    desk.keys(TYPED);
    assert!(!desk.text().contains(TYPED), "{}", desk.text());
    let mut desk = Desk::new();
    desk.state(State { locked: true, ..running() });
    desk.keys(TYPED);
    desk.function(3);
    desk.state(State { parcel: None, ..state(Phase::Login) });
    desk.state(State { locked: true, ..running() });
    desk.keys(TYPED);
    assert!(!desk.text().contains(TYPED), "{}", desk.text());
}

/// In the session F3 is the guest's.
#[test]
fn the_guest_keeps_its_keys() {
    let mut desk = Desk::at_run();
    desk.did();
    desk.function(3);
    desk.keys("\x10");
    let typed: Vec<_> = desk.did().into_iter().filter(|did| matches!(did, Did::Typed(_))).collect();
    assert_eq!(typed.len(), 2);
}

fn refused(devices: usize) -> Health {
    let sentence = |n: usize| {
        format!(
            "The USB device Example Corporation Gigabit Ethernet Adapter ({n:04x}:8153, network or modem) at port 2-1.{n} is \
             not used: it was not there when this kiosk started. If it belongs to this kiosk, restart the kiosk with it \
             plugged in."
        )
    };
    Health { refused: (1..=devices).map(sentence).collect(), ..Health::default() }
}

#[test]
fn what_is_plugged_in_and_not_used_is_named() {
    let mut desk = Desk::at_login();
    desk.function(8);
    assert_eq!(desk.app.dialog, None, "nothing is unusual");
    desk.state(State { health: refused(1), ..state(Phase::Login) });
    assert!(desk.text().contains("1 USB device is not used: F8 says more."), "{}", desk.text());
    desk.state(State { health: Health { passing_name: true, ..refused(4) }, ..state(Phase::Login) });
    check("login-refused", &desk);
    desk.keys("\x0e");
    check("login-refused-more", &desk);
    desk.keys("\x1b[B\x1b[B\x1b[B\x1b[B\x1b[B");
    assert!(desk.text().contains("Nothing tells this machine from others"), "{}", desk.text());
    desk.keys("\x1b[A");
    assert!(desk.text().contains("0004:8153") && desk.text().contains("4 of 5"), "{}", desk.text());
    desk.keys("\r");
    assert_eq!((desk.app.dialog, desk.app.view()), (None, View::Login));
    // A dock's card that is not taken is why there is no network.
    let gone = State { network: None, network_detail: "no card".into(), ..state(Phase::Commit) };
    desk.state(State { health: refused(1), ..gone });
    assert!(
        desk.text().contains("No network, and 1 USB device is not used: F8 says more."),
        "{}",
        desk.text()
    );
    desk.function(8);
    assert!(desk.text().contains("0001:8153"), "{}", desk.text());
    // It is plugged out while the window is open.
    desk.state(state(Phase::Commit));
    desk.text();
    desk.keys("\x1b[B\x1b");
    assert_eq!(desk.app.dialog, None);
}

#[test]
fn a_name_that_passes_is_told() {
    let mut desk = Desk::at_login();
    desk.state(State { health: Health { passing_name: true, ..refused(0) }, ..state(Phase::Login) });
    assert!(
        desk.text().contains("This kiosk has a new name after each start: F8 says more."),
        "{}",
        desk.text()
    );
    desk.function(8);
    assert!(desk.text().contains("Nothing tells this machine from others"), "{}", desk.text());
}

#[test]
fn a_low_battery_is_told_before_a_log_in() {
    let mut desk = Desk::sized(60, 18);
    desk.state(State { health: Health { low_battery: Some(7), ..refused(1) }, ..state(Phase::Login) });
    check("small-login-battery", &desk);
    desk.function(8);
    assert!(
        desk.text().contains("1 of 2") && desk.text().contains("No session can begin"),
        "{}",
        desk.text()
    );
}

/// What tells a kiosk from the others of its name is at the end.
#[test]
fn a_long_name_of_a_kiosk_keeps_its_end() {
    let name = "the-riverside-library-second-floor-window-9k3fzt";
    let mut desk = Desk::at_login();
    desk.log_in();
    desk.state(State { kiosk: name.into(), ..state(Phase::Choose) });
    let mut parcels = parcels();
    parcels[0].suspended_on = Some(name.into());
    if let Some(lock) = &mut parcels[1].lock {
        lock.kiosk = name.replace("9k3fzt", "7wq0ab");
    }
    desk.list(Ok(parcels));
    let text = desk.text();
    assert_eq!(text.matches("9k3fzt").count(), 2, "{text}");
    desk.keys("\x1b[B");
    assert!(desk.text().contains("7wq0ab"), "{}", desk.text());
    desk.keys("\r");
    assert!(desk.text().contains("7wq0ab"), "{}", desk.text());
}

#[test]
fn on_the_smallest_terminal() {
    let mut desk = Desk::sized(60, 18);
    desk.state(State { health: refused(2), ..state(Phase::Login) });
    check("small-login-unusual", &desk);
    desk.function(2);
    check("small-login-keyboard", &desk);
    desk.keys("\x1b");
    desk.function(8);
    check("small-login-refused", &desk);
    let mut desk = Desk::sized(80, 24);
    desk.state(State { health: refused(2), ..state(Phase::Login) });
    desk.function(8);
    let text = desk.text();
    assert!(text.contains("0002:8153") && text.contains("Close"), "{text}");
    // The longest title is whole.
    let layout =
        KeyboardLayout { name: "cd".into(), title: "French (Democratic Republic of the Congo)".into() };
    let keyboard = Keyboard { layout: "cd".into(), layouts: vec![layout] };
    let mut desk = Desk::sized(60, 18);
    desk.state(State { keyboard: Some(keyboard), ..state(Phase::Login) });
    desk.function(2);
    assert!(desk.text().contains("* French (Democratic Republic of the Congo)"), "{}", desk.text());
}

/// Whoever has started to type sees the screens of a kiosk that is told something new in between.
#[test]
fn a_resize_hides_nothing_for_good() {
    let mut desk = Desk::at_login();
    desk.function(2);
    desk.event(Event::Resize(40, 12));
    assert!(desk.text().contains("too small"));
    desk.event(Event::Resize(60, 18));
    assert!(desk.text().contains("Use it"), "{}", desk.text());
}
