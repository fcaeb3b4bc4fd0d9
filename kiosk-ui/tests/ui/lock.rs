//! A session that nobody sits at, and who may end one.

use crate::{
    again::{restarted, stuck, suspending},
    desk::*,
    screens::check,
};
use kiosk_ui::{
    app::{Dialog, View},
    event::{Event, OpenError},
};
use parcel::wire::{
    kiosk,
    session::{Command, Login, Phase, State},
};

const SITE: kiosk::Session =
    kiosk::Session { lock_after_s: 300, suspend_after_s: 3600, low_battery_percent: 10 };

/// With the guest's console before the user, at a site that locks.
fn at_site(session: kiosk::Session) -> Desk {
    let mut desk = Desk::new();
    desk.app.about.session = session;
    desk.state(long(running()));
    desk.event(Event::Console(b"shanta@guest:~$ secret".to_vec()));
    desk.did();
    desk
}

/// With a log-in that lasts all day.
fn long(state: State) -> State {
    State { login: Some(Login { ends: NOW + 36_000, ..login() }), ..state }
}

fn locked(state: State) -> State {
    State { locked: true, ..long(state) }
}

fn answer(desk: &mut Desk, result: Result<(), OpenError>) {
    let attempt = desk.last_attempt();
    desk.did();
    desk.event(Event::Proved { attempt, result });
}

#[test]
fn a_screen_that_nobody_sits_at_is_locked_and_the_password_unlocks_it() {
    let mut desk = at_site(SITE);
    desk.wait(299);
    assert_eq!((desk.did(), desk.app.view()), (vec![], View::Run));
    desk.wait(1);
    assert_eq!(desk.did(), [command(Command::Lock)]);
    check("locked", &desk);
    assert!(!desk.text().contains("secret"));
    // What `init` said before it heard of it does not unlock; and it hears it again.
    desk.state(long(running()));
    assert_eq!((desk.did(), desk.app.view()), (vec![command(Command::Lock)], View::Locked));
    desk.state(locked(running()));
    assert_eq!(desk.did(), []);
    // No key reaches the guest; none opens a window.
    desk.keys("\x1dls\x03\x1b\x1d\x1b");
    desk.function(12);
    assert_eq!((desk.did(), desk.app.dialog), (vec![], None));
    desk.keys(&format!("\x15{PASSWORD}\r"));
    let attempt = desk.last_attempt();
    let parcel = desk.app.state.as_ref().unwrap().parcel_id.unwrap();
    assert_eq!(desk.did(), [Did::Prove(attempt, parcel, PASSWORD.into())]);
    desk.event(Event::Proved { attempt: attempt + 1, result: Ok(()) });
    assert_eq!(desk.app.view(), View::Locked, "an answer to something else");
    desk.event(Event::Proved { attempt, result: Ok(()) });
    assert_eq!((desk.did(), desk.app.view()), (vec![command(Command::Unlocked)], View::Run));
    // What `init` said before it heard of that locks for a moment, and not for good.
    desk.state(locked(running()));
    desk.state(long(running()));
    assert_eq!((desk.did(), desk.app.view()), (vec![], View::Run));
}

#[test]
fn screens_that_start_again_come_back_locked() {
    let mut desk = Desk::new();
    desk.state(locked(running()));
    desk.event(Event::Console(b"secret".to_vec()));
    assert!(!desk.text().contains("secret"));
    desk.did();
    desk.keys("x\x1dgy");
    assert_eq!((desk.did(), desk.app.view()), (vec![], View::Locked));
    // And with the failures that there were.
    let mut desk = Desk::new();
    desk.state(State { failures: 5, ..locked(running()) });
    desk.did();
    desk.keys("guess");
    desk.wait(31);
    desk.keys("\r");
    assert_eq!(desk.did(), []);
    desk.wait(1);
    desk.keys("\r");
    assert_eq!(desk.did().len(), 1);
}

