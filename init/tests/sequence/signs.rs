//! The power button, a closed lid and a low battery end a session in good order.

use crate::{
    cycle,
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
use waystation_init::system::{Event, Power, Sign};

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
