//! The page that says what stands between a kiosk and a log-in.

use crate::{desk::*, screens::check};
use kiosk_ui::{event::Event, trouble::Trouble};
use parcel::wire::{
    Code,
    clock::{ClockState, Source},
    diagnosis::{Check, Diagnosis, Health, StepFound},
    session::{Command, Phase, State},
};

fn step(check: Check, health: Health, found: &str, remedy: &str) -> StepFound {
    StepFound { check, health, found: found.into(), remedy: remedy.into() }
}

/// A kiosk whose clock has lost the time and whose server is silent: the longest that `init` says.
fn ill() -> Diagnosis {
    Diagnosis {
        steps: vec![
            step(Check::Link, Health::Good, "A cable is plugged in (enp0s31f6); none at enp0s31f7.", ""),
            step(
                Check::Address,
                Health::Doubtful,
                "192.168.100.100 (enp0s31f6), also enp0s31f7 (192.168.101.101) leads nowhere.",
                "If the server is not reached, unplug the cable of the link that leads nowhere.",
            ),
            step(
                Check::Dns,
                Health::Bad,
                "DNS does not know parcels.waystation.test.",
                "You may need your organisation's own network; else ask IT to check the name.",
            ),
            step(
                Check::Clock,
                Health::Bad,
                "The machine's clock had lost the time and says Fri, 27 Nov 2026 12:00:00 UTC now. The parcel server \
                 does not tell the time: it does not answer (nobody answers at 192.168.200.200).",
                "If it is wrong, set the clock in the machine's firmware, or ask IT for an NTP server.",
            ),
            step(Check::Kdc, Health::Untried, "Not tried: a step before it fails.", ""),
            step(Check::Server, Health::Untried, "Not tried: a step before it fails.", ""),
        ],
        log: (0..120).map(|n| format!("[{n:10}.000] network: line {n} of the kiosk's log")).collect(),
    }
}

fn at_login(diagnosis: Option<Diagnosis>) -> State {
    let mut state = state(Phase::Login);
    state.health.diagnosis = diagnosis;
    state
}

fn opened(desk: &mut Desk) {
    desk.state(at_login(None));
    desk.function(4);
    desk.state(at_login(Some(ill())));
}

#[test]
fn it_is_tried_again_by_itself_until_somebody_leaves() {
    let mut desk = Desk::at_login();
    let asked = |desk: &Desk| desk.world.0.iter().filter(|did| **did == command(Command::Diagnose)).count();
    desk.keys("sha");
    desk.function(4);
    assert_eq!(asked(&desk), 1);
    assert!(desk.text().contains("Trying each step"), "{}", desk.text());
    desk.wait(15);
    assert_eq!(asked(&desk), 4, "every five seconds");
    desk.keys("\x1b");
    desk.wait(15);
    assert_eq!(asked(&desk), 4);
    // What was typed is still there, and Ctrl-D opens the page, too.
    assert!(desk.text().contains("[sha_"), "{}", desk.text());
    desk.keys("\x04");
    assert_eq!(asked(&desk), 5);
    // It closes by itself when somebody logs in.
    desk.state(state(Phase::Choose));
    desk.wait(1);
    desk.state(state(Phase::Login));
    assert!(desk.text().contains("Realm"), "{}", desk.text());
}

#[test]
fn a_page_that_nobody_looks_at_closes_and_asks_nobody_any_more() {
    let mut desk = Desk::at_login();
    let asked = |desk: &Desk| desk.world.0.iter().filter(|did| **did == command(Command::Diagnose)).count();
    desk.function(4);
    desk.wait(100);
    // A key shows that somebody is there.
    desk.keys("l");
    desk.wait(119);
    assert!(!desk.text().contains("Realm"), "{}", desk.text());
    desk.wait(1);
    assert!(desk.text().contains("Realm"), "{}", desk.text());
    let before = asked(&desk);
    desk.wait(60);
    assert_eq!(asked(&desk), before);
    // A notice over the page does not keep it.
    desk.function(4);
    let mut noticed = state(Phase::Login);
    noticed.notice = Some(parcel::wire::WireError::new(Code::CacheService, "The cache fails."));
    desk.state(noticed);
    desk.wait(120);
    let before = asked(&desk);
    desk.wait(60);
    assert_eq!(asked(&desk), before);
}