#[test]
fn a_key_puts_the_lock_off_and_a_site_may_do_without() {
    let mut desk = at_site(SITE);
    for _ in 0..5 {
        desk.wait(200);
        desk.keys("x");
    }
    assert_eq!(desk.app.view(), View::Run);
    let mut desk = at_site(kiosk::Session { lock_after_s: 0, suspend_after_s: 0, ..SITE });
    desk.wait(9000);
    assert_eq!(desk.did(), []);
    desk.keys("\x1dk");
    assert_eq!((desk.did(), desk.app.view()), (vec![command(Command::Lock)], View::Locked));
}

#[test]
fn failures_make_the_next_try_wait_longer() {
    let mut desk = at_site(SITE);
    desk.state(locked(running()));
    for wait in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        desk.did();
        desk.keys("guess\r");
        assert_eq!(desk.world.0.len(), 1, "{wait}");
        desk.keys("while it is checked\r");
        answer(&mut desk, Err(OpenError::Wrong));
        assert_eq!(desk.did(), [command(Command::WrongPassword)]);
        if wait == 32 {
            check("locked-wrong", &desk);
        }
        desk.keys("guess\r");
        desk.wait(wait - 1);
        desk.keys("\r");
        assert_eq!(desk.did(), [], "{wait}");
        desk.keys("\x1b");
        desk.wait(1);
    }
    desk.keys("x\r");
    answer(
        &mut desk,
        Err(OpenError::Trouble(kiosk_ui::trouble::Trouble::new("No.", parcel::wire::Code::CacheService))),
    );
    desk.keys("x\r");
    assert_eq!(desk.did().len(), 1, "what is no guess costs nothing");
    assert_eq!(desk.app.view(), View::Locked);
}

#[test]
fn one_try_is_checked_at_a_time_and_none_is_free() {
    let mut desk = at_site(SITE);
    desk.state(locked(running()));
    desk.did();
    desk.keys("guess\r");
    let attempt = desk.last_attempt();
    assert_eq!(desk.did().len(), 1);
    // Neither Esc nor another phase ends it before its answer.
    desk.keys("\x1bguess\r\x1b");
    desk.state(locked(state(Phase::Save)));
    desk.keys("cguess\r\x1bguess\r");
    desk.state(locked(running()));
    desk.keys("guess\r");
    assert!(!desk.did().iter().any(|did| matches!(did, Did::Prove(..))));
    desk.event(Event::Proved { attempt, result: Err(OpenError::Wrong) });
    assert_eq!(desk.did(), [command(Command::WrongPassword)]);
    desk.keys("guess\r");
    assert_eq!(desk.did(), [], "it waits after the failure");
}

#[test]
fn what_unlocks_a_screen_does_not_give_up_what_is_saved_meanwhile() {
    let mut desk = at_site(SITE);
    desk.state(locked(running()));
    desk.keys(&format!("{PASSWORD}\r"));
    let attempt = desk.last_attempt();
    desk.state(locked(state(Phase::Save)));
    desk.keys("c");
    assert!(desk.app.asks_before_giving_up());
    desk.did();
    desk.event(Event::Proved { attempt, result: Ok(()) });
    assert_eq!(desk.did(), [command(Command::Unlocked)]);
}

#[test]
fn a_session_that_was_left_is_suspended() {
    let mut desk = at_site(SITE);
    desk.wait(300);
    desk.state(locked(running()));
    desk.did();
    desk.wait(3000);
    // Whoever presses keys at the locked screen keeps nothing running.
    desk.keys("x");
    desk.wait(299);
    assert_eq!(desk.did(), []);
    desk.wait(1);
    assert_eq!(desk.did(), [command(Command::Suspend)]);
    let mut desk = at_site(SITE);
    desk.state(locked(running()));
    desk.function(9);
    assert_eq!(desk.did(), [command(Command::Suspend)]);
}

