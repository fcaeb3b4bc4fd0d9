//! The session sequence against a scripted machine: every phase that can fail does, and every way ends in a clean
//! login screen.

mod engine_lost;
mod fake;
mod giving_up;
mod log;
mod log_in_again;
mod memory_lost;
mod network;
mod random;
mod signs;

use fake::{Fake, Go, chosen, log_in, proof, resume, waiting, wrong};
use parcel::{
    id::{BootId, Version},
    tag::Miss,
    wire::{
        Code, WireError, daemon,
        hold::ClaimTag,
        http::LockInfo,
        memory::Room,
        session::{Command, Phase, State, WipeCheck},
        vmm::GuestState,
    },
};
use std::time::Duration;
use waystation_init::{
    session::{Kiosk, SESSION, Settings, name},
    system::{Changes, Event, Live, Lock, Network, Power, Role},
};

fn settings() -> Settings {
    Settings {
        name: "A".into(),
        passing_name: false,
        boot: BootId([1; 16]),
        image: "1.2.3".into(),
        power_off_on_failure: false,
        crashed: None,
        clock_wait: Duration::ZERO,
    }
}

fn cycle(fake: &mut Fake) -> Option<Power> {
    Kiosk::new(fake, settings(), Network::default()).cycle()
}

/// One session, then the login screen of the next, which the last published state shows.
fn two(fake: &mut Fake) -> State {
    fake.patience.push_back(Event::Command(Command::PowerOff));
    let mut kiosk = Kiosk::new(fake, settings(), Network::default());
    assert_eq!(kiosk.cycle(), None);
    assert_eq!(kiosk.cycle(), Some(Power::Off));
    let login = fake.states.iter().rfind(|state| state.phase == Phase::Login);
    login.expect("the kiosk came back to login").clone()
}

fn died(role: Role) -> Event {
    Event::Exited { role, how: "signal 9".into() }
}

#[test]
fn a_session_goes_through_all_phases_in_order_and_comes_back_to_login() {
    let mut fake = Fake::with_user();
    let login = two(&mut fake);
    let mut phases: Vec<Phase> = fake.states.iter().map(|state| state.phase).collect();
    phases.dedup();
    let session = SESSION.iter().map(|step| step.phase);
    let expected =
        [Phase::Boot].into_iter().chain(session).chain([Phase::Wipe, Phase::Boot, Phase::Login, Phase::Wipe]);
    assert_eq!(phases, expected.collect::<Vec<_>>());
    let report = login.report.expect("a report is shown");
    assert!(report.verified);
    assert_eq!(report.committed, Some(Version(3)));
    assert_eq!(login.notice, None);
    assert_eq!(login.parcel, None);
    let timeline: Vec<Phase> = login.timeline.iter().map(|record| record.phase).collect();
    let all: Vec<Phase> = SESSION.iter().map(|step| step.phase).chain([Phase::Wipe, Phase::Verify]).collect();
    assert_eq!(timeline, all);
    assert!(login.timeline.iter().all(|record| record.ok && record.kiosk == "A"));
    assert_eq!(fake.log.iter().filter(|line| line.starts_with("timeline {")).count(), all.len() + 3);
    assert_eq!(fake.log.iter().filter(|line| line.starts_with("wipe-report {")).count(), 2);
    assert_eq!(fake.live, None);
    assert!(fake.undos().len() == 1, "only the second login was walked back: {:?}", fake.undos());
}

/// Whatever phase fails: all undos of what was entered, last first, then wipe and verification, then a notice.
#[test]
fn a_users_keyboard_layout_lasts_for_the_session_and_no_longer() {
    let mut fake = Fake { version: 2, ..Fake::default() };
    let choose = |layout: &str| Event::Command(Command::Keyboard { layout: layout.into() });
    fake.on(Phase::Login, vec![choose("de"), Event::Command(log_in(1))]);
    fake.on(Phase::Choose, chosen());
    fake.on(Phase::Run, vec![choose("fr"), Event::Command(Command::Suspend)]);
    let login = two(&mut fake);
    assert_eq!(login.keyboard.map(|keyboard| keyboard.layout).as_deref(), Some("us"));
    let chosen: Vec<&str> = fake.layouts.iter().flatten().map(String::as_str).collect();
    assert_eq!(chosen, ["de", "fr"]);
    assert_eq!(fake.layouts.iter().rev().find(|layout| layout.is_none()), Some(&None), "{:?}", fake.layouts);
    let running = fake.states.iter().rfind(|state| state.phase == Phase::Run).unwrap();
    assert_eq!(running.keyboard.as_ref().map(|keyboard| keyboard.layout.as_str()), Some("fr"));
}

