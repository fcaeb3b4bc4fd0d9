//! The power button on the way out of a session: it ends nothing, and the screen says why and what can be done.

use crate::{again::restarted, desk::*, screens::check};
use kiosk_ui::{app::Dialog, event::Event};
use parcel::wire::{
    Code,
    daemon::Waiting,
    session::{Command, Phase, State},
};

fn pressed(presses: u32, state: State) -> State {
    State { presses, ..state }
}

/// While the server is away.
fn sending() -> State {
    let reason = "the parcel server does not answer; trying again".into();
    let waiting = Waiting { pieces: 2, seconds: 75, reason, code: Code::ServerUnreachable };
    State {
        parcel: Some("desk".into()),
        doing: "Sending your changes home".into(),
        waiting: Some(waiting),
        timeline: timeline(&[Phase::Run, Phase::Save]),
        ..state(Phase::Commit)
    }
}

/// Each state of the window, as a person has looked at it.
#[test]
pub fn answers() {
    let mut desk = Desk::new();
    desk.state(sending());
    desk.state(pressed(1, sending()));
    check("pressed-sending", &desk);
    let mut desk = Desk::new();
    desk.state(restarted());
    desk.state(pressed(1, restarted()));
    check("pressed-restarted", &desk);
    let releasing = State {
        doing: "Releasing the lock".into(),
        timeline: timeline(&[Phase::Save, Phase::Commit]),
        ..state(Phase::Unlock)
    };
    let mut desk = Desk::new();
    desk.state(releasing.clone());
    desk.state(pressed(1, releasing));
    check("pressed-releasing", &desk);
    let mut desk = Desk::sized(60, 18);
    desk.state(restarted());
    desk.state(pressed(1, restarted()));
    check("small-pressed-restarted", &desk);
}

#[test]
fn each_press_is_answered_and_what_is_offered_is_there() {
    let mut desk = Desk::new();
    desk.state(restarted());
    desk.did();
    desk.state(pressed(1, restarted()));
    assert_eq!(desk.app.dialog, Some(Dialog::Pressed));
    // Waiting is the way out of it, and the next press is answered like the first.
    desk.keys("y\r");
    desk.state(pressed(1, restarted()));
    assert_eq!(desk.app.dialog, None);
    desk.state(pressed(2, restarted()));
    assert_eq!(desk.app.dialog, Some(Dialog::Pressed));
    desk.keys("l");
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
    desk.keys("\x1b");
    desk.state(pressed(3, restarted()));
    desk.keys("c");
    assert!(desk.app.asks_before_giving_up(), "work is given up with the password, and not without");
    assert_eq!(desk.did(), []);
    desk.keys(&format!("{PASSWORD}\r"));
    let attempt = desk.last_attempt();
    desk.did();
    desk.event(Event::Proved { attempt, result: Ok(()) });
    desk.keys("y");
    assert_eq!(desk.did(), [command(Command::GiveUp)]);
}

#[test]
fn escape_closes_the_window_however_often_the_button_was_pressed() {
    let mut desk = Desk::new();
    desk.state(sending());
    for presses in 1..=3 {
        desk.state(pressed(presses, sending()));
    }
    desk.keys("\x1b");
    assert_eq!(desk.app.dialog, None);
}

#[test]
fn a_press_of_a_save_that_failed_is_not_answered_in_the_next_one() {
    let mut desk = Desk::new();
    desk.state(restarted());
    desk.keys("c");
    desk.state(pressed(1, restarted()));
    desk.state(pressed(1, running()));
    desk.state(pressed(1, restarted()));
    assert_eq!(desk.app.dialog, None);
}

#[test]
fn a_press_does_not_take_a_form_away_and_is_answered_after_it() {
    let mut desk = Desk::new();
    desk.state(restarted());
    desk.keys("labc");
    desk.state(pressed(1, restarted()));
    assert_eq!((desk.app.dialog, desk.app.again.password.chars()), (Some(Dialog::LogIn), 3));
    desk.keys("\x1b\x1b");
    assert_eq!(desk.app.dialog, Some(Dialog::Pressed));
    // Whoever gives up meanwhile is not asked to wait.
    let mut desk = Desk::new();
    desk.state(sending());
    desk.keys("c");
    desk.state(pressed(1, sending()));
    desk.keys(&format!("{PASSWORD}\r"));
    let attempt = desk.last_attempt();
    desk.event(Event::Proved { attempt, result: Ok(()) });
    desk.keys("y");
    desk.state(pressed(1, State { timeline: timeline(&[Phase::Run]), ..state(Phase::Unlock) }));
    assert_eq!(desk.app.dialog, None);
    // Nor is anybody by screens that have just started, or in the next session.
    let mut desk = Desk::new();
    desk.state(pressed(4, sending()));
    assert_eq!(desk.app.dialog, None);
    desk.state(state(Phase::Login));
    desk.state(running());
    assert_eq!(desk.app.dialog, None);
}