#[test]
fn it_is_suspended_while_its_log_in_still_lasts() {
    let mut desk = at_site(kiosk::Session { lock_after_s: 0, suspend_after_s: 0, ..SITE });
    desk.wait(1);
    desk.event(Event::Tick(NOW + 36_000 - 700));
    desk.wait(99);
    assert_eq!(desk.did(), []);
    desk.wait(1);
    assert_eq!(desk.did(), [command(Command::Lock), command(Command::Suspend)]);
    // It ended while somebody was there, who then left.
    let mut desk = at_site(SITE);
    desk.event(Event::Tick(NOW + 36_000 - 2));
    desk.keys("x");
    desk.wait(299);
    desk.did();
    desk.wait(1);
    assert_eq!(desk.did(), [command(Command::Lock)]);
    desk.wait(1);
    assert_eq!(desk.did(), [command(Command::Suspend)]);
    // Somebody who works is asked to log in again instead.
    let mut desk = at_site(kiosk::Session { lock_after_s: 0, suspend_after_s: 0, ..SITE });
    desk.wait(1);
    desk.event(Event::Tick(NOW + 36_000 - 700));
    for _ in 0..12 {
        desk.wait(50);
        desk.keys("x");
    }
    assert!(!desk.did().contains(&command(Command::Suspend)));
}

/// Screens that start again know from `init` how long the log-in lasts in all, not only how much of it is left.
#[test]
fn screens_that_start_again_shortly_before_the_log_in_ends_suspend_in_time() {
    let mut desk = Desk::new();
    desk.app.about.session = kiosk::Session { lock_after_s: 0, suspend_after_s: 0, ..SITE };
    let login = Login { began: NOW - 36_000, ends: NOW + 300, ..login() };
    desk.state(State { login: Some(login), ..running() });
    desk.did();
    desk.wait(61);
    assert_eq!(desk.did(), [command(Command::Lock), command(Command::Suspend)]);
}

#[test]
fn giving_work_up_asks_for_the_password() {
    for phase in [Phase::Run, Phase::Save, Phase::Commit, Phase::Rescue] {
        let mut desk = Desk::new();
        desk.state(State { locked: phase == Phase::Commit, ..long(state(phase)) });
        desk.did();
        desk.keys(if phase == Phase::Run { "\x1dg" } else { "c" });
        desk.keys("yes\r");
        answer(&mut desk, Err(OpenError::Wrong));
        assert_eq!(desk.did(), [command(Command::WrongPassword)], "{phase:?}");
        let text = desk.text();
        assert!(text.contains("Type your password to give your work up."), "{text}");
        assert!(text.contains("Your work was not given up."), "{text}");
        if phase == Phase::Save {
            check("give-up-wrong", &desk);
        }
        desk.wait(2);
        desk.keys("\x1b\x1b");
        assert_eq!(desk.app.dialog, None);
        desk.keys(if phase == Phase::Run { "\x1dg" } else { "c" });
        desk.keys(&format!("{PASSWORD}\r"));
        answer(&mut desk, Ok(()));
        // `init` takes it from nobody while the screen is locked.
        let unlocks = (phase == Phase::Commit).then(|| command(Command::Unlocked));
        assert_eq!(desk.did(), unlocks.into_iter().collect::<Vec<_>>(), "{phase:?}");
        // Neither the end of a password nor another Enter gives anything up.
        desk.keys("\rTr0ub4dor&3\r ");
        assert_eq!((desk.did(), desk.app.dialog), (vec![], Some(Dialog::LoseWork)), "{phase:?}");
        desk.keys("y");
        assert_eq!((desk.did(), desk.app.dialog), (vec![command(Command::GiveUp)], None), "{phase:?}");
    }
}