#[test]
fn every_phase_that_fails_is_walked_back() {
    for (what, phase, unlocks) in [
        ("inventory", Phase::Check, 0),
        ("lock", Phase::Lock, 0),
        ("open", Phase::Open, 1),
        ("start vmm", Phase::Restore, 1),
        ("unlock", Phase::Unlock, 2),
    ] {
        let mut fake = Fake::with_user();
        fake.goes(what, wrong(Code::NothingSaved));
        let login = two(&mut fake);
        let entered: Vec<&str> =
            SESSION.iter().map(|step| step.phase).take_while(|at| *at <= phase).map(name).collect();
        let undone: Vec<&str> = fake.undos().into_iter().take(entered.len()).collect();
        assert_eq!(undone, entered.into_iter().rev().collect::<Vec<_>>(), "{what}");
        let notice = login.notice.unwrap_or_else(|| panic!("{what}: no notice"));
        assert_eq!(notice.code, Code::NothingSaved, "{what}");
        assert!(!notice.message.contains("lost"), "{what}: {}", notice.message);
        assert_eq!(fake.asked("unlock"), unlocks, "{what}");
        let failed =
            login.timeline.iter().find(|record| record.phase == phase).expect("it is in the timeline");
        assert!(!failed.ok, "{what}");
        let wipe = fake.calls.iter().position(|call| call == "wipe").expect("wiped");
        assert_eq!(fake.calls[wipe + 1], "verify", "{what}");
        assert!(!fake.calls[..wipe].iter().any(|call| call == "verify"), "{what}");
    }
}

/// The owner broke the lock elsewhere: the work goes home by itself, and only then the kiosk is wiped.
#[test]
fn a_broken_lock_is_answered_by_a_rescue() {
    let mut fake = Fake::with_user();
    fake.goes("commit", wrong(Code::StaleEpoch));
    let login = two(&mut fake);
    let notice = login.notice.expect("the user is told");
    assert_eq!(notice.code, Code::Rescued);
    assert!(notice.message.contains("\u{201c}work, rescued from A\u{201d}"), "{notice}");
    assert!(!notice.message.contains("lost"), "{notice}");
    assert_eq!(fake.asked("rescue"), 1);
    let at = |what: &str| fake.calls.iter().rposition(|call| call == what).expect("it was done");
    assert!(at("commit") < at("rescue"));
    let wiped = fake.calls.iter().position(|call| call == "wipe").expect("wiped");
    assert!(at("rescue") < wiped);
    let shown = fake.states.iter().find(|state| state.phase == Phase::Rescue).expect("it is shown");
    assert!(shown.doing.contains("Sending your changes home as a computer of their own"), "{}", shown.doing);
    let record = login.timeline.iter().find(|record| record.phase == Phase::Rescue).expect("recorded");
    assert!(record.ok);
    assert_eq!(login.report.and_then(|report| report.committed), None);

    // Given up: what it costs is said.
    let mut fake = Fake::with_user();
    fake.goes("commit", wrong(Code::StaleEpoch));
    fake.goes("rescue", Go::Silent);
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!(notice.code, Code::GaveUp);
    assert!(notice.message.contains("What changed since version 2 is lost"), "{notice}");
}

/// `cached` asks a wrong server until it is the right one. If it ever answers with an error, even that ends no session: the user does.
#[test]
fn nothing_but_proof_ends_a_session_with_work() {
    for code in Code::ALL.iter().copied().chain([Code::from("what-is-this")]) {
        let mut fake = Fake::with_user();
        fake.goes("commit", wrong(code));
        // Once without the memory.
        let of_memory = matches!(code, Code::NothingSaved | Code::BadMemoryImage);
        if of_memory {
            fake.goes("commit", wrong(code));
        }
        fake.goes("rescue", wrong(Code::NotOpen));
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let login = two(&mut fake);
        assert_eq!(login.notice.map(|notice| notice.code), Some(Code::GaveUp), "{code}");
        assert_eq!(fake.asked("commit"), 1 + usize::from(of_memory), "{code}: trying again is the engine's");
        let (phase, waits_for) = match code {
            Code::StaleEpoch => (Phase::Rescue, Code::NotOpen),
            code => (Phase::Commit, code),
        };
        let shown = |state: &State| {
            state.phase == phase && state.waiting.as_ref().is_some_and(|waiting| waiting.code == waits_for)
        };
        assert!(fake.states.iter().any(shown), "{code}");
    }
}

