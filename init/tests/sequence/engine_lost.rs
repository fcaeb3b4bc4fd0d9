//! `cached` dies in a session: its successor finds the changes once the user has typed the password, and nothing is lost but
//! memory.

use crate::{
    died,
    fake::{Fake, Go, Learned, log_in, proof, resume, wrong},
    two,
};
use parcel::{
    id::{ParcelId, Version},
    secret::ParcelKey,
    slot::{Proof, RecoveryKey, Slots},
    wire::{
        Code,
        session::{Command, Phase, State},
    },
};
use std::time::Duration;
use waystation_init::system::{Event, Role};

fn logs_in(fake: &mut Fake) {
    fake.patience.push_back(Event::Command(log_in(2)));
}

/// A user whose engine dies in this phase.
fn loses(phase: Phase) -> Fake {
    let mut fake = Fake::with_user();
    match phase {
        Phase::Run => fake.only(phase, vec![died(Role::Cached)]),
        _ => fake.on(phase, vec![died(Role::Cached)]),
    }
    fake
}

fn shows(fake: &Fake, code: Code) -> bool {
    let waits = |state: &State| state.waiting.as_ref().is_some_and(|waiting| waiting.code == code);
    fake.states.iter().any(waits)
}

#[track_caller]
fn disk_is_home(fake: &Fake, login: &State) {
    let notice = login.notice.as_ref().expect("the user is told");
    assert_eq!(notice.code, Code::CachedDied);
    assert!(notice.message.contains("disk is saved as it was then, as after a power cut"), "{notice}");
    assert_eq!(login.report.as_ref().and_then(|report| report.committed), Some(Version(3)));
    assert!(shows(fake, Code::EngineRestarted));
    let at = |what: &str| fake.calls.iter().rposition(|call| call == what).expect("it was done");
    assert!(at("recover") < at("commit") && at("commit") < at("unlock"));
    let ended = fake.calls.iter().position(|call| call == "stop vmm").expect("it was ended");
    assert!(ended < at("recover"), "no machine runs on a disk that it does not have");
}

#[test]
fn a_dead_engine_costs_memory_only() {
    for phase in [Phase::Run, Phase::Save, Phase::Commit] {
        let mut fake = loses(phase);
        match phase {
            Phase::Save => fake.goes("save", Go::Silent),
            Phase::Commit => fake.goes("commit", Go::Silent),
            _ => {}
        }
        logs_in(&mut fake);
        let login = two(&mut fake);
        disk_is_home(&fake, &login);
        assert_eq!(fake.asked("recover"), 1);
    }
}

/// What shows that a password that was changed in the session opens this key.
fn changed(key: [u8; 32]) -> Proof {
    let (key, mut slots) = (ParcelKey::from_bytes(key), Slots::default());
    slots.set_recovery(&RecoveryKey::from_bytes([3; 20]), &key, &ParcelId([7; 16]));
    Proof::new(slots, &key)
}