/// "Press L and type your password, and it is saved", and the user forgets the L: letters are commands, and one of them opens
/// the window that gives work up.
#[test]
fn whoever_types_the_password_to_save_work_does_not_give_it_up() {
    let sure = || {
        let mut desk = Desk::new();
        desk.state(restarted());
        desk.keys("correct\r");
        answer(&mut desk, Err(OpenError::Wrong));
        desk.wait(2);
        desk.keys("correct\r");
        answer(&mut desk, Ok(()));
        desk
    };
    let mut desk = sure();
    check("give-up-sure", &desk);
    for key in ["n", "\x1b"] {
        let mut desk = sure();
        desk.keys(key);
        assert_eq!((desk.did(), desk.app.dialog), (vec![], None));
        // The next one is asked for the password as the first one was.
        desk.keys("cy");
        assert_eq!((desk.did(), desk.app.asks_before_giving_up()), (vec![], true));
    }
    // Whoever comes by later did not type it, and the session may have ended.
    desk.wait(120);
    desk.keys("y");
    assert_eq!((desk.did(), desk.app.dialog), (vec![], None));
    let mut desk = sure();
    desk.state(state(Phase::Unlock));
    desk.keys("y");
    assert_eq!((desk.did(), desk.app.dialog), (vec![], None));
    let mut desk = Desk::sized(60, 18);
    desk.state(restarted());
    desk.keys("cx\r");
    answer(&mut desk, Err(OpenError::Slip));
    check("small-give-up-wrong", &desk);
    desk.wait(2);
    desk.keys("x\r");
    answer(&mut desk, Ok(()));
    check("small-give-up-sure", &desk);
}

#[test]
fn another_key_is_told_with_what_helps_then() {
    for (phase, keys, says) in [
        (Phase::Run, "", "Suspend it: nothing is lost by that."),
        (Phase::Save, "c", "Your work is kept on this kiosk."),
        (Phase::Commit, "c", "Your work is kept on this kiosk."),
    ] {
        let mut desk = Desk::new();
        desk.state(State { locked: phase == Phase::Run, ..long(state(phase)) });
        desk.keys(keys);
        desk.keys("x\r");
        answer(&mut desk, Err(OpenError::OtherKey));
        assert_eq!(desk.did(), [], "it is no guess");
        let text = desk.text();
        let text: String = text.replace('│', " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(says) && text.contains("Code for IT: other-key"), "{text}");
        assert_eq!(text.contains("Suspend it"), phase == Phase::Run, "{text}");
    }
}

/// A window that asks for a password closes by itself while somebody types: the rest of it is no command.
#[test]
fn what_is_typed_ahead_for_a_window_that_closed_is_no_command() {
    for presses in [0, 1] {
        let mut desk = Desk::at_run();
        desk.keys("\x1dltrou");
        // The session ends in a phase in which nobody can log in any more.
        desk.state(State { presses, ..state(Phase::Unlock) });
        desk.keys("bled");
        assert_eq!(desk.app.dialog, (presses > 0).then_some(Dialog::Pressed));
        desk.wait(2);
        desk.keys("\x1b");
        desk.keys("d");
        assert_eq!(desk.app.dialog, Some(Dialog::Details));
    }
    let mut desk = Desk::at_run();
    desk.keys("\x1dg");
    desk.keys("doc");
    desk.state(State { presses: 1, ..state(Phase::Save) });
    desk.keys("c\r");
    assert_eq!(desk.app.dialog, Some(Dialog::Pressed));
    desk.wait(2);
    desk.keys("c");
    assert!(desk.app.asks_before_giving_up());
}

/// Whoever unlocks and suspends at once, with a log-in that has run out, need not wait before L.
#[test]
fn what_follows_the_menu_key_is_meant() {
    let mut desk = Desk::at_run();
    desk.state(locked(running()));
    desk.keys(&format!("{PASSWORD}\r"));
    answer(&mut desk, Ok(()));
    desk.state(running());
    desk.keys("\x1ds");
    desk.state(stuck(suspending()));
    desk.keys("l");
    assert_eq!(desk.app.dialog, Some(Dialog::LogIn));
}

#[test]
fn on_the_smallest_terminal() {
    let mut desk = Desk::sized(60, 18);
    desk.state(locked(running()));
    check("small-locked", &desk);
    desk.keys("x\r");
    answer(&mut desk, Err(OpenError::Wrong));
    check("small-locked-wrong", &desk);
    let mut desk = Desk::sized(60, 18);
    desk.state(long(running()));
    desk.keys("\x1dg");
    check("small-give-up", &desk);
    let mut desk = Desk::sized(40, 12);
    desk.event(Event::Console(b"secret".to_vec()));
    desk.state(locked(running()));
    assert!(desk.text().contains("too small") && !desk.text().contains("secret"), "{}", desk.text());
}