#[test]
fn a_refusal_by_hardware_names_each_miss_and_takes_no_lock() {
    let miss = Miss { must: true, item: "memory".into(), needed: "512 MiB".into(), found: "256 MiB".into() };
    let error = WireError {
        misses: vec![miss.clone()],
        ..WireError::new(Code::Hardware, "This kiosk cannot run it.")
    };
    let mut fake = Fake::with_user();
    fake.goes("lock", Go::Wrong(error.clone()));
    assert_eq!(two(&mut fake).notice, Some(error));
    assert_eq!(fake.asked("unlock"), 0);
    assert_eq!(fake.asked("start vmm"), 0);
}

#[test]
fn a_lock_held_elsewhere_names_its_holder() {
    let holder = LockInfo {
        principal: "shanta@R".into(),
        kiosk: "B".into(),
        boot: BootId([2; 16]),
        claim: ClaimTag([2; 16]),
        epoch: parcel::id::Epoch(4),
        since: 1,
    };
    let error = WireError { holder: Some(holder.clone()), ..WireError::new(Code::Locked, "It is in use.") };
    let mut fake = Fake::with_user();
    fake.goes("lock", Go::Wrong(error));
    assert_eq!(two(&mut fake).notice.and_then(|notice| notice.holder), Some(holder));
}

#[test]
fn a_machine_never_saved_starts_from_its_beginning() {
    let mut fake = Fake::with_user();
    (fake.version, fake.dirty_chunks) = (0, 0);
    fake.goes("save", Go::Dies);
    let notice = two(&mut fake).notice.expect("the user is told");
    assert!(notice.message.contains("starts from its beginning"), "{notice}");
}

#[test]
fn the_engines_death_leaves_the_lock_to_be_taken_over() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    fake.on(Phase::Run, vec![died(Role::Cached)]);
    // Nobody types the password.
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let notice = two(&mut fake).notice.expect("the user is told");
    assert_eq!(notice.code, Code::GaveUp);
    assert!(
        notice.message.contains("since version 2 is lost") && notice.message.contains("break the lock"),
        "{notice}"
    );
    assert_eq!(fake.asked("unlock"), 0);
    assert_eq!(fake.asked("start cached"), 3, "the next login has a fresh one");
}

#[test]
fn the_screens_death_leaves_the_session_alive() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    fake.on(Phase::Run, vec![died(Role::KioskUi)]);
    fake.patience.push_back(Event::Command(Command::Suspend));
    // Suspend only comes once everything else is still, which is after the restart's delay.
    let login = {
        fake.clock = Duration::from_secs(100);
        let mut kiosk = Kiosk::new(&mut fake, settings(), Network::default());
        assert_eq!(kiosk.cycle(), None);
        fake.last().clone()
    };
    assert_eq!(login.notice, None);
    assert_eq!(fake.asked("start kiosk-ui"), 2);
    assert_eq!(fake.asked("commit"), 1);
}

#[test]
fn the_screens_death_before_a_parcel_is_open_logs_out() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Choose);
    fake.on(Phase::Choose, vec![died(Role::KioskUi)]);
    assert_eq!(two(&mut fake).notice.map(|notice| notice.code), Some(Code::ScreenDied));
}

#[test]
fn programs_that_die_before_login_come_back() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Login);
    fake.on(Phase::Login, vec![died(Role::Cached), died(Role::KioskUi)]);
    fake.patience.push_back(Event::Command(log_in(1)));
    assert_eq!(cycle(&mut fake), None);
    assert_eq!((fake.asked("start cached"), fake.asked("start kiosk-ui")), (2, 2));
    assert_eq!(fake.asked("commit"), 1);
}

#[test]
fn a_commit_waits_for_the_server_and_says_why() {
    let mut fake = Fake::with_user();
    fake.on(Phase::Commit, vec![Event::Status(waiting(Code::ServerUnreachable))]);
    let login = two(&mut fake);
    assert_eq!(login.notice, None);
    assert_eq!(fake.asked("commit"), 1, "trying again is the engine's");
    assert_eq!(fake.asked("save"), 1);
    let waits: Vec<&daemon::Waiting> =
        fake.states.iter().filter_map(|state| state.waiting.as_ref()).collect();
    assert!(!waits.is_empty() && waits.iter().all(|waiting| waiting.code == Code::ServerUnreachable));
    assert!(fake.states.iter().all(|state| state.waiting.is_none() || state.phase == Phase::Commit));
}

