//! The machine stops and its memory cannot be saved: its disk is committed all the same, unless only the user gives it up.

use crate::{
    died,
    fake::{Fake, Go, wrong},
    two,
};
use parcel::{
    id::Version,
    wire::{
        Code,
        session::{Command, Phase, State},
        vmm::GuestState,
    },
};
use waystation_init::system::{Event, Role};

const TOLD: &str = " Your computer's disk is saved as it was then, as after a power cut. What was open and not saved is lost. \
                    It starts from its disk the next time.";

/// The disk was committed, once, without memory, and the user reads why.
#[track_caller]
fn disk_is_home(fake: &Fake, login: &State, code: Code) {
    let notice = login.notice.as_ref().expect("the user is told");
    assert_eq!(notice.code, code);
    assert!(notice.message.ends_with(TOLD), "{notice}");
    assert_eq!(login.report.as_ref().and_then(|report| report.committed), Some(Version(3)));
    let at = |what: &str| fake.calls.iter().position(|call| call == what).expect("it was done");
    assert!(at("memory lost") < at("commit") && at("commit") < at("unlock"));
    assert!(at("stop vmm") < at("memory lost"), "nothing writes to the disk any more");
    assert_eq!((fake.asked("memory lost"), fake.asked("commit")), (1, 1));
}

#[test]
fn a_vmm_that_dies_leaves_its_disk() {
    for (phase, first) in
        [(Phase::Run, None), (Phase::Run, Some(Event::Guest(GuestState::Failed))), (Phase::Save, None)]
    {
        let mut fake = Fake::with_user();
        fake.goes("save", Go::Silent);
        match phase {
            Phase::Run => fake.only(phase, first.into_iter().chain([died(Role::Vmm)]).collect()),
            _ => fake.on(phase, vec![died(Role::Vmm)]),
        }
        let login = two(&mut fake);
        disk_is_home(&fake, &login, Code::VmmDied);
    }
}

/// Also when its disk did not change.
#[test]
fn a_vmm_that_dies_after_it_handed_the_machine_over_costs_nothing() {
    for dirty_chunks in [0, 5] {
        let mut fake = Fake { hands_over: [true].into(), dirty_chunks, ..Fake::with_user() };
        fake.goes("save", Go::Dies);
        let login = two(&mut fake);
        assert_eq!(login.report.as_ref().and_then(|report| report.committed), Some(Version(3)));
        assert!(login.notice.is_none(), "{:?}", login.notice);
    }
}

/// Its memory has changed since the first save.
#[test]
fn only_what_was_handed_over_after_the_machine_last_went_on_is_kept() {
    for (hands_over, then) in [
        ([true, false], Phase::Save),
        ([true, false], Phase::Run),
        ([false, true], Phase::Save),
        ([true, true], Phase::Save),
    ] {
        let mut fake = Fake { hands_over: hands_over.into(), ..Fake::with_user() };
        fake.goes("save", wrong(Code::VmmSystem));
        fake.goes("save", Go::Dies);
        let next = if then == Phase::Run { died(Role::Vmm) } else { Event::Command(Command::Suspend) };
        fake.patience.push_back(next);
        let login = two(&mut fake);
        if hands_over[1] {
            assert_eq!(login.report.as_ref().and_then(|report| report.committed), Some(Version(3)));
            assert!(login.notice.is_none(), "{:?}", login.notice);
        } else {
            disk_is_home(&fake, &login, Code::VmmDied);
        }
    }
}

#[test]
fn a_machine_whose_save_cannot_be_forgotten_does_not_go_on() {
    let mut fake = Fake { hands_over: [true].into(), ..Fake::with_user() };
    fake.goes("save", wrong(Code::VmmSystem));
    fake.goes("go on", wrong(Code::InternalError));
    let login = two(&mut fake);
    assert_eq!(fake.asked("resume"), 0, "it would be saved as it was before");
    assert_eq!(login.report.as_ref().and_then(|report| report.committed), Some(Version(3)));
}

#[test]
fn a_guest_that_cannot_be_read_leaves_its_disk() {
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![Event::Guest(GuestState::Failed), Event::Command(Command::Suspend)]);
    fake.goes("save", wrong(Code::VmmUnreadable));
    let login = two(&mut fake);
    disk_is_home(&fake, &login, Code::VmmUnreadable);
    assert_eq!(fake.asked("resume"), 0);
}

