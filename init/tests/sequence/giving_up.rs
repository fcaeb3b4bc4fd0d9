//! What is given up, and what nobody answers: it ends soon, and the user is told what is known of it.

use crate::{
    died,
    fake::{Fake, Go, Learned, waiting, wrong},
    two,
};
use parcel::{
    id::Version,
    wire::{
        Code, WireError,
        session::{Command, Phase},
    },
};
use std::time::Duration;
use waystation_init::system::{Event, Role};

#[test]
fn only_the_user_gives_a_commit_up() {
    let mut fake = Fake::with_user();
    fake.goes("commit", Go::Silent);
    fake.follows.insert("commit", Event::Status(waiting(Code::ServerUnreachable)));
    fake.goes("unlock", wrong(Code::ServerUnreachable));
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!(notice.code, Code::GaveUp);
    assert_eq!(
        notice.message,
        "You gave the session up. What changed since version 2 is lost; your computer resumes as it was then. \
         The server did not confirm the release of its lock. If this kiosk still holds the lock at the next log-in, \
         break the lock."
    );
}

/// The server is down all the while: it answers neither the commit, nor the unlock, nor what became of them.
#[test]
fn a_commit_given_up_while_the_server_is_down_ends_soon_and_tells_what_is_lost() {
    for (all_sent, words) in [
        (false, "What changed since version 2 is lost; your computer resumes as it was then."),
        (
            true,
            "Your last changes may not have reached the server: your computer resumes as you left it, or as in \
             version 2.",
        ),
    ] {
        let mut fake = Fake { all_sent, ..Fake::with_user() };
        for what in ["commit", "unlock", "learn"] {
            fake.goes(what, Go::Silent);
        }
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let login = two(&mut fake);
        let notice = login.notice.expect("the user is told");
        assert_eq!(notice.code, Code::GaveUp);
        assert!(notice.message.contains(words), "{notice}");
        assert!(notice.message.contains("did not confirm the release of its lock"), "{notice}");
        // What the screen shows between the giving up and the wipe.
        let releasing = fake.states.iter().find(|state| state.phase == Phase::Unlock).expect("it is shown");
        assert_eq!(releasing.doing, "Releasing the lock, for up to 10 seconds");
        assert!(fake.clock < Duration::from_secs(30), "{:?}", fake.clock);
        let done: Vec<&str> = fake.calls.iter().map(String::as_str).collect();
        let at = |what: &str| done.iter().position(|call| *call == what).expect("it was done");
        assert!(at("cancel") < at("unlock") && at("unlock") < at("quit") && at("quit") < at("wipe"));
        let report = login.report.expect("a report is shown");
        assert!(report.verified && report.committed.is_none());
    }
}

#[test]
fn what_became_of_a_commit_is_asked_when_the_server_answers_again() {
    let lost = Some("What changed since version 2 is lost");
    let unknown = Some("may not have reached the server");
    for (committed, notice) in [(Some(true), None), (Some(false), lost), (None, unknown)] {
        let learned = Some(Learned { held: false, committed });
        let mut fake = Fake { all_sent: true, learned, ..Fake::with_user() };
        fake.goes("commit", Go::Silent);
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let login = two(&mut fake);
        let told = login.notice.map(|notice| notice.message);
        assert_eq!(told.is_some(), notice.is_some(), "{told:?}");
        assert!(notice.is_none_or(|notice| told.is_some_and(|told| told.contains(notice))));
        let committed = login.report.and_then(|report| report.committed);
        assert_eq!(committed, notice.is_none().then_some(Version(3)));
    }
}

#[test]
fn an_engine_that_dies_in_a_commit_leaves_it_in_doubt() {
    let mut fake = Fake::with_user();
    fake.goes("commit", Go::Dies);
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!(notice.code, Code::GaveUp);
    assert!(notice.message.contains("may not have reached the server"), "{notice}");
    assert!(notice.message.contains("break the lock"), "{notice}");
}

#[test]
fn a_lock_that_was_asked_for_in_vain_is_given_back() {
    let mut fake = Fake::with_user();
    fake.goes("lock", Go::Silent);
    fake.patience.push_back(Event::Command(Command::GiveUp));
    assert_eq!(two(&mut fake).notice, None);
    assert_eq!(fake.asked("unlock"), 1);
    let mut fake = Fake::with_user();
    fake.goes("lock", wrong(Code::ServerUnreachable));
    fake.goes("unlock", wrong(Code::ServerUnreachable));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert!(notice.message.contains("If this kiosk still holds its lock"), "{notice}");
}