#[test]
fn a_guest_that_is_off_is_committed_even_if_its_vmm_dies_while_it_is_saved() {
    let mut fake = Fake::with_user();
    fake.on(Phase::Save, vec![Event::Guest(GuestState::PoweredOff), died(Role::Vmm)]);
    fake.goes("save", Go::Silent);
    let login = two(&mut fake);
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
    assert_eq!(fake.asked("commit"), 1);
}

#[test]
fn a_guest_that_fails_is_told_of_and_can_be_suspended() {
    let mut fake = Fake::with_user();
    let why = WireError::new(Code::VmmGuest, "the guest cannot go on here");
    fake.only(
        Phase::Run,
        vec![
            Event::Guest(GuestState::Failed),
            Event::GuestFailed(why.clone()),
            Event::Command(Command::Suspend),
        ],
    );
    let login = two(&mut fake);
    let told = fake.states.iter().find(|state| state.notice.is_some()).expect("the user is told");
    assert_eq!((told.phase, told.notice.as_ref(), told.console), (Phase::Run, Some(&why), true));
    assert_eq!((fake.asked("save"), login.notice), (1, None));
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
    // Whoever comes next can read init's log: it has the code and none of the words.
    let of_guest: Vec<_> = fake.log.iter().filter(|line| line.contains("the guest failed")).collect();
    assert_eq!(of_guest, [&format!("the guest failed [{}]", why.code)]);
    assert!(!fake.log.iter().any(|line| line.contains("cannot go on here")), "{:?}", fake.log);
}

#[test]
fn a_failed_save_lets_the_machine_go_on() {
    let mut fake = Fake::with_user();
    fake.on(Phase::Run, vec![Event::Command(Command::Suspend)]);
    fake.goes("save", wrong(Code::VmmSystem));
    let login = two(&mut fake);
    assert_eq!(
        fake.calls
            .iter()
            .filter(|call| ["save", "resume", "commit"].contains(&call.as_str()))
            .collect::<Vec<_>>(),
        ["save", "resume", "save", "commit"]
    );
    let told = fake.states.iter().find(|state| state.notice.is_some()).expect("the user is told");
    assert_eq!((told.phase, told.notice.as_ref().map(|n| n.code)), (Phase::Run, Some(Code::VmmSystem)));
    assert_eq!(login.notice, None);
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
}

#[test]
fn a_guest_that_powers_off_is_a_suspend_without_memory() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    fake.on(Phase::Run, vec![Event::Guest(GuestState::PoweredOff)]);
    let login = two(&mut fake);
    assert_eq!((fake.asked("save"), fake.asked("commit"), fake.asked("end vmm")), (0, 1, 1));
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
}

#[test]
fn a_guest_whose_clock_nothing_sets_is_shown_until_it_is_set_or_gone() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    let suspend = Event::Command(Command::Suspend);
    fake.on(
        Phase::Run,
        vec![Event::ClockBehind(true), Event::ClockBehind(false), Event::ClockBehind(true), suspend],
    );
    two(&mut fake);
    let mut shown: Vec<bool> = fake.states.iter().map(|state| state.clock_behind).collect();
    shown.dedup();
    assert_eq!(shown, [false, true, false, true, false]);
    let after = fake.states.iter().skip_while(|state| state.phase != Phase::Wipe);
    assert!(
        after.clone().count() > 0 && after.clone().all(|state| !state.clock_behind),
        "not of the next session"
    );
    assert!(fake.states.iter().all(|state| state.image == "1.2.3"));
}

#[test]
fn the_lock_is_asked_for_what_follows() {
    for cold_boot in [false, true] {
        let mut fake = Fake::with_user();
        fake.script.remove(&Phase::Choose);
        let Command::Resume { parcel, name, break_lock, .. } = resume() else { unreachable!() };
        let resume = Command::Resume { parcel, name, break_lock, cold_boot };
        fake.on(Phase::Choose, [Command::Opened(proof()), resume].map(Event::Command).into());
        two(&mut fake);
        assert_eq!(fake.asked(if cold_boot { "lock to boot" } else { "lock" }), 1);
        assert_eq!(fake.asked(if cold_boot { "lock" } else { "lock to boot" }), 0);
    }
}