#[test]
fn a_machine_that_can_neither_be_saved_nor_go_on_leaves_its_disk() {
    for how in [Go::Dies, wrong(Code::VmmSystem)] {
        let mut fake = Fake::with_user();
        fake.goes("save", wrong(Code::VmmSystem));
        fake.goes("resume", how);
        let login = two(&mut fake);
        disk_is_home(&fake, &login, Code::VmmSystem);
    }
}

#[test]
fn a_disk_that_did_not_change_makes_no_version_without_memory() {
    let mut fake = Fake { dirty_chunks: 0, ..Fake::with_user() };
    fake.only(Phase::Run, vec![died(Role::Vmm)]);
    let login = two(&mut fake);
    assert_eq!((fake.asked("commit"), fake.asked("unlock")), (0, 1));
    let notice = login.notice.expect("the user is told");
    assert_eq!(notice.code, Code::VmmDied);
    assert!(
        notice.message.contains("signal 9") && notice.message.contains("since version 2 is lost"),
        "{notice}"
    );
    assert!(!notice.message.contains("lock"), "{notice}");
}

/// A machine that does not come up has changed nothing, and keeps its memory.
#[test]
fn a_vmm_that_dies_while_the_machine_comes_up_costs_no_memory() {
    let mut fake = Fake::with_user();
    fake.goes("start vmm", Go::Dies);
    assert_eq!(two(&mut fake).notice.map(|notice| notice.code), Some(Code::VmmDied));
    assert_eq!((fake.asked("memory lost"), fake.asked("commit")), (0, 0));
}

#[test]
fn what_the_engine_says_does_not_give_the_disk_up() {
    for code in [Code::InternalError, Code::StepUnderWay, Code::from("what-is-this")] {
        let mut fake = Fake::with_user();
        fake.only(Phase::Run, vec![died(Role::Vmm)]);
        fake.goes("memory lost", wrong(code));
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let login = two(&mut fake);
        assert_eq!(login.notice.map(|notice| notice.code), Some(Code::GaveUp), "{code}");
        let shown = |state: &State| state.waiting.as_ref().is_some_and(|waiting| waiting.code == code);
        assert!(fake.states.iter().any(shown), "{code}");
    }
}

/// The guest powered off and `cached` did not hear of it, or the saved memory does not fit together.
#[test]
fn a_commit_that_has_no_use_for_the_memory_leaves_the_disk() {
    for code in [Code::NothingSaved, Code::BadMemoryImage] {
        let mut fake = Fake::with_user();
        fake.goes("commit", wrong(code));
        let login = two(&mut fake);
        assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)), "{code}");
        let notice = login.notice.expect("the user is told");
        assert!(notice.code == code && notice.message.ends_with(TOLD), "{notice}");
        assert_eq!((fake.asked("memory lost"), fake.asked("commit")), (1, 2));
    }
}

#[test]
fn a_rescue_that_fails_for_good_waits_for_its_owner() {
    for code in Code::ALL.iter().filter(|code| **code != Code::CachedDied) {
        let mut fake = Fake::with_user();
        fake.goes("commit", wrong(Code::StaleEpoch));
        fake.goes("commit", wrong(Code::StaleEpoch));
        fake.goes("rescue", wrong(*code));
        fake.goes("rescue", wrong(*code));
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let login = two(&mut fake);
        assert_eq!(login.notice.map(|notice| notice.code), Some(Code::GaveUp), "{code}");
        let shown = |state: &State| state.waiting.as_ref().is_some_and(|waiting| waiting.code == *code);
        assert!(fake.states.iter().any(shown), "{code}");
    }
}

#[test]
fn a_broken_lock_sends_the_disk_home_as_a_computer_of_its_own() {
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![died(Role::Vmm)]);
    fake.goes("commit", wrong(Code::StaleEpoch));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!((notice.code, fake.asked("rescue")), (Code::Rescued, 1));
    assert!(notice.message.ends_with(TOLD) && notice.message.contains("work, rescued"), "{notice}");
}

#[test]
fn a_lock_that_stays_does_not_hide_that_memory_is_lost() {
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![died(Role::Vmm)]);
    fake.goes("unlock", wrong(Code::NotOwner));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert!(notice.message.ends_with(TOLD), "{notice}");
}