/// What proves a password is kept from the choice to the wipe, so that work can be given up without the engine and the server,
/// also by screens that have started again.
#[test]
fn the_user_can_give_up_with_nothing_but_the_screens() {
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![died(Role::KioskUi), died(Role::Cached)]);
    fake.goes("unlock", wrong(Code::ServerUnreachable));
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let login = two(&mut fake);
    assert_eq!(login.notice.map(|notice| notice.code), Some(Code::GaveUp));
    let kept = |state: &State| state.proof.is_some();
    let waits = fake.states.iter().position(|state| state.phase == Phase::Save).expect("it waits");
    assert!(fake.states[waits..].iter().filter(|state| state.phase == Phase::Save).all(kept));
    assert_eq!(fake.states.iter().rfind(|state| kept(state)).expect("it was kept").proof, Some(proof()));
    let left = |fake: &Fake| {
        let wipe = fake.states.iter().position(|state| state.phase == Phase::Wipe).expect("it ends");
        fake.states[wipe..].iter().any(kept)
    };
    assert!(!left(&fake), "nothing of it is left for the next user");
    // A password that was changed meanwhile proves itself by a new one, but not with another key.
    let other = changed([9; 32]);
    let mut fake = loses(Phase::Run);
    fake.patience.push_back(Event::Command(Command::Opened(changed([8; 32]))));
    fake.patience.push_back(Event::Command(Command::Opened(other.clone())));
    fake.patience.push_back(Event::Command(Command::Opened(changed([7; 32]))));
    logs_in(&mut fake);
    two(&mut fake);
    assert_eq!(fake.states.iter().rfind(|state| kept(state)).expect("it was kept").proof, Some(other));
    assert_eq!(fake.log.iter().filter(|line| line.contains("another key than the session")).count(), 2);
    assert!(!left(&fake), "nor after work that was saved");
    // Nobody gets into a session that nobody could give up, and nothing is kept of a choice that was left.
    let mut fake = Fake::with_user();
    let events = [resume(), Command::Opened(proof()), Command::LogOut].map(Event::Command);
    fake.only(Phase::Choose, events.into());
    assert!(two(&mut fake).proof.is_none());
    assert_eq!(fake.asked("lock"), 0);
}

/// However it becomes known: the answer that is missing may come before the word that the program has ended.
#[test]
fn an_engine_that_hangs_up_is_a_dead_one() {
    for how in [Go::Dies, Go::HangsUp] {
        let mut fake = Fake::with_user();
        fake.goes("commit", how);
        logs_in(&mut fake);
        let login = two(&mut fake);
        disk_is_home(&fake, &login);
    }
}

#[test]
fn what_the_dead_engine_had_sent_whole_is_told_as_saved() {
    let mut fake = Fake { heard: true, ..loses(Phase::Commit) };
    fake.goes("commit", Go::Silent);
    logs_in(&mut fake);
    let login = two(&mut fake);
    assert!(login.notice.is_none(), "{:?}", login.notice);
    assert_eq!(login.report.as_ref().and_then(|report| report.committed), Some(Version(3)));
    // Nor does a later fault speak of lost memory.
    let mut fake = Fake { heard: true, ..loses(Phase::Commit) };
    fake.goes("commit", Go::Silent);
    fake.goes("unlock", wrong(Code::NotOwner));
    logs_in(&mut fake);
    let notice = two(&mut fake).notice.expect("the lock stays");
    assert!(!notice.message.contains("is lost"), "{notice}");
    assert!(notice.message.contains("Version 3 of your computer is on the server, whole"), "{notice}");
}

/// What the server made of a commit is not known here, whatever is sent after it.
#[test]
fn a_user_who_gives_up_after_a_kill_in_the_commit_is_told_that_it_may_be_saved() {
    let lost = Some("What changed since version 2 is lost");
    let unknown = Some("may not have reached the server");
    for (committed, word) in [(Some(true), None), (None, unknown), (Some(false), lost)] {
        let learned = Some(Learned { held: false, committed });
        let mut fake = Fake { learned, ..loses(Phase::Commit) };
        (0..2).for_each(|_| fake.goes("commit", Go::Silent));
        logs_in(&mut fake);
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let told = two(&mut fake).notice.map(|notice| notice.message);
        assert_eq!((fake.asked("commit"), fake.asked("learn")), (2, 1));
        assert_eq!(told.is_some(), word.is_some(), "{told:?}");
        assert!(word.is_none_or(|word| told.is_some_and(|told| told.contains(word))));
    }
}

#[test]
fn an_engine_that_dies_while_work_is_rescued_is_started_again() {
    let mut fake = Fake::with_user();
    fake.goes("commit", wrong(Code::StaleEpoch));
    fake.goes("rescue", Go::Dies);
    fake.goes("commit", wrong(Code::StaleEpoch));
    logs_in(&mut fake);
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!((notice.code, fake.asked("rescue"), fake.asked("recover")), (Code::Rescued, 2, 1));
}