#[test]
fn logging_out_leaves_no_notice() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Choose);
    fake.on(Phase::Choose, vec![Event::Command(Command::LogOut)]);
    assert_eq!(two(&mut fake).notice, None);
    assert_eq!(fake.asked("quit"), 2);
}

#[test]
fn power_is_for_the_login_screen_only() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    fake.on(
        Phase::Run,
        vec![
            Event::Command(Command::PowerOff),
            Event::Command(Command::Reboot),
            Event::Command(Command::Suspend),
        ],
    );
    assert_eq!(cycle(&mut fake), None);
    assert_eq!(fake.asked("commit"), 1);
    for (command, power) in [(Command::PowerOff, Power::Off), (Command::Reboot, Power::Reboot)] {
        let mut fake = Fake::default();
        fake.on(Phase::Login, vec![Event::Command(command)]);
        assert_eq!(cycle(&mut fake), Some(power));
        assert_eq!(fake.calls.iter().rfind(|call| *call == "wipe").map(String::as_str), Some("wipe"));
    }
}

#[test]
fn nobody_is_asked_to_log_in_before_the_engine_answers() {
    let mut fake = Fake::with_user();
    assert_eq!(cycle(&mut fake), None);
    let mut slow = Fake::with_user();
    slow.goes("start cached", Go::Silent);
    assert_eq!(cycle(&mut slow), None);
    let first = |fake: &Fake| fake.states.iter().position(|state| state.phase == Phase::Login);
    assert!(first(&fake) > Some(0) && first(&slow) > Some(0));
    assert!(slow.clock >= fake.clock + Duration::from_secs(5), "{:?}", slow.clock);
    assert_eq!(slow.asked("commit"), 1);
}

#[test]
fn a_cache_that_fails_is_shown_and_tried_again() {
    let mut fake = Fake::with_user();
    let login =
        fake.script.remove(&Phase::Login).and_then(|mut events| events.pop_front()).unwrap_or_default();
    fake.goes("prepare", wrong(Code::NoCache));
    fake.goes("prepare", wrong(Code::NoCache));
    fake.patience.extend(login);
    assert_eq!(cycle(&mut fake), None);
    assert_eq!(fake.asked("prepare"), 3);
    assert!(
        fake.states
            .iter()
            .any(|state| state.notice.as_ref().is_some_and(|notice| notice.code == Code::NoCache))
    );
    assert_eq!(fake.asked("commit"), 1);
}

/// Whoever lost something reads that before the kiosk's own trouble.
#[test]
fn trouble_of_the_kiosk_does_not_hide_what_a_user_lost() {
    let mut fake = Fake::with_user();
    for how in [Go::Well, wrong(Code::NoCache), wrong(Code::NoCache)] {
        fake.goes("prepare", how);
    }
    fake.goes("commit", Go::Silent);
    fake.patience.push_back(Event::Command(Command::GiveUp));
    let login = two(&mut fake);
    assert_eq!(login.notice.map(|notice| notice.code), Some(Code::GaveUp));
    assert_eq!(fake.asked("prepare"), 4);
}

/// And a kiosk that is ready after all says no more that it is not.
#[test]
fn trouble_that_is_over_is_not_shown_any_more() {
    let mut fake = Fake::default();
    fake.goes("prepare", wrong(Code::NoCache));
    fake.patience.push_back(Event::Command(Command::PowerOff));
    assert_eq!(cycle(&mut fake), Some(Power::Off));
    let shown = |state: &State| state.notice.as_ref().map(|notice| notice.code);
    assert!(fake.states.iter().any(|state| shown(state) == Some(Code::NoCache)));
    assert_eq!(fake.last().notice, None);
}

#[test]
fn a_console_that_changes_its_size_all_the_time_is_told_one_at_a_time() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    let size = |cols| Event::Command(Command::ConsoleSize { cols, rows: 25 });
    fake.on(Phase::Run, (80..180).map(size).chain([Event::Command(Command::Suspend)]).collect());
    fake.goes("console size", Go::Silent);
    assert_eq!(cycle(&mut fake), None);
    assert_eq!(fake.asked("console size"), 1);
    assert_eq!(fake.asked("commit"), 1);
}

