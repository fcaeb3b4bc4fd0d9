//! A log-in that runs out in mid-session costs nothing as long as its user is there to log in again.

use crate::{
    fake::{Fake, Go, log_in, wrong},
    two,
};
use parcel::{
    id::Version,
    wire::{
        Code, WireError,
        daemon::{Status, Waiting},
        session::{Command, Login, Phase},
    },
};
use std::time::Duration;
use waystation_init::system::Event;

fn expired() -> Status {
    let waiting =
        Waiting { pieces: 1, seconds: 3, reason: "the log-in has ended".into(), code: Code::SessionExpired };
    Status { waiting: Some(waiting), ..Status::default() }
}

#[test]
fn a_restarted_screen_learns_whose_session_it_is_and_the_next_user_does_not() {
    let mut fake = Fake::with_user();
    two(&mut fake);
    for state in &fake.states {
        let session = (Phase::Choose..=Phase::Unlock).contains(&state.phase);
        let name = state.login.as_ref().map(|login| login.principal.as_str());
        assert_eq!(name, session.then_some("shanta@R"), "{:?}", state.phase);
    }
    assert!(!fake.log.iter().any(|line| line.contains("shanta")), "the log names nobody");
}

#[test]
fn a_commit_and_an_unlock_wait_for_a_log_in() {
    for (phase, what) in [(Phase::Commit, "commit"), (Phase::Unlock, "unlock")] {
        let mut fake = Fake::with_user();
        fake.on(phase, vec![Event::Status(expired()), Event::Command(log_in(99))]);
        let login = two(&mut fake);
        assert_eq!(login.notice, None, "{what}");
        assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
        assert_eq!(fake.asked(what), 1, "trying again is the engine's");
        let states = || fake.states.iter().filter(|state| state.phase == phase);
        let told = |state: &parcel::wire::session::State| {
            state.waiting.as_ref().is_some_and(|waiting| waiting.needs_login())
        };
        assert!(states().any(told), "the screen can offer a log-in");
        assert!(fake.log.iter().any(|line| line == "waiting [session-expired]"));
        let ends =
            |state: &parcel::wire::session::State| state.login.as_ref().is_some_and(|login| login.ends == 99);
        assert!(states().any(ends), "the screens are told when the new one ends");
    }
}

#[test]
fn the_way_in_and_the_session_wait_for_a_log_in_too() {
    for phase in [Phase::Open, Phase::Restore, Phase::Run, Phase::Save] {
        let mut fake = Fake::with_user();
        let then = fake.script.remove(&phase).unwrap_or_default().into_iter().flatten();
        let told = [Event::Status(expired()), Event::Command(log_in(99))];
        fake.on(phase, told.into_iter().chain(then).collect());
        let login = two(&mut fake);
        assert_eq!(login.notice, None, "{phase:?}");
        assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)), "{phase:?}");
        let shown = fake.states.iter().any(|state| {
            state.phase == phase && state.waiting.as_ref().is_some_and(|waiting| waiting.needs_login())
        });
        assert!(shown, "{phase:?}");
    }
}

/// Before the lock nothing is at stake: whoever comes too late logs in anew, and nothing is left locked.
#[test]
fn a_log_in_that_runs_out_before_the_lock_costs_nothing() {
    let mut fake = Fake::with_user();
    fake.goes("lock", wrong(Code::TokenExpired));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!(notice, WireError::new(Code::TokenExpired, "It went wrong (token-expired)."));
    assert_eq!(fake.asked("unlock"), 0);
}

/// The lock is given back for ten seconds after a user who gave up, as when the server is away.
#[test]
fn giving_up_without_a_log_in_ends_soon_and_tells_of_the_lock() {
    let mut fake = Fake::with_user();
    for what in ["commit", "unlock"] {
        fake.goes(what, Go::Silent);
    }
    fake.patience.push_back(Event::Status(expired()));
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!(notice.code, Code::GaveUp);
    assert!(notice.message.contains("What changed since version 2 is lost"), "{notice}");
    assert!(notice.message.contains("did not confirm the release of its lock"), "{notice}");
    assert!(fake.clock < Duration::from_secs(30), "{:?}", fake.clock);
}

#[test]
fn another_users_log_in_changes_nothing() {
    let other = Login { principal: "ravi@R".into(), ends: 99, began: 9 };
    let mut fake = Fake::with_user();
    let then = fake.script.remove(&Phase::Run).unwrap_or_default().into_iter().flatten();
    fake.on(Phase::Run, [Event::Command(Command::LoggedIn(other))].into_iter().chain(then).collect());
    assert_eq!(two(&mut fake).notice, None);
    let named = |state: &parcel::wire::session::State| {
        state.login.as_ref().is_some_and(|login| login.principal != "shanta@R")
    };
    assert!(!fake.states.iter().any(named));
}

#[test]
fn a_user_who_does_not_come_back_costs_the_unlock_two_minutes() {
    let mut fake = Fake::with_user();
    for _ in 0..2 {
        fake.goes("unlock", Go::Silent);
    }
    fake.follows.insert("unlock", Event::Status(expired()));
    let login = two(&mut fake);
    let notice: WireError = login.notice.expect("the user is told");
    assert_eq!(notice.code, Code::StillLocked);
    assert!(notice.message.contains("nobody logged in again"), "{notice}");
    assert!(notice.message.contains("Version 3 of your computer is on the server, whole."), "{notice}");
    assert!(notice.message.contains("break the lock"), "{notice}");
    assert!(fake.clock < Duration::from_secs(180), "{:?}", fake.clock);
}