#[test]
fn it_may_die_again_and_the_password_may_come_too_early() {
    let mut fake = loses(Phase::Run);
    fake.goes("recover", wrong(Code::NoKey));
    fake.goes("recover", Go::Dies);
    (0..3).for_each(|_| logs_in(&mut fake));
    let login = two(&mut fake);
    disk_is_home(&fake, &login);
    assert_eq!(fake.asked("recover"), 3);
}

#[test]
fn nothing_but_the_user_gives_the_changes_up() {
    for code in [Code::NoChanges, Code::ChangesDamaged, Code::CacheMedium, Code::from("what")] {
        let mut fake = loses(Phase::Run);
        fake.goes("recover", wrong(code));
        fake.follows.insert("recover", Event::Command(Command::GiveUp));
        logs_in(&mut fake);
        let notice = two(&mut fake).notice.expect("the user is told");
        assert_eq!(notice.code, Code::GaveUp, "{code}");
        assert!(notice.message.contains("since version 2 is lost"), "{notice}");
        assert!(shows(&fake, code), "{code}");
        assert_eq!(fake.asked("commit"), 0);
    }
}

/// The password is typed once: the engine keeps the key.
#[test]
fn what_fails_while_the_changes_are_looked_for_is_tried_again() {
    // The kiosk was switched on long ago.
    let mut fake = Fake { clock: Duration::from_secs(1000), ..loses(Phase::Run) };
    let codes = [Code::CacheMedium, Code::InternalError, Code::ChangesDamaged, Code::NoChanges];
    codes.into_iter().for_each(|code| fake.goes("recover", wrong(code)));
    logs_in(&mut fake);
    let began = fake.clock;
    let login = two(&mut fake);
    disk_is_home(&fake, &login);
    assert_eq!(fake.asked("recover"), 5);
    assert!(codes.into_iter().all(|code| shows(&fake, code)));
    assert!(fake.clock - began > Duration::from_secs(3), "not at once, and ever later");
}

#[test]
fn a_key_that_does_not_fit_is_asked_for_again() {
    let mut fake = loses(Phase::Run);
    fake.goes("recover", wrong(Code::WrongKey));
    (0..2).for_each(|_| logs_in(&mut fake));
    let login = two(&mut fake);
    disk_is_home(&fake, &login);
    assert_eq!(fake.asked("recover"), 2);
    let says = |state: &State| state.waiting.as_ref().is_some_and(|why| why.reason.contains("[wrong-key]"));
    assert!(fake.states.iter().any(says));
}

#[test]
fn a_locked_screen_does_not_keep_the_password_away() {
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![Event::Command(Command::Lock), died(Role::Cached)]);
    logs_in(&mut fake);
    let login = two(&mut fake);
    disk_is_home(&fake, &login);
    let asks =
        |state: &&State| state.waiting.as_ref().is_some_and(|waiting| waiting.code == Code::EngineRestarted);
    assert!(fake.states.iter().filter(asks).all(|state| !state.locked));
}

#[test]
fn a_disk_that_did_not_change_makes_no_version_without_memory() {
    let mut fake = Fake { dirty_chunks: 0, ..loses(Phase::Run) };
    logs_in(&mut fake);
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!((notice.code, fake.asked("commit"), fake.asked("unlock")), (Code::CachedDied, 0, 1));
    assert!(notice.message.contains("since version 2 is lost"), "{notice}");
}

/// Before the machine runs nothing is at stake, and after the commit neither.
#[test]
fn an_engine_that_dies_with_nothing_at_stake_ends_the_session() {
    for phase in [Phase::Open, Phase::Restore, Phase::Unlock] {
        let mut fake = loses(phase);
        let login = two(&mut fake);
        assert_eq!(login.notice.map(|notice| notice.code), Some(Code::CachedDied), "{phase:?}");
        assert_eq!(fake.asked("recover"), 0);
    }
}
