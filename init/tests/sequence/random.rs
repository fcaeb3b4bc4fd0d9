//! Any order of events: the kiosk never wedges, and always ends wiped.

use crate::fake::{Fake, Go, log_in, proof, resume, wrong};
use parcel::{
    id::BootId,
    wire::{
        Code,
        clock::ClockState,
        daemon::Status,
        session::{Command, Phase},
        vmm::GuestState,
    },
};
use proptest::prelude::*;
use std::time::Duration;
use waystation_init::{
    session::{Kiosk, Settings},
    system::{Event, Network, Power, Role, Sign},
};

const ASKED: [&str; 17] = [
    "prepare",
    "start cached",
    "start kiosk-ui",
    "start vmm",
    "inventory",
    "lock",
    "open",
    "save",
    "resume",
    "commit",
    "unlock",
    "status",
    "learn",
    "rescue",
    "memory lost",
    "recover",
    "console size",
];
const PHASES: [Phase; 12] = [
    Phase::Login,
    Phase::Choose,
    Phase::Check,
    Phase::Lock,
    Phase::Open,
    Phase::Restore,
    Phase::Run,
    Phase::Save,
    Phase::Commit,
    Phase::Unlock,
    Phase::Run,
    Phase::Save,
];

fn go() -> impl Strategy<Value = Go> {
    prop_oneof![
        6 => Just(Go::Well),
        1 => Just(wrong(Code::StaleEpoch)),
        1 => Just(wrong(Code::ServerUnreachable)),
        1 => Just(Go::Silent),
        1 => Just(Go::Dies),
    ]
}

/// Events by number, because events cannot be cloned.
fn event(number: u8) -> Event {
    let died = |role| Event::Exited { role, how: "signal 9".into() };
    match number % 24 {
        0 | 14 => Event::Command(log_in(u64::from(number))),
        1 => Event::Command(resume()),
        15 => Event::Command(Command::Opened(proof())),
        2 | 16 | 17 => Event::Command(Command::Suspend),
        3 => Event::Command(Command::GiveUp),
        4 => Event::Command(Command::LogOut),
        5 => Event::Command(Command::Dismiss),
        6 => Event::Command(Command::ConsoleSize { cols: 1, rows: 1 }),
        7 => Event::Command(Command::PowerOff),
        8 => died(Role::Cached),
        9 => died(Role::KioskUi),
        10 => died(Role::Vmm),
        11 => Event::Guest(GuestState::PoweredOff),
        12 => Event::Status(Status::default()),
        18 => Event::Sign(Sign::Button),
        19 => Event::Sign(Sign::Lid),
        20 => Event::Sign(Sign::Battery(3)),
        21 => Event::Command(Command::Diagnose),
        22 => Event::Clock(ClockState::default()),
        23 => Event::Sign(Sign::Powered),
        _ => Event::Network(Network::default()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn never_wedged_and_always_wiped(
        plan in proptest::collection::vec((0..ASKED.len(), go()), 0..24),
        script in proptest::collection::vec((0..PHASES.len(), proptest::collection::vec(any::<u8>(), 0..4)), 0..12),
        user in any::<bool>(),
        crashed in any::<bool>(),
    ) {
        let mut fake = if user { Fake::with_user() } else { Fake::default() };
        for (what, how) in plan {
            fake.goes(ASKED[what], how);
        }
        for (phase, numbers) in script {
            fake.on(PHASES[phase], numbers.into_iter().map(event).collect());
        }
        // A user who loses patience gives up, and somebody switches the kiosk off: no more than that is needed.
        for _ in 0..64 {
            fake.patience.push_back(Event::Command(Command::Unlocked));
            fake.patience.push_back(Event::Command(Command::GiveUp));
            fake.patience.push_back(Event::Command(Command::PowerOff));
        }
        let settings = Settings {
            passing_name: false,
            name: "A".into(),
            boot: BootId([1; 16]),
            image: "1.2.3".into(),
            power_off_on_failure: false,
            crashed: crashed.then(|| "signal 9".to_owned()),
            clock_wait: Duration::from_secs(if crashed { 6 } else { 0 }),
        };
        let power = Kiosk::new(&mut fake, settings, Network::default()).run();
        prop_assert_eq!(power, Power::Off);

        // The last that was done is a wipe and its verification, and nothing runs after it.
        let done: Vec<&str> = fake.calls.iter().map(String::as_str).collect();
        prop_assert_eq!(&done[done.len() - 2..], ["wipe", "verify"]);
        prop_assert!(fake.alive.is_empty());
        prop_assert!(fake.live.is_none());

        // Between two wipes: no commit without a save before it or a guest that was off, no machine without a lock,
        // and a lock that was given is given back, unless the engine that held it died.
        for session in done.split(|call| *call == "wipe") {
            let at = |what: &str| session.iter().position(|call| *call == what);
            if let Some(commit) = at("commit") {
                prop_assert!(at("save").is_some_and(|save| save < commit) || at("end vmm").is_some() || at("stop vmm").is_some());
                prop_assert!(at("start vmm").is_some_and(|start| start < commit));
            }
            if let Some(start) = at("start vmm") {
                prop_assert!(at("open").is_some_and(|open| open < start) && at("lock") < at("open"));
                prop_assert!(session.contains(&"stop vmm"), "{:?}", session);
            }
            if let Some(open) = at("open") {
                let back = session.iter().rposition(|call| *call == "unlock").is_some_and(|back| back > open);
                prop_assert!(back || session.contains(&"lost cached"), "{:?}", session);
            }
        }
    }
}