#[test]
fn a_log_in_that_a_wrong_clock_explains_has_the_time_asked_for() {
    for (code, asks) in [
        (Code::ClockSkew, 1),
        (Code::TicketMissing, 1),
        (Code::NoArmor, 1),
        (Code::CertificateExpired, 1),
        (Code::CertificateNotYetValid, 1),
        (Code::LoginDenied, 0),
        (Code::KdcUnreachable, 0),
    ] {
        let mut desk = Desk::at_login();
        desk.keys("shanta\tpassword\r");
        let attempt = desk.last_attempt();
        desk.event(Event::LoggedIn { attempt, result: Err(Trouble::new("No.", code)) });
        let asked = desk.world.0.iter().filter(|did| **did == command(Command::Diagnose)).count();
        assert_eq!(asked, asks, "{code}");
        assert!(desk.text().contains("No."), "the screen stays: {}", desk.text());
        // Whoever reads "ask your IT desk" reads soon that it is done.
        for (moved, set) in [(-3, false), (-604_800, asks == 1)] {
            let mut later = state(Phase::Login);
            later.health.clock.moved = moved;
            desk.state(later);
            assert_eq!(desk.text().contains("has been set."), set, "{code} {moved}");
        }
    }
}

#[test]
fn every_step_is_shown_and_nothing_is_cut() {
    let mut desk = Desk::sized(80, 25);
    opened(&mut desk);
    check("diagnosis", &desk);
    desk.keys("l");
    check("diagnosis-log", &desk);
    for (cols, rows) in [(80, 24), (60, 18)] {
        let mut desk = Desk::sized(cols, rows);
        opened(&mut desk);
        // The page is read from its first row to its last.
        let mut read = desk.text();
        while desk.text().contains("more below") {
            let before = desk.text();
            desk.keys("\x1b[B");
            assert_ne!(before, desk.text(), "the page moves by one row");
            read.push_str(&desk.text());
        }
        for step in ill().steps {
            for word in step.found.split(' ').chain(step.remedy.split(' ')) {
                assert!(read.contains(word), "{cols}x{rows} lacks {word:?}:\n{read}");
            }
        }
        desk.keys("\x1b[1~");
        assert!(desk.text().contains("Cable"));
        // The log begins at its end.
        desk.keys("l");
        assert!(desk.text().contains("line 119 ") && !desk.text().contains("more below"), "{}", desk.text());
        desk.keys("\x1b[1~");
        assert!(desk.text().contains("line 0 "), "{}", desk.text());
        desk.keys("\x1b[B");
        desk.keys("\x1b[B");
        assert!(!desk.text().contains("line 0 "), "the first key down moves it:\n{}", desk.text());
        desk.keys("\x1b[4~");
        assert!(desk.text().contains("line 119 "), "{}", desk.text());
    }
}

#[test]
fn the_login_screen_says_whose_time_it_is_when_the_clock_was_wrong() {
    let text = |source: Source, moved: i64, (cols, rows)| {
        let mut desk = Desk::sized(cols, rows);
        let mut login = state(Phase::Login);
        login.health.clock = ClockState { source, moved, problems: vec![] };
        desk.state(login);
        desk.text()
    };
    let server = || Source::Server { server: "parcels.waystation.test".into() };
    let large = (80, 25);
    let slow = text(server(), 25 * 31_556_952, large);
    assert!(slow.contains("set by parcels.waystation.test; it was 25 years slow"), "{slow}");
    let fast = text(Source::Ntp { server: "ntp.example.org".into() }, -185, large);
    assert!(fast.contains("set by ntp.example.org; it was 3 min 05 s fast"), "{fast}");
    let network = text(Source::Dhcp { server: "192.168.100.100".into() }, 3600, large);
    assert!(network.contains("set by this network's own time server"), "{network}");
    let lost = text(Source::Image, 25 * 31_556_952, large);
    assert!(lost.contains("had lost the time, and nobody has told it yet"), "{lost}");
    for quiet in [text(server(), 3, large), text(Source::Machine, 0, large)] {
        assert!(!quiet.contains("Clock "), "{quiet}");
    }
    let mut desk = Desk::new();
    let mut login = state(Phase::Login);
    login.health.clock = ClockState { source: server(), moved: 25 * 31_556_952, problems: vec![] };
    desk.state(login);
    check("login-clock-set", &desk);
}
