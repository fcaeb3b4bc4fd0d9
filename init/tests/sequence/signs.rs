//! The power button, a closed lid and a low battery end a session in good order.

use crate::{
    cycle, died,
    fake::{Fake, Go, log_in, wrong},
    two,
};
use parcel::{
    id::Version,
    wire::{
        Code,
        session::{Command, Phase},
    },
};
use waystation_init::system::{Event, Power, Role, Sign};

const SIGNS: [Sign; 3] = [Sign::Button, Sign::Lid, Sign::Battery(7)];

/// A user whose session reaches `phase`, where this happens instead of what the user would do.
fn at(phase: Phase, sign: Sign) -> Fake {
    let mut fake = Fake::with_user();
    fake.only(phase, vec![Event::Sign(sign)]);
    fake
}

#[test]
fn a_running_session_is_suspended_and_locked_or_not() {
    for sign in SIGNS {
        for locked in [false, true] {
            let mut fake = Fake::with_user();
            let mut events = vec![Event::Sign(sign)];
            if locked {
                events.insert(0, Event::Command(Command::Lock));
            }
            fake.only(Phase::Run, events);
            let login = two(&mut fake);
            assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)), "{sign:?}");
            let told = login.notice.map(|notice| (notice.code, notice.message));
            match sign {
                Sign::Battery(_) => assert_eq!(
                    told,
                    Some((
                        Code::BatteryLow,
                        "This kiosk's battery was down to 7 %, so your computer was suspended. Connect the kiosk to \
                         power before you resume it."
                            .to_owned()
                    ))
                ),
                _ => assert_eq!(told, None),
            }
            let saving = fake.states.iter().rfind(|state| state.phase == Phase::Save).expect("it was saved");
            let why = match sign {
                Sign::Button => "The power button was pressed. Pausing",
                Sign::Lid => "The lid was closed. Pausing",
                _ => "The battery is down to 7 %. Pausing",
            };
            assert!(saving.doing.starts_with(why), "{}", saving.doing);
        }
    }
}

#[test]
fn on_the_way_into_a_session_it_is_left_and_nothing_is_lost() {
    for phase in [Phase::Choose, Phase::Check, Phase::Lock, Phase::Open, Phase::Restore] {
        for sign in SIGNS {
            let mut fake = at(phase, sign);
            for silent in ["inventory", "lock", "open", "start vmm"] {
                fake.goes(silent, if silent == at_work(phase) { Go::Silent } else { Go::Well });
            }
            let login = two(&mut fake);
            assert_eq!(fake.asked("save"), 0, "{phase:?} {sign:?}");
            let told = login.notice.map(|notice| notice.code);
            match sign {
                Sign::Battery(_) => assert_eq!(told, Some(Code::BatteryLow), "{phase:?}"),
                _ => assert_eq!(told, None, "{phase:?}"),
            }
            if phase > Phase::Lock {
                assert_eq!(fake.asked("unlock"), 1, "{phase:?} {sign:?}");
            }
        }
    }
}

/// What is asked in a phase on the way in.
fn at_work(phase: Phase) -> &'static str {
    match phase {
        Phase::Check => "inventory",
        Phase::Lock => "lock",
        Phase::Open => "open",
        _ => "start vmm",
    }
}

#[test]
fn the_button_powers_off_when_nobody_is_logged_in_and_nothing_else_does() {
    let mut fake = at(Phase::Login, Sign::Button);
    assert_eq!(cycle(&mut fake), Some(Power::Off));
    assert_eq!(fake.calls.last().map(String::as_str), Some("verify"), "not before the wipe");
    let mut fake = Fake::with_user();
    let others = [Sign::Lid, Sign::Battery(1)].map(Event::Sign);
    fake.only(Phase::Login, others.into_iter().chain([Event::Command(log_in(1))]).collect());
    assert_eq!(two(&mut fake).report.and_then(|report| report.committed), Some(Version(3)));
}

#[test]
fn a_suspend_under_way_goes_on() {
    for phase in [Phase::Save, Phase::Commit, Phase::Unlock] {
        let mut fake = Fake::with_user();
        fake.on(phase, SIGNS.map(Event::Sign).into());
        let login = two(&mut fake);
        assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)), "{phase:?}");
        assert_eq!(login.notice, None, "{phase:?}");
        assert_eq!(fake.asked("save"), 1);
    }
}

/// Nobody has to log in to learn that.
#[test]
fn a_low_battery_is_told_before_a_log_in() {
    let mut fake = Fake::with_user();
    let signs = [Sign::Battery(4), Sign::Button, Sign::Powered, Sign::Battery(3)].map(Event::Sign);
    fake.only(Phase::Login, signs.into());
    fake.only(Phase::Boot, vec![Event::Sign(Sign::Battery(5))]);
    assert_eq!(cycle(&mut fake), Some(Power::Off));
    let mut told: Vec<_> = fake.states.iter().map(|state| state.health.low_battery).collect();
    told.dedup();
    assert_eq!(told, [None, Some(5), Some(4)]);
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![Event::Sign(Sign::Powered), Event::Command(Command::Suspend)]);
    assert_eq!(two(&mut fake).health.low_battery, None);
    let mut fake = at(Phase::Run, Sign::Battery(7));
    fake.on(Phase::Commit, vec![Event::Sign(Sign::Powered)]);
    assert_eq!(two(&mut fake).health.low_battery, None);
    assert!(fake.states.iter().any(|state| state.health.low_battery == Some(7)));
}

