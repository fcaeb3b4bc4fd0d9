//! Logging in again in mid-session: what the screens say, and what they do.

use crate::{
    desk::*,
    screens::{check, login_errors},
};
use kiosk_ui::{
    app::{Dialog, LogInIs},
    event::{Event, OpenError, Session},
    trouble::{Trouble, of_login},
};
use parcel::{
    slot::Proof,
    wire::{
        Code, Progress, WireError,
        daemon::Waiting,
        session::{Command, Login, Phase, State},
    },
};

/// As `cached` says that the server does not take the token any more.
fn expired() -> Waiting {
    Waiting {
        pieces: 2,
        seconds: 75,
        reason: "the log-in to the parcel server has ended; log in again to go on".into(),
        code: Code::SessionExpired,
    }
}

pub fn stuck(state: State) -> State {
    State { waiting: Some(expired()), ..state }
}

pub fn suspending() -> State {
    State {
        parcel: Some("desk".into()),
        doing: "Sending your changes home".into(),
        progress: Some(Progress { done: 12 << 20, total: 41 << 20, rate: 0 }),
        timeline: timeline(&[Phase::Run, Phase::Save]),
        ..state(Phase::Commit)
    }
}

/// A log-in whose token would end at another time.
fn renewed() -> Login {
    Login { ends: NOW + 36_000, ..login() }
}

fn answer(desk: &mut Desk, result: Result<Session, Trouble>) {
    let attempt = desk.last_attempt();
    desk.event(Event::LoggedIn { attempt, result });
}

fn accept(desk: &mut Desk) {
    answer(desk, Ok(Session { login: renewed(), ..session() }));
    let attempt = desk.last_attempt();
    desk.event(Event::Adopted { attempt, result: Ok(()) });
}

fn denied() -> Trouble {
    Trouble::new("The user name or the password is not right.", Code::LoginDenied)
}

/// Each state of the window, as a person has looked at it.
#[test]
pub fn again() {
    let mut desk = Desk::at_run();
    desk.state(stuck(running()));
    check("again-run", &desk);
    desk.keys("\x1dl");
    check("again-window", &desk);
    desk.keys(PASSWORD);
    desk.app.caps_lock = true;
    check("again-typed", &desk);
    desk.app.caps_lock = false;
    desk.keys("\r");
    check("again-asking", &desk);
    answer(&mut desk, Err(denied()));
    check("again-denied", &desk);
    desk.keys(&format!("{PASSWORD}\r"));
    accept(&mut desk);
    check("again-done", &desk);
    let mut desk = Desk::at_run();
    desk.event(Event::Tick(NOW + 3600 - 600));
    check("again-ending", &desk);
    let mut desk = Desk::new();
    desk.state(stuck(suspending()));
    check("again-suspending", &desk);
    desk.keys("l");
    check("again-suspending-window", &desk);
    desk.keys(&format!("{PASSWORD}\r"));
    accept(&mut desk);
    desk.state(State { login: Some(renewed()), ..suspending() });
    check("again-suspending-done", &desk);
    let mut desk = Desk::new();
    desk.state(suspending());
    desk.event(Event::Tick(NOW + 3600 - 600));
    check("again-suspending-ending", &desk);
}

#[test]
fn on_the_smallest_terminal() {
    let mut desk = Desk::sized(60, 18);
    desk.state(stuck(running()));
    desk.event(Event::Console(b"$ ".to_vec()));
    check("small-again-run", &desk);
    desk.keys("\x1dlx\r");
    let (_, error, about) = login_errors().swap_remove(1);
    answer(&mut desk, Err(of_login(&error, &about)));
    check("small-again-window", &desk);
    let mut desk = Desk::sized(60, 18);
    desk.state(stuck(suspending()));
    check("small-again-suspending", &desk);

    // The guest has any terminal, a password's field has not.
    let mut desk = Desk::sized(40, 12);
    desk.state(stuck(running()));
    desk.event(Event::Console(b"$ ".to_vec()));
    assert!(desk.text().contains("Log in again: Ctrl-] L"), "{}", desk.text());
    desk.keys("\x1dl");
    assert!(desk.text().contains("Esc goes"), "{}", desk.text());
    desk.did();
    desk.keys("secret\r");
    assert_eq!(desk.did(), []);
    assert!(desk.app.again.password.is_empty());
    desk.keys("\x1b");
    assert!(desk.text().starts_with('$'), "{}", desk.text());
}