#[test]
fn the_screens_are_told_of_a_name_that_does_not_last() {
    for passing_name in [false, true] {
        let mut fake = Fake::default();
        Kiosk::new(&mut fake, Settings { passing_name, ..settings() }, Network::default()).boot();
        assert!(fake.states.iter().all(|state| state.health.passing_name == passing_name));
        assert!(!fake.states.is_empty());
    }
}

#[test]
fn the_screens_are_told_of_what_is_plugged_in_and_not_used() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    let refused = Event::Refused(vec!["a card".into()]);
    fake.on(Phase::Run, vec![refused, Event::Command(Command::Suspend)]);
    let login = two(&mut fake);
    assert_eq!(login.health.refused, ["a card"], "it outlives the session");
}

#[test]
fn the_engine_hears_what_memory_there_is_and_the_screen_what_is_left_of_it() {
    let mut fake = Fake::with_user();
    let told = |room| Event::Status(daemon::Status { room, ..daemon::Status::default() });
    let rooms = [Room::Little, Room::None, Room::Little];
    let events = rooms.into_iter().map(told).chain([Event::Command(Command::Suspend)]);
    fake.only(Phase::Run, events.collect());
    let login = two(&mut fake);
    assert_eq!(login.health.room, Room::Enough, "it does not outlive the session");
    assert_eq!(fake.opened, Some(1024));
    let mut shown: Vec<_> = fake.states.iter().map(|state| state.health.room).collect();
    shown.dedup();
    assert_eq!(shown, [Room::Enough, Room::Little, Room::None, Room::Little, Room::Enough]);
}

#[test]
fn a_manager_after_a_crash_wipes_first_and_tells_what_was_lost() {
    let live = Live { version: Version(4), changes: Changes::Unsaved, lock: Lock::Held };
    let mut fake = Fake { live: Some(live.clone()), ..Fake::default() };
    let crashed = Settings { crashed: Some("signal 9".into()), ..settings() };
    let mut kiosk = Kiosk::new(&mut fake, crashed, Network::default());
    assert_eq!(kiosk.boot(), None);
    assert_eq!(&fake.calls[..2], ["wipe", "verify"]);
    assert_eq!(fake.live, None);
    let mut fake = Fake { live: Some(live), ..Fake::default() };
    fake.patience.push_back(Event::Command(Command::PowerOff));
    let crashed = Settings { crashed: Some("signal 9".into()), ..settings() };
    assert_eq!(Kiosk::new(&mut fake, crashed, Network::default()).run(), Power::Off);
    let told =
        fake.states.iter().rfind(|state| state.phase == Phase::Login).and_then(|state| state.notice.clone());
    let told = told.expect("the user is told");
    assert_eq!(told.code, Code::KioskRestarted);
    assert!(
        told.message.contains("since version 4 is lost") && told.message.contains("break the lock"),
        "{told}"
    );
}

#[test]
fn a_manager_after_a_crash_tells_only_what_is_so() {
    let live = |version, changes| Live { version: Version(version), changes, lock: Lock::None };
    for (live, words) in [
        (live(0, Changes::None), "during your session."),
        (live(4, Changes::None), "Version 4 of your computer is on the server, whole."),
        (live(4, Changes::InDoubt), "resumes as you left it, or as in version 4."),
    ] {
        let mut fake = Fake { live: Some(live.clone()), ..Fake::default() };
        let crashed = Settings { crashed: Some("signal 9".into()), ..settings() };
        assert_eq!(Kiosk::new(&mut fake, crashed, Network::default()).boot(), None);
        let notice = fake.last().notice.clone().expect("the user is told");
        assert!(notice.message.ends_with(words), "{notice}");
    }
}

/// In every phase of a session, what a crashed manager would leave behind is what is so.
#[test]
fn what_is_at_stake_is_kept_from_login_to_wipe() {
    let mut fake = Fake::with_user();
    assert_eq!(cycle(&mut fake), None);
    let kept = |phase| fake.kept.iter().rfind(|(of, _)| *of == phase).map(|(_, live)| live.clone());
    let stake = |phase| kept(phase).flatten().map(|live| (live.version.0, live.changes, live.lock));
    assert_eq!(stake(Phase::Login), Some((0, Changes::None, Lock::None)));
    assert_eq!(stake(Phase::Lock), Some((2, Changes::None, Lock::Held)));
    assert_eq!(stake(Phase::Run), Some((2, Changes::Unsaved, Lock::Held)));
    assert_eq!(stake(Phase::Commit), Some((3, Changes::None, Lock::Held)));
    assert_eq!(stake(Phase::Unlock), Some((3, Changes::None, Lock::None)));
    assert_eq!(kept(Phase::Wipe), Some(None));
    let sending = fake.kept.iter().find(|(of, _)| *of == Phase::Commit).and_then(|(_, live)| live.clone());
    assert_eq!(sending.map(|live| live.changes), Some(Changes::InDoubt));
}

