//! What goes wrong, and who: late answers, a silent `init`, impatient and absent users.

use crate::desk::*;
use kiosk_ui::{
    app::{Dialog, View},
    event::{Event, OpenError},
    trouble::Trouble,
};
use parcel::wire::{
    Code,
    session::{Command, Phase},
};

/// The window about one parcel is there; then a list comes in which the cursor is on another.
#[test]
fn a_question_about_one_parcel_is_not_answered_for_another() {
    let mut desk = Desk::at_list();
    desk.keys("jr\r");
    assert_eq!(desk.app.dialog, Some(Dialog::BreakLock { cold_boot: false }));
    let mut moved = parcels();
    moved.rotate_left(1);
    desk.list(Ok(moved.clone()));
    // It is the same parcel, elsewhere in the list.
    assert_eq!(desk.app.list.current().map(|parcel| parcel.id), Some(parcels()[1].id));
    assert!(desk.app.dialog.is_some());
    desk.keys("qr\r");
    desk.list(Ok(moved[1..].to_vec()));
    assert_eq!(desk.app.dialog, None, "it is gone, and so is the question");
    desk.did();
    desk.keys("b");
    assert_eq!(desk.did(), []);
}

#[test]
fn a_list_for_somebody_else_is_not_shown() {
    let mut desk = Desk::at_list();
    desk.keys("rl");
    let late = desk.world.2;
    desk.state(state(Phase::Wipe));
    desk.state(state(Phase::Login));
    desk.log_in();
    desk.state(state(Phase::Choose));
    desk.event(Event::Parcels { attempt: late, result: Ok(parcels()) });
    assert!(desk.app.list.parcels.is_none());
    desk.list(Ok(parcels()));
    assert!(desk.text().contains("travel"));
}

#[test]
fn nothing_is_resumed_from_behind_an_error() {
    let mut desk = Desk::at_list();
    desk.keys("r");
    desk.list(Err(Trouble::new("It did not work.", Code::InternalError)));
    desk.did();
    desk.keys("\rc");
    assert_eq!(desk.did(), []);
    desk.keys("r");
    assert_eq!(desk.did(), [Did::Parcels]);
}

#[test]
fn an_init_that_does_not_take_it_up_leaves_no_screen_stuck() {
    // Whether it is silent or gone.
    let silences: [fn(&mut Desk); 2] = [|desk| desk.wait(30), |desk| desk.event(Event::InitLost)];
    for silence in silences {
        let mut desk = Desk::at_login();
        desk.keys("\x0fp");
        assert!(desk.text().contains("Shutting this kiosk down"));
        silence(&mut desk);
        desk.state(state(Phase::Login));
        assert!(desk.text().contains("manager-silent"), "{}", desk.text());
        desk.log_in();
        assert!(desk.text().contains("Welcome"));
        silence(&mut desk);
        desk.state(state(Phase::Login));
        assert!(desk.text().contains("manager-silent") && desk.app.login.password.is_empty());

        let mut desk = Desk::at_list();
        desk.keys("\r");
        desk.opened(parcels()[0].id, Ok(()));
        silence(&mut desk);
        desk.state(state(Phase::Choose));
        assert!(desk.text().contains("manager-silent"));
        desk.keys("\r");
        assert_eq!(desk.app.view(), View::List);
    }
}

#[test]
fn a_keypad_without_num_lock_shows_no_password() {
    let mut desk = Desk::at_login();
    desk.keys("shanta\x1b[Bpass\x1b[Aword");
    assert_eq!(desk.app.login.user.as_str(), "shanta");
    desk.keys("\x15\x1b[A!");
    assert_eq!(desk.app.login.user.as_str(), "shanta!", "an empty field is left by them");
}

#[test]
fn a_user_who_went_away_is_logged_out() {
    let mut desk = Desk::at_list();
    desk.wait(550);
    assert!(desk.text().contains("Logging out in 50 s"));
    desk.did();
    // The key that says "I am here" does nothing else.
    desk.keys("\r");
    assert_eq!(desk.did(), []);
    assert!(!desk.text().contains("Logging out"));
    desk.keys("\r");
    desk.opened(parcels()[0].id, Err(OpenError::Wrong));
    desk.wait(599);
    assert_eq!(desk.did(), []);
    desk.wait(1);
    assert_eq!(desk.did(), [command(Command::LogOut)]);

    // A form that was left half typed is empty for the next one.
    let mut desk = Desk::at_login();
    desk.keys("shanta\tTr0ub");
    desk.wait(119);
    assert!(!desk.app.login.is_blank());
    desk.wait(1);
    assert!(desk.app.login.is_blank());
    // A session is the guest's affair.
    let mut desk = Desk::at_run();
    desk.did();
    desk.wait(2000);
    assert_eq!(desk.did(), []);
}

#[test]
fn what_is_meant_for_a_window_never_reaches_the_guest() {
    let mut desk = Desk::at_run();
    desk.did();
    // An impatient second stroke.
    desk.keys("\x1dss\r");
    assert_eq!(desk.did(), [command(Command::Suspend)]);
    assert!(desk.text().contains("One moment"));
    // It cannot be done now: the session goes on, and so do its keys.
    desk.wait(30);
    desk.keys("x");
    assert_eq!(desk.did(), [Did::Typed(b"x".to_vec())]);

    // The session begins while somebody answers whether to give up.
    let mut desk = Desk::new();
    desk.state(state(Phase::Restore));
    desk.keys("c");
    desk.state(running());
    desk.event(Event::Console(Vec::new()));
    desk.did();
    desk.keys("n");
    assert_eq!(desk.did(), []);
    desk.wait(2);
    desk.keys("n");
    assert_eq!(desk.did(), [Did::Typed(b"n".to_vec())]);
}

#[test]
fn output_of_a_session_that_is_over_is_dropped() {
    let mut desk = Desk::at_run();
    desk.state(state(Phase::Save));
    desk.did();
    desk.event(Event::Console(b"secret\x1b[6n".to_vec()));
    assert_eq!(desk.did(), []);
    assert!(!desk.app.guest_connected);
    desk.state(running());
    desk.event(Event::Console(Vec::new()));
    assert!(!desk.text().contains("secret"));
}