#[test]
fn whoever_logs_in_again_goes_on_and_the_guest_learns_nothing() {
    let mut desk = Desk::at_run();
    desk.state(stuck(running()));
    desk.did();
    desk.keys("\x1dl");
    // Nothing is asked without a password; keys of the guest and of other windows mean nothing here.
    desk.keys("\r\t\x1d\x1b[A\x03\x1a");
    desk.function(12);
    desk.keys("qqgy\x15");
    assert_eq!(desk.did(), []);
    desk.keys(&format!("{PASSWORD}x\x7f\r"));
    let attempt = desk.last_attempt();
    let user = "shanta@WAYSTATION.TEST".to_owned();
    assert_eq!(desk.did(), [Did::Login { attempt, user: user.clone(), password: PASSWORD.into() }]);
    assert!(desk.app.again.password.is_empty());
    desk.keys("more\r");
    assert_eq!(desk.did(), [], "what is typed meanwhile is nobody's");
    desk.event(Event::LoggedIn { attempt, result: Ok(Session { login: renewed(), ..session() }) });
    assert_eq!(desk.did(), [Did::Adopt(attempt, user)]);
    desk.keys("\x1bmore\r");
    desk.event(Event::Adopted { attempt, result: Ok(()) });
    assert_eq!(desk.did(), [command(Command::LoggedIn(renewed()))]);
    assert_eq!(desk.app.dialog, None);
    assert!(desk.text().contains("You are logged in again."), "before `init` says so, too");
    desk.keys("more\r");
    assert_eq!(desk.did(), [], "it was on its way to the window");
    desk.state(State { login: Some(renewed()), ..running() });
    desk.wait(5);
    assert_eq!(desk.app.log_in_is(), LogInIs::Good);
    assert!(desk.text().contains("menu"));
    desk.keys("x");
    assert_eq!(desk.did(), [Did::Typed(b"x".to_vec())]);
}

/// As `init` says that the engine was restarted.
pub fn restarted() -> State {
    let waiting = Waiting {
        pieces: 1,
        seconds: 0,
        reason: "The part of this kiosk that keeps your computer's data was restarted. Your computer has stopped, and its disk \
                 is kept. Press L and type your password, and it is saved."
            .into(),
        code: Code::EngineRestarted,
    };
    State {
        parcel: Some("desk".into()),
        parcel_id: Some(parcels()[0].id),
        doing: "Your machine stopped. Keeping its disk".into(),
        waiting: Some(waiting),
        timeline: timeline(&[Phase::Run]),
        ..state(Phase::Save)
    }
}

/// The user's log-in is taken, and the key slot is tried with its password.
fn logs_in_and_opens(desk: &mut Desk) -> u64 {
    desk.keys(&format!("{PASSWORD}\r"));
    accept(desk);
    let (attempt, parcel) = (desk.last_attempt(), parcels()[0].id);
    let open = Did::Open { attempt, parcel, login: Some(PASSWORD.into()), typed: None, proof: true };
    let did = desk.did();
    assert_eq!(did.last(), Some(&open), "{did:?}");
    assert!(!did.contains(&command(Command::LoggedIn(renewed()))), "the key is not there yet");
    attempt
}

fn opens(desk: &mut Desk, attempt: u64, result: Result<Proof, OpenError>) {
    desk.event(Event::Opened { attempt, parcel: parcels()[0].id, result });
}