#[test]
fn the_first_boot_wipes_before_anyone_can_log_in() {
    let mut fake = Fake::default();
    fake.patience.push_back(Event::Command(Command::PowerOff));
    assert_eq!(Kiosk::new(&mut fake, settings(), Network::default()).run(), Power::Off);
    let wipe = fake.calls.iter().position(|call| call == "wipe");
    let start = fake.calls.iter().position(|call| call.starts_with("start"));
    assert!(wipe < start, "{:?}", fake.calls);
    assert!(fake.log.iter().any(|line| line.starts_with("timeline {") && line.contains("\"boot\"")));
}

#[test]
fn a_wipe_that_cannot_be_verified_follows_its_policy() {
    let failed = || vec![WipeCheck { what: "no process is left".into(), ok: false, found: "vmm (7)".into() }];
    let mut fake = Fake::with_user();
    fake.findings.push_back(failed());
    let login = two(&mut fake);
    assert!(login.report.is_some_and(|report| !report.verified));
    assert!(fake.log.iter().any(|line| line.contains("vmm (7)")));
    let mut fake = Fake::with_user();
    fake.findings.push_back(failed());
    let strict = Settings { power_off_on_failure: true, ..settings() };
    assert_eq!(Kiosk::new(&mut fake, strict, Network::default()).cycle(), Some(Power::Off));
}

#[test]
fn notices_and_reports_stay_until_dismissed_or_the_next_login() {
    let mut fake = Fake::with_user();
    fake.goes("open", wrong(Code::NoSuchVersion));
    fake.on(Phase::Login, vec![Event::Command(Command::Dismiss), Event::Command(Command::PowerOff)]);
    let mut kiosk = Kiosk::new(&mut fake, settings(), Network::default());
    assert_eq!((kiosk.cycle(), kiosk.cycle()), (None, Some(Power::Off)));
    let shown =
        fake.states.iter().filter(|state| state.phase == Phase::Login && state.notice.is_some()).count();
    let last = fake.states.iter().rfind(|state| state.phase == Phase::Login).expect("login");
    assert!(shown > 0);
    assert!(last.notice.is_none() && last.report.is_none());
}

#[test]
fn the_screens_size_reaches_the_guest_before_and_after_it_runs() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Choose);
    fake.on(
        Phase::Choose,
        [Event::Command(Command::ConsoleSize { cols: 80, rows: 25 })].into_iter().chain(chosen()).collect(),
    );
    fake.script.remove(&Phase::Run);
    fake.on(
        Phase::Run,
        vec![Event::Command(Command::ConsoleSize { cols: 100, rows: 30 }), Event::Command(Command::Suspend)],
    );
    assert_eq!(cycle(&mut fake), None);
    assert_eq!(fake.asked("console size"), 2);
}

#[test]
fn bytes_are_counted_by_phase() {
    let mut fake = Fake::with_user();
    assert_eq!(cycle(&mut fake), None);
    let timeline = &fake.last().timeline;
    let sum: u64 = timeline.iter().map(|record| record.bytes_in).sum();
    // The scripted engine's counters are the number of calls before it was asked.
    let last = fake.calls.iter().rposition(|call| call == "status").expect("it was asked");
    assert_eq!(sum, last as u64);
    assert!(timeline.iter().filter(|record| record.phase >= Phase::Wipe).all(|record| record.bytes_in == 0));
}

#[test]
fn the_network_is_shown_in_any_phase() {
    let mut fake = Fake::with_user();
    fake.script.remove(&Phase::Run);
    let gone = Network { up: None, detail: "No network: no cable is plugged in (eth0).".into() };
    fake.on(Phase::Run, vec![Event::Network(gone), Event::Command(Command::Suspend)]);
    assert_eq!(cycle(&mut fake), None);
    assert!(
        fake.states
            .iter()
            .any(|state| state.phase == Phase::Run && state.network_detail.contains("no cable"))
    );
}