#[test]
fn when_all_is_home_the_kiosk_does_not_wait_for_the_unlock_for_ever() {
    let mut fake = Fake::with_user();
    // Once for the phase, and once more on the way out.
    for _ in 0..2 {
        fake.goes("unlock", Go::Silent);
    }
    fake.follows.insert("unlock", Event::Status(waiting(Code::ServerUnreachable)));
    let login = two(&mut fake);
    let notice = login.notice.expect("the user is told");
    assert_eq!(notice.code, Code::StillLocked);
    assert!(notice.message.contains("Version 3 of your computer is on the server, whole."), "{notice}");
    assert!(notice.message.contains("break the lock"), "{notice}");
    assert!(!notice.message.contains("lost"), "{notice}");
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
    assert!(fake.states.iter().any(|state| {
        state.phase == Phase::Unlock
            && state.waiting.as_ref().is_some_and(|waiting| waiting.code == Code::ServerUnreachable)
    }));
    assert!(fake.clock < Duration::from_secs(180), "{:?}", fake.clock);
}

#[test]
fn a_long_error_does_not_crowd_out_what_was_lost() {
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![died(Role::Vmm)]);
    fake.dirty_chunks = 0;
    fake.goes("unlock", Go::Wrong(WireError::new(Code::ServerUnreachable, "x".repeat(1 << 20))));
    let notice = two(&mut fake).notice.expect("the user is told");
    // The screens show 400 characters of a sentence.
    assert!(notice.message.chars().count() <= 400, "{}", notice.message.len());
    assert!(notice.message.contains("since version 2 is lost"), "{notice}");
}

#[test]
fn what_was_given_up_is_hung_up_on_before_the_lock_is_released() {
    let mut fake = Fake::with_user();
    fake.goes("commit", Go::Silent);
    fake.goes("unlock", wrong(Code::StepUnderWay));
    fake.goes("unlock", wrong(Code::StepUnderWay));
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let notice = two(&mut fake).notice.expect("the user is told");
    let told: Vec<&String> =
        fake.calls.iter().filter(|call| ["cancel", "unlock"].contains(&call.as_str())).collect();
    assert_eq!(told[..4], ["cancel", "unlock", "unlock", "unlock"]);
    assert!(!notice.message.contains("holds the lock"), "{notice}");
}

#[test]
fn giving_up_while_nothing_answers_ends_every_phase() {
    for (what, phase) in [
        ("inventory", Phase::Check),
        ("lock", Phase::Lock),
        ("open", Phase::Open),
        ("start vmm", Phase::Restore),
        ("save", Phase::Save),
        ("commit", Phase::Commit),
        ("unlock", Phase::Unlock),
    ] {
        let mut fake = Fake::with_user();
        fake.goes(what, Go::Silent);
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let login = two(&mut fake);
        let last = login.timeline.iter().rfind(|record| record.phase < Phase::Wipe).expect("recorded");
        assert_eq!((last.phase, last.ok), (phase, false), "{what}");
        // Before the machine runs there is nothing to lose, and once it is committed neither; but an unlock is waited for only
        // so long, and a lock that stays is told of.
        let tells = matches!(phase, Phase::Save | Phase::Commit | Phase::Unlock);
        assert_eq!(login.notice.is_some(), tells, "{what}: {:?}", login.notice);
    }
}

/// Screens that start again come back locked, and nobody gives up a session whose screen is locked.
#[test]
fn a_locked_screen_stays_locked_until_its_user_is_back() {
    let mut fake = Fake::with_user();
    fake.only(
        Phase::Run,
        vec![
            Event::Command(Command::Lock),
            Event::Command(Command::GiveUp),
            Event::Command(Command::WrongPassword),
            Event::Exited { role: Role::KioskUi, how: "signal 9".into() },
        ],
    );
    fake.patience.push_back(Event::Command(Command::Unlocked));
    fake.patience.push_back(Event::Command(Command::Suspend));
    let login = two(&mut fake);
    assert_eq!(login.notice, None);
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)), "nobody gave it up");
    let run: Vec<_> = fake.states.iter().filter(|state| state.phase == Phase::Run).collect();
    let first = run.iter().position(|state| state.locked).expect("it was locked");
    let after = run.iter().skip(first).skip_while(|state| state.locked);
    assert!(run.iter().all(|state| state.parcel_id.is_some()));
    assert!(run.iter().any(|state| state.locked && state.failures == 1), "it is kept for the next screens");
    assert!(run.last().is_some_and(|state| state.failures == 0));
    assert!(
        after.clone().count() > 0 && after.clone().all(|state| !state.locked),
        "locked once, unlocked once"
    );
    assert!(!fake.last().locked && fake.last().parcel_id.is_none());
}