#[test]
fn after_a_restart_of_the_engine_the_password_opens_the_computer_too() {
    let mut desk = Desk::new();
    desk.state(restarted());
    check("again-restarted", &desk);
    desk.keys("l");
    check("again-restarted-window", &desk);
    desk.did();
    let attempt = logs_in_and_opens(&mut desk);
    let away = Trouble::new("It does not answer.", Code::CacheService);
    opens(&mut desk, attempt, Err(OpenError::Trouble(away)));
    assert!(desk.text().contains("cache-service"), "{}", desk.text());
    assert_eq!(desk.did(), []);
    let attempt = logs_in_and_opens(&mut desk);
    opens(&mut desk, attempt + 1, Ok(proof()));
    assert_eq!(desk.did(), [], "an answer to something else");
    opens(&mut desk, attempt, Ok(proof()));
    let both = [Command::Opened(proof()), Command::LoggedIn(renewed())].map(command);
    assert_eq!((desk.did(), desk.app.dialog), (both.to_vec(), None));
    // While nothing is said of a restart, a log-in opens nothing.
    let mut desk = Desk::new();
    desk.state(stuck(suspending()));
    desk.keys("l");
    desk.keys(&format!("{PASSWORD}\r"));
    accept(&mut desk);
    assert!(!desk.did().iter().any(|did| matches!(did, Did::Open { .. })));
}

/// A key that is slow to come, or never comes, holds nobody in the window.
#[test]
fn escape_stops_waiting_for_the_key() {
    let mut desk = Desk::new();
    desk.state(restarted());
    desk.keys("l");
    desk.did();
    let attempt = logs_in_and_opens(&mut desk);
    check("again-restarted-opening", &desk);
    desk.keys("\x1b");
    assert!(desk.app.again.unlocking.is_none() && desk.app.dialog == Some(Dialog::LogIn));
    assert_eq!(desk.did(), [command(Command::LoggedIn(renewed()))], "the log-in was renewed all the same");
    opens(&mut desk, attempt, Ok(proof()));
    assert_eq!(desk.did(), [], "a late answer");
    desk.keys("\x1b");
    assert_eq!(desk.app.dialog, None);
    desk.keys("l");
    let attempt = logs_in_and_opens(&mut desk);
    opens(&mut desk, attempt, Ok(proof()));
    assert!(desk.did().contains(&command(Command::Opened(proof()))));
}

/// The slot opens by the password from before: it is asked for as at any log-in.
#[test]
fn after_a_restart_of_the_engine_a_password_that_was_changed_meanwhile_costs_one_question() {
    let mut desk = Desk::new();
    desk.state(restarted());
    desk.keys("l");
    let attempt = logs_in_and_opens(&mut desk);
    opens(&mut desk, attempt, Err(OpenError::Wrong));
    check("again-restarted-ask", &desk);
    // Nothing is tried without an answer.
    desk.keys("\r");
    assert_eq!(desk.did(), []);
    for (answer, result, says) in [
        ("not it", Err(OpenError::Wrong), Some("That does not open it. Try again.")),
        ("a recovery key", Err(OpenError::Slip), Some("One character of the recovery key is wrong.")),
        ("the old one", Ok(proof()), None),
    ] {
        desk.keys(&format!("{answer}\r"));
        let (attempt, parcel) = (desk.last_attempt(), parcels()[0].id);
        let (login, typed) = (Some(PASSWORD.to_owned()), Some(answer.to_owned()));
        assert_eq!(desk.did(), [Did::Open { attempt, parcel, login, typed, proof: true }]);
        desk.keys("typed meanwhile\r");
        assert_eq!(desk.did(), []);
        opens(&mut desk, attempt, result);
        let told = [Command::Opened(proof()), Command::LoggedIn(renewed())].map(command);
        assert_eq!(desk.did(), if says.is_some() { vec![] } else { told.to_vec() });
        assert!(says.is_none_or(|words| desk.text().contains(words)), "{}", desk.text());
        if answer == "not it" {
            check("again-restarted-ask-again", &desk);
        }
    }
    assert_eq!(desk.app.dialog, None);
}