/// A battery that is still low is told again: the suspend is tried again without anybody.
#[test]
fn a_suspend_that_did_not_work_out_is_tried_again() {
    let mut fake = Fake::with_user();
    fake.goes("save", wrong(Code::NoAnswer));
    fake.only(Phase::Run, vec![Event::Sign(Sign::Battery(7))]);
    fake.patience.push_back(Event::Sign(Sign::Battery(6)));
    let login = two(&mut fake);
    assert_eq!(fake.asked("save"), 2);
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
    assert!(login.notice.is_some_and(|notice| notice.message.contains("6 %")));
}

/// Whoever presses the button or closes the lid goes away: a session that then goes on is not for whoever comes by.
#[test]
fn a_session_that_goes_on_after_the_button_or_the_lid_is_locked() {
    for sign in SIGNS {
        let mut fake = Fake::with_user();
        fake.goes("save", wrong(Code::NoAnswer));
        fake.only(Phase::Run, vec![Event::Sign(sign)]);
        fake.patience.push_back(Event::Command(Command::Suspend));
        two(&mut fake);
        assert_eq!(fake.asked("save"), 2);
        let mut locked: Vec<_> = fake.states.iter().map(|state| (state.phase, state.locked)).collect();
        locked.dedup();
        let leaves = !matches!(sign, Sign::Battery(_));
        let save = locked.iter().position(|(phase, _)| *phase == Phase::Save).expect("it was saved");
        assert_eq!(locked[save..save + 2], [(Phase::Save, leaves), (Phase::Run, leaves)], "{sign:?}");
        assert!(!fake.last().locked, "the next session is not");
    }
}

/// Nothing is lost by a press, and it is answered: the screens show each one, wherever the session is on its way out.
#[test]
fn a_press_on_the_way_out_is_answered_and_ends_nothing() {
    let presses = |fake: &Fake, phase| {
        let seen = fake.states.iter().filter(|state| state.phase == phase).map(|state| state.presses);
        seen.max().expect("the session was there")
    };
    for (what, phase) in [("save", Phase::Save), ("commit", Phase::Commit)] {
        let mut fake = Fake::with_user();
        fake.goes(what, Go::Silent);
        fake.on(phase, [Sign::Button, Sign::Lid, Sign::Button].map(Event::Sign).into());
        fake.patience.push_back(Event::Command(Command::Unlocked));
        fake.patience.push_back(Event::Command(Command::GiveUp));
        let notice = two(&mut fake).notice.expect("the user is told");
        assert_eq!((notice.code, presses(&fake, phase)), (Code::GaveUp, 2), "{what}");
        assert_eq!(fake.last().presses, 0, "the next session's user pressed nothing");
    }
    // Where work is kept while nobody can send it, and where the lock is given back in vain.
    let mut fake = Fake::with_user();
    fake.only(Phase::Run, vec![died(Role::Cached), Event::Sign(Sign::Button)]);
    fake.patience.push_back(Event::Command(Command::GiveUp));
    fake.goes("unlock", Go::Silent);
    assert_eq!(two(&mut fake).notice.map(|notice| notice.code), Some(Code::GaveUp));
    assert_eq!(presses(&fake, Phase::Save), 1);
    let mut fake = Fake::with_user();
    fake.goes("open", wrong(Code::NoSuchParcel));
    fake.goes("unlock", Go::Silent);
    fake.on(Phase::Unlock, vec![Event::Sign(Sign::Button)]);
    two(&mut fake);
    assert_eq!(presses(&fake, Phase::Unlock), 1);
}

/// The kiosk that was wiped waits for the next user, who reads what the wipe found.
#[test]
fn a_press_while_the_kiosk_starts_anew_does_not_power_it_off() {
    let mut fake = Fake::with_user();
    fake.on(Phase::Boot, vec![]);
    fake.on(Phase::Boot, [Sign::Button, Sign::Lid].map(Event::Sign).into());
    let login = two(&mut fake);
    assert_eq!(login.report.and_then(|report| report.committed), Some(Version(3)));
    assert!(fake.patience.is_empty(), "it is on until somebody powers it off at the login screen");
    assert!(fake.log.iter().any(|line| line == "The power button was pressed in phase boot: ignored"));
}

/// Somebody suspends the session, and presses the button or closes the lid while it is saved.
#[test]
fn whoever_leaves_during_a_save_that_fails_leaves_a_locked_screen() {
    for sign in [Sign::Button, Sign::Lid] {
        let mut fake = Fake::with_user();
        fake.on(Phase::Save, vec![Event::Sign(sign)]);
        fake.goes("save", wrong(Code::NoAnswer));
        fake.patience.push_back(Event::Command(Command::Suspend));
        two(&mut fake);
        assert_eq!(fake.asked("save"), 2);
        let mut runs = fake.states.iter().filter(|state| state.phase == Phase::Run);
        assert!(
            runs.next().is_some_and(|state| !state.locked)
                && runs.next_back().is_some_and(|state| state.locked)
        );
    }
}
