//! The kiosk's clock and the diagnosis, in the sequence.

use crate::{
    cycle,
    fake::{Fake, log_in},
    settings,
};
use parcel::wire::{
    clock::{ClockState, Source},
    session::{Command, Phase},
};
use std::time::Duration;
use waystation_init::{
    session::{Kiosk, Settings},
    system::{Event, Network},
};

fn told() -> ClockState {
    ClockState { source: Source::Ntp { server: "ntp.example.org".into() }, moved: 7, problems: vec![] }
}

/// That it may never be moved in a phase of a session, [`Fake`] checks at each state.
#[test]
fn the_clock_is_free_at_log_in_and_held_from_then_to_the_next() {
    let mut fake = Fake::with_user();
    assert_eq!(cycle(&mut fake), None);
    assert!(!fake.clock_free, "nobody may move it before the next login screen");
    let at_login = fake.states.iter().filter(|state| state.phase == Phase::Login).count();
    assert!(at_login > 0);
}

#[test]
fn the_first_login_screen_waits_for_the_time_but_not_for_ever() {
    let waits = |events: Vec<Event>| {
        let mut fake = Fake::with_user();
        fake.script.clear();
        fake.on(Phase::Boot, events);
        fake.on(Phase::Login, vec![Event::Command(Command::PowerOff)]);
        let settings = Settings { clock_wait: Duration::from_secs(6), ..settings() };
        Kiosk::new(&mut fake, settings, Network::default()).cycle();
        let shown =
            fake.states.iter().find(|state| state.phase == Phase::Login).map(|s| s.health.clock.clone());
        (fake.clock.as_secs(), shown.unwrap_or_default())
    };
    assert_eq!(waits(vec![Event::Clock(ClockState::default()), Event::Clock(told())]), (0, told()));
    let failed = ClockState { problems: vec!["Nobody knows.".into()], ..ClockState::default() };
    assert_eq!(waits(vec![Event::Clock(failed.clone())]), (0, failed));
    assert_eq!(waits(vec![]).0, 6);
}

#[test]
fn a_diagnosis_is_for_the_login_screen_only() {
    let mut fake = Fake::with_user();
    fake.only(
        Phase::Login,
        vec![Event::Command(Command::Diagnose), Event::Clock(told()), Event::Command(log_in(1))],
    );
    fake.on(Phase::Choose, vec![Event::Command(Command::Diagnose)]);
    assert_eq!(cycle(&mut fake), None);
    assert_eq!(fake.asked("diagnose"), 1, "nobody asks in a session");
    // Its answer came when the user had logged in already.
    let shown = |phase| fake.states.iter().any(|s| s.phase == phase && s.health.diagnosis.is_some());
    assert!(!shown(Phase::Choose) && !shown(Phase::Run));

    let mut fake = Fake::default();
    fake.on(Phase::Login, vec![Event::Command(Command::Diagnose)]);
    fake.patience.push_back(Event::Command(Command::PowerOff));
    cycle(&mut fake);
    let at_login = fake.states.iter().filter(|state| state.phase == Phase::Login);
    assert!(at_login.clone().any(|state| state.health.diagnosis.is_some()));
}