#[test]
fn the_question_for_the_password_before_is_left_like_any_window_and_not_forever_open() {
    let asked = || {
        let mut desk = Desk::new();
        desk.state(restarted());
        desk.keys("l");
        let attempt = logs_in_and_opens(&mut desk);
        opens(&mut desk, attempt, Err(OpenError::Wrong));
        desk
    };
    let mut desk = asked();
    desk.keys("abc\x1b");
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
    desk.keys("\x1b");
    let renewed_all_the_same = vec![command(Command::LoggedIn(renewed()))];
    assert_eq!((desk.app.dialog, desk.did()), (None, renewed_all_the_same));
    // Work can be given up all the same, and saved by another try.
    desk.keys("c");
    assert!(desk.app.asks_before_giving_up());
    desk.keys("\x1b");
    desk.keys("l");
    logs_in_and_opens(&mut desk);
    // What somebody typed who went to look for the recovery key is forgotten, and after a while the log-in's password too.
    let mut desk = asked();
    desk.keys("abc");
    desk.wait(120);
    assert!(desk.app.again.unlocking.as_ref().is_some_and(|unlocking| unlocking.is_blank()));
    desk.wait(479);
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
    desk.wait(1);
    assert!(desk.app.dialog.is_none() && desk.app.again.unlocking.is_none());
    let mut desk = Desk::sized(60, 18);
    desk.state(restarted());
    desk.keys("l");
    let attempt = logs_in_and_opens(&mut desk);
    opens(&mut desk, attempt, Err(OpenError::Slip));
    check("small-again-restarted-ask", &desk);
}

#[test]
fn a_wrong_password_is_told_and_the_next_one_tried() {
    let mut desk = Desk::new();
    desk.state(stuck(suspending()));
    desk.keys("lwrong\r");
    answer(&mut desk, Err(denied()));
    let text = desk.text();
    assert!(text.contains("not right") && text.contains("Code for IT: login-denied"), "{text}");
    desk.keys(&format!("{PASSWORD}\r"));
    assert!(matches!(desk.world.0.last(), Some(Did::Login { password, .. }) if password == PASSWORD));
    answer(&mut desk, Ok(session()));
    let attempt = desk.last_attempt();
    let lost = Trouble::new("It does not answer.", Code::CacheService);
    desk.event(Event::Adopted { attempt, result: Err(lost) });
    assert!(desk.text().contains("cache-service"));
    desk.keys(&format!("{PASSWORD}\r"));
    accept(&mut desk);
    assert!(desk.did().contains(&command(Command::LoggedIn(renewed()))));
    assert_eq!(desk.app.dialog, None);
}

/// Somebody else's token would make the server say that there is no such parcel, and the session would be lost.
#[test]
fn another_users_token_is_not_used() {
    let mut desk = Desk::at_run();
    desk.state(stuck(running()));
    desk.did();
    desk.keys(&format!("\x1dl{PASSWORD}\r"));
    let other = Login { principal: "ravi@WAYSTATION.TEST".into(), ..renewed() };
    answer(&mut desk, Ok(Session { login: other, ..session() }));
    assert!(matches!(&desk.did()[..], [Did::Login { .. }]), "the token goes nowhere");
    assert!(desk.text().contains("Code for IT: other-user"), "{}", desk.text());
}

#[test]
fn escape_stops_what_is_under_way_and_then_leaves() {
    let mut desk = Desk::at_run();
    desk.state(stuck(running()));
    desk.keys(&format!("\x1dl{PASSWORD}\r"));
    desk.did();
    desk.keys("\x1b");
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
    desk.event(Event::LoggedIn { attempt: 1, result: Ok(session()) });
    desk.keys("abc");
    assert_eq!(desk.app.again.password.chars(), 3);
    // As in every form, it empties it first: what is typed anew is not the guest's.
    desk.keys("\x1b");
    assert!(desk.app.again.password.is_empty());
    desk.keys(&format!("{PASSWORD}\r"));
    let attempt = desk.last_attempt();
    desk.did();
    desk.event(Event::LoggedIn { attempt, result: Err(denied()) });
    desk.keys("\x1b");
    assert!(!desk.text().contains("not right"));
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
    desk.keys("\x1b");
    assert_eq!(desk.app.dialog, None);
    assert!(desk.app.again.password.is_empty());
    assert_eq!(desk.did(), []);
}

#[test]
fn the_window_is_there_as_long_as_it_is_of_use() {
    // A guest that powers off in the meantime is committed, which needs the log-in as well.
    let mut desk = Desk::at_run();
    desk.state(stuck(running()));
    desk.keys("\x1dlabc");
    desk.state(state(Phase::Save));
    desk.state(stuck(suspending()));
    assert_eq!((desk.app.dialog, desk.app.again.password.chars()), (Some(Dialog::LogIn), 3));
    desk.keys("\r");
    desk.did();
    desk.state(state(Phase::Wipe));
    assert_eq!(desk.app.dialog, None);
    desk.event(Event::LoggedIn { attempt: 1, result: Ok(session()) });
    assert_eq!(desk.did(), []);
    // Somebody who goes away leaves no half of a password behind.
    let mut desk = Desk::at_run();
    desk.keys("\x1dlabc");
    desk.wait(120);
    assert!(desk.app.again.password.is_empty());
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
}

#[test]
fn it_is_offered_where_it_helps() {
    for (phase, home, offered) in [
        (Phase::Choose, false, false),
        (Phase::Lock, false, true),
        (Phase::Open, false, true),
        (Phase::Restore, false, true),
        (Phase::Commit, false, true),
        (Phase::Unlock, true, true),
        // Given up: the lock is given back within seconds, or not at all.
        (Phase::Unlock, false, false),
        (Phase::Wipe, true, false),
    ] {
        let mut desk = Desk::new();
        let mut state = stuck(state(phase));
        state.timeline = timeline(&[Phase::Run, Phase::Save, Phase::Commit]);
        state.timeline[2].ok = home;
        desk.state(state);
        assert_eq!(desk.text().contains("Log in again"), offered, "{phase:?}:\n{}", desk.text());
        if phase != Phase::Choose {
            desk.keys("l");
            assert_eq!(desk.app.dialog.is_some(), offered, "{phase:?}");
        }
    }
    // While nothing waits for it, the key is not there.
    let mut desk = Desk::new();
    desk.state(suspending());
    desk.keys("l");
    assert_eq!(desk.app.dialog, None);
    // Other waits are told as they are.
    let away = Waiting { code: Code::ServerUnreachable, ..expired() };
    desk.state(State { waiting: Some(away), ..suspending() });
    assert!(!desk.text().contains("run out"));
    for code in [Code::SessionExpired, Code::TokenExpired, Code::BadToken] {
        let waiting = Some(Waiting { code, ..expired() });
        desk.state(State { waiting, ..suspending() });
        assert!(desk.text().contains("Your log-in has run out. Press L to log in again"), "{code}");
    }
    desk.keys("l");
    assert!(desk.text().contains("Type your password"));
    // By the clock, before anything has to wait for it.
    let mut desk = Desk::at_run();
    desk.event(Event::Tick(NOW + 3600));
    assert!(desk.text().contains("Your log-in has run out: Ctrl-] L logs you in again"));
}

#[test]
fn a_notice_that_comes_meanwhile_is_read_afterwards() {
    let mut desk = Desk::at_run();
    desk.keys("\x1dlab");
    desk.state(State {
        notice: Some(WireError::new(Code::VmmMemory, "It could not be saved.")),
        ..running()
    });
    desk.did();
    desk.keys("c\x1b");
    desk.keys("\x1b");
    assert_eq!(desk.did(), []);
    assert!(desk.text().contains("It could not be saved."));
}
