//! Every screen as text, 80 by 25, against `tests/snapshots`; and the pictures of `docs/screens.md` against the same.
//!
//! `UPDATE_SCREENS=1 cargo test -p kiosk-ui --test ui screens` writes both anew: look at the difference before you commit it.

use crate::{again::again, desk::*, pressed::answers};
use client::api::ApiError;
use kiosk_ui::{
    event::{Event, OpenError},
    glyph::in_font,
    trouble::{Circumstances, Trouble, of_login},
};
use login::LoginError;
use parcel::wire::{
    Code, Progress, WireError,
    daemon::{Status, Waiting},
    health::Health,
    memory::Room,
    session::{Phase, State},
};
use std::{fs, path::PathBuf};

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn updating() -> bool {
    std::env::var_os("UPDATE_SCREENS").is_some()
}

/// Compares a picture with the one that was looked at by a person.
pub fn check(name: &str, desk: &Desk) {
    let (picture, cursor) = desk.picture();
    assert!(
        picture.chars().all(|c| c == '\n' || in_font(c) == Some(c)),
        "{name}: a glyph that the console font lacks"
    );
    assert!(!picture.contains(PASSWORD), "{name} shows the password");
    let cursor = cursor.map_or("none".to_owned(), |(x, y)| format!("{x},{y}"));
    let new = format!("{picture}cursor: {cursor}\n");
    let path = here("tests/snapshots").join(format!("{name}.txt"));
    if updating() {
        fs::write(&path, new).expect("the snapshot is written");
        return;
    }
    let old = fs::read_to_string(&path).unwrap_or_default();
    assert!(old == new, "{} differs; it is now:\n{new}", path.display());
}

fn notice(error: WireError) -> State {
    State { notice: Some(error), ..state(Phase::Login) }
}

#[test]
fn starting() {
    let mut desk = Desk::new();
    check("starting", &desk);
    let mut booting = state(Phase::Boot);
    booting.doing = "Waiting for an address from the network".into();
    booting.network = None;
    booting.network_detail = "eth0 has a cable, no address yet".into();
    desk.state(booting);
    check("starting-network", &desk);
}

#[test]
fn login() {
    let mut desk = Desk::at_login();
    check("login", &desk);
    desk.keys(&format!("shanta\r{PASSWORD}"));
    check("login-typed", &desk);
    desk.keys("\r");
    check("login-asking", &desk);
    let attempt = desk.last_attempt();
    desk.event(Event::LoggedIn { attempt, result: Ok(session()) });
    check("login-accepted", &desk);
    let mut desk = Desk::at_login();
    desk.app.caps_lock = true;
    desk.keys("shanta\rTR0");
    check("login-caps-lock", &desk);
    let mut desk = Desk::at_login();
    desk.function(10);
    check("login-power", &desk);
    desk.keys("p");
    check("login-powering-off", &desk);
    let mut desk = Desk::at_login();
    let mut offline = state(Phase::Login);
    offline.network = None;
    offline.network_detail = "eth0: no cable".into();
    desk.state(offline);
    check("login-no-network", &desk);
    desk.event(Event::InitLost);
    check("login-manager-lost", &desk);
}

/// Every reason for which a log-in fails.
pub fn login_errors() -> Vec<(&'static str, LoginError, Circumstances)> {
    let about = Circumstances {
        server: "parcels.waystation.test".into(),
        kpasswd: Some("kdc.waystation.test:464".into()),
        clocks: Some((NOW, NOW + 3725)),
        now: NOW,
    };
    let realm = || "WAYSTATION.TEST".to_owned();
    let server = || "parcels.waystation.test".to_owned();
    let blind = Circumstances { clocks: None, ..about.clone() };
    let refused = WireError::new(Code::NotAdmin, "shanta may not use this server");
    vec![
        ("denied", LoginError::Denied, about.clone()),
        ("password-expired", LoginError::PasswordExpired, about.clone()),
        ("locked", LoginError::Locked, about.clone()),
        ("account-expired", LoginError::AccountExpired, about.clone()),
        ("clock-skew", LoginError::ClockSkew, about.clone()),
        ("clock-skew-blind", LoginError::ClockSkew, blind.clone()),
        ("kdc-unreachable", LoginError::KdcUnreachable { realm: realm() }, about.clone()),
        ("kdc-unavailable", LoginError::KdcUnavailable { realm: realm() }, about.clone()),
        ("backslash", LoginError::Backslash, about.clone()),
        ("realm-unknown", LoginError::RealmUnknown { realm: "ELSEWHERE.TEST".into() }, about.clone()),
        // A right clock: with a wrong one, it is the clock that is named.
        ("no-ticket", LoginError::NoTicket, blind),
        ("service-unknown", LoginError::ServiceUnknown { service: "HTTP/x@Y".into() }, about.clone()),
        (
            "server-unreachable",
            LoginError::Server(ApiError::Unreachable {
                server: server(),
                cause: "connection refused".into(),
            }),
            about.clone(),
        ),
        (
            "server-certificate",
            LoginError::Server(ApiError::Certificate { server: server(), cause: "unknown issuer".into() }),
            about.clone(),
        ),
        (
            "certificate-expired",
            LoginError::Server(ApiError::CertificateTime {
                server: server(),
                expired: true,
                cause: "expired".into(),
            }),
            about.clone(),
        ),
        (
            "certificate-not-yet-valid",
            LoginError::Server(ApiError::CertificateTime {
                server: server(),
                expired: false,
                cause: "early".into(),
            }),
            about.clone(),
        ),
        ("dns-none", LoginError::NoDns, about.clone()),
        ("dns-silent", LoginError::DnsSilent { servers: "192.0.2.53, 192.0.2.54".into() }, about.clone()),
        ("kdc-not-in-dns", LoginError::KdcNotInDns { realm: realm() }, about.clone()),
        ("kdc-name-unknown", LoginError::KdcName { host: "kdc1.waystation.test".into() }, about.clone()),
        ("weak-preauth", LoginError::WeakPreauth { realm: realm() }, about.clone()),
        ("weak-encryption", LoginError::WeakEncryption { realm: realm() }, about.clone()),
        (
            "kdc-proxy",
            LoginError::Proxy(ApiError::Unreachable {
                server: "kdcproxy.waystation.test".into(),
                cause: "refused".into(),
            }),
            about.clone(),
        ),
        ("no-armor", LoginError::NoArmor { realm: realm(), cause: "no certificate".into() }, about.clone()),
        (
            "server-refused",
            LoginError::Server(ApiError::Refused { status: 403, error: refused }),
            about.clone(),
        ),
        (
            "server-protocol",
            LoginError::Server(ApiError::Protocol { server: server(), cause: "not JSON".into() }),
            about.clone(),
        ),
        ("other", LoginError::Other("no credentials cache type".into()), about),
    ]
}

#[test]
fn login_that_fails() {
    for (name, error, about) in login_errors() {
        let mut desk = Desk::at_login();
        desk.keys(&format!("shanta\r{PASSWORD}\r"));
        let attempt = desk.last_attempt();
        desk.event(Event::LoggedIn { attempt, result: Err(of_login(&error, &about)) });
        let text = desk.text();
        assert!(text.contains(&format!("Code for IT: {}", error.code())), "{name}:\n{text}");
        check(&format!("login-error-{name}"), &desk);
    }
}

#[test]
fn list() {
    let mut desk = Desk::at_login();
    desk.log_in();
    desk.state(state(Phase::Choose));
    check("list-asking", &desk);
    desk.list(Ok(parcels()));
    check("list", &desk);
    desk.keys("c");
    check("list-cold-boot", &desk);
    desk.keys("\x1b");
    desk.keys("j");
    check("list-in-use", &desk);
    desk.keys("\r");
    check("list-break-lock", &desk);
    desk.keys("q");
    desk.keys("j");
    check("list-never-started", &desk);
    desk.keys("r");
    check("list-asking-again", &desk);
    let mut parcels = parcels();
    (parcels[0].suspended, parcels[0].memory_lost) = (false, true);
    desk.list(Ok(parcels));
    desk.keys("kk");
    check("list-memory-lost", &desk);
    desk.keys("r");
    desk.list(Ok(Vec::new()));
    check("list-empty", &desk);
    desk.keys("r");
    desk.list(Err(Trouble::new(
        "The parcel server parcels.waystation.test cannot be reached. Check the network.",
        Code::ServerUnreachable,
    )));
    check("list-error", &desk);
    let mut desk = Desk::at_list();
    desk.wait(560);
    check("list-idle", &desk);
}

#[test]
fn opening() {
    let mut desk = Desk::at_list();
    desk.keys("\r");
    check("opening", &desk);
    let parcel = parcels()[0].id;
    let attempt = desk.last_attempt();
    desk.event(Event::Opened { attempt, parcel, result: Err(OpenError::Wrong) });
    desk.keys("older");
    check("opening-ask", &desk);
    desk.keys("\r");
    let attempt = desk.last_attempt();
    desk.event(Event::Opened { attempt, parcel, result: Err(OpenError::Slip) });
    check("opening-ask-again", &desk);
    desk.keys("older\r");
    let attempt = desk.last_attempt();
    let trouble = Trouble::new("The key slots of this computer cannot be read.", Code::SlotsUnreadable);
    desk.event(Event::Opened { attempt, parcel, result: Err(OpenError::Trouble(trouble)) });
    check("opening-failed", &desk);
}

#[test]
fn hardware() {
    let mut error = WireError::new(Code::Hardware, "This kiosk cannot run desk.");
    error.misses = misses();
    let mut desk = Desk::new();
    desk.state(notice(error));
    check("hardware-must", &desk);
    let mut desk = Desk::new();
    desk.state(State {
        parcel: Some("desk".into()),
        doing: "Reading the machine's memory".into(),
        wishes_missed: misses().split_off(3),
        timeline: timeline(&[
            Phase::Boot,
            Phase::Login,
            Phase::Choose,
            Phase::Check,
            Phase::Lock,
            Phase::Open,
        ]),
        ..state(Phase::Restore)
    });
    check("hardware-should", &desk);
}

#[test]
fn resuming() {
    let mut resuming = State {
        parcel: Some("desk".into()),
        doing: "Reading the machine's memory".into(),
        progress: Some(Progress { done: 190 << 20, total: 512 << 20, rate: 11 << 20 }),
        timeline: timeline(&[
            Phase::Boot,
            Phase::Login,
            Phase::Choose,
            Phase::Check,
            Phase::Lock,
            Phase::Open,
        ]),
        ..state(Phase::Restore)
    };
    let mut desk = Desk::new();
    desk.state(resuming.clone());
    check("resuming", &desk);
    desk.keys("c");
    check("resuming-cancel", &desk);
    desk.keys("n");
    resuming.waiting = Some(Waiting {
        pieces: 3,
        seconds: 75,
        reason: "The parcel server parcels.waystation.test does not answer.".into(),
        code: Code::ServerUnreachable,
    });
    desk.state(resuming);
    check("resuming-waiting", &desk);
}

#[test]
fn run() {
    let mut desk = Desk::at_run();
    desk.event(Event::Console(
        b"\r\n\x1b[1;32mcount\x1b[0m 41 nonce 8f3a\r\ncount 42 nonce 8f3a\r\n".to_vec(),
    ));
    check("run", &desk);
    desk.keys("\x1d");
    check("run-menu", &desk);
    desk.keys("d");
    desk.event(Event::Status(Status {
        bytes_in: 71_000_000,
        bytes_out: 1_200_000,
        progress: None,
        waiting: None,
        dirty_chunks: 37,
        room: Room::Enough,
    }));
    check("run-details", &desk);
    desk.keys("\x1b");
    desk.keys("\x1dg");
    check("run-give-up", &desk);
    desk.keys("\x1b");
    let mut waiting = running();
    waiting.waiting = Some(Waiting {
        pieces: 1,
        seconds: 12,
        reason: "A piece is damaged.".into(),
        code: Code::PieceDamaged,
    });
    desk.state(waiting);
    check("run-waiting", &desk);
    let mut offline = running();
    offline.network = None;
    offline.network_detail = "eth0: no cable".into();
    desk.state(offline);
    check("run-no-network", &desk);
    desk.event(Event::ConsoleLost);
    check("run-console-lost", &desk);
}

#[test]
fn suspending() {
    let mut desk = Desk::new();
    let mut suspending = State {
        parcel: Some("desk".into()),
        doing: "Sending what changed".into(),
        progress: Some(Progress { done: 12 << 20, total: 41 << 20, rate: 900 << 10 }),
        timeline: timeline(&[
            Phase::Check,
            Phase::Lock,
            Phase::Open,
            Phase::Restore,
            Phase::Run,
            Phase::Save,
        ]),
        ..state(Phase::Commit)
    };
    desk.state(suspending.clone());
    check("suspending", &desk);
    desk.keys("c");
    check("suspending-cancel", &desk);
    desk.keys("\x1b");
    suspending.network = None;
    suspending.network_detail = "eth0: no cable".into();
    desk.state(suspending.clone());
    check("suspending-no-network", &desk);
    suspending.network = Some("eth0".into());
    suspending.phase = Phase::Verify;
    suspending.progress = None;
    suspending.doing = "Looking for what may be left".into();
    suspending.timeline = timeline(&[Phase::Save, Phase::Commit, Phase::Unlock, Phase::Wipe]);
    desk.state(suspending);
    check("suspending-verify", &desk);
    let mut ending = state(Phase::Wipe);
    ending.parcel = Some("desk".into());
    ending.timeline = timeline(&[Phase::Check, Phase::Lock]);
    ending.timeline[1].ok = false;
    desk.state(ending);
    check("closing", &desk);
}

#[test]
fn what_happened() {
    let mut desk = Desk::new();
    desk.state(notice(WireError::new(
        Code::VmmDied,
        "The machine stopped unexpectedly. What you did since it was last suspended (2026-10-31 15:01 UTC) is lost; \
         it resumes as it was then.",
    )));
    check("notice", &desk);
    let mut held = WireError::new(Code::Locked, "desk is in use elsewhere.");
    held.holder = parcels()[1].lock.clone();
    desk.state(notice(held));
    check("notice-held", &desk);
}

#[test]
fn wipe_report() {
    let mut desk = Desk::new();
    desk.state(State { report: Some(report(true)), ..state(Phase::Login) });
    assert!(desk.text().contains("verified"));
    check("wipe-report", &desk);
    desk.state(State { report: Some(report(false)), ..state(Phase::Login) });
    assert!(!desk.text().contains("verified"));
    check("wipe-report-failed", &desk);
}

/// What programs that drive a kiosk over its serial line wait for: `docs/screens.md`, "Words that stay".
#[test]
fn small_terminals() {
    let mut desk = Desk::sized(60, 18);
    desk.state(state(Phase::Login));
    desk.keys("shanta\tx\r");
    let (_, error, about) = login_errors().swap_remove(1);
    let attempt = desk.last_attempt();
    desk.event(Event::LoggedIn { attempt, result: Err(of_login(&error, &about)) });
    check("small-login", &desk);
    desk.event(Event::Resize(59, 18));
    check("small-too-small", &desk);
    desk.did();
    desk.keys("\x0f\t");
    desk.event(Event::Resize(80, 25));
    assert!(desk.text().contains("password-expired"), "keys do nothing out of sight");
    let mut desk = Desk::at_run();
    desk.event(Event::Resize(40, 12));
    desk.keys("\x1d");
    assert!(desk.text().contains("Suspend: save it"), "the menu is there on any terminal");
}

/// A guest that nothing tells the time.
#[test]
fn wrong_clock() {
    let mut desk = Desk::at_run();
    desk.state(State { clock_behind: true, ..running() });
    check("run-wrong-clock", &desk);
    desk.keys("\x1dd");
    check("run-wrong-clock-details", &desk);
}

/// A guest that changes more than the kiosk has memory for.
#[test]
fn little_memory() {
    for (room, name) in [(Room::Little, "run-memory-little"), (Room::None, "run-memory-none")] {
        let mut desk = Desk::at_run();
        desk.state(State { health: Health { room, ..Health::default() }, ..running() });
        check(name, &desk);
        desk.keys("\x1d");
        check(&format!("{name}-menu"), &desk);
        desk.keys("\x1b");
        desk.event(Event::Resize(40, 12));
        assert!(desk.text().contains("Ctrl-] S"), "it is told on any terminal");
    }
}

/// A kiosk that lacks only what a resume needs may boot the machine.
#[test]
fn hardware_for_a_resume_only() {
    let mut error = WireError::new(Code::Hardware, "This kiosk cannot run desk.");
    error.misses = misses().into_iter().filter(|miss| miss.only_to_resume()).collect();
    assert!(!error.misses.is_empty());
    let mut desk = Desk::new();
    desk.state(notice(error));
    check("hardware-resume-only", &desk);
}

/// However much there is to tell, the way out of the window is on the screen.
#[test]
fn full_details() {
    let mut desk = Desk::at_run();
    let waiting = Waiting {
        pieces: 3,
        seconds: 75,
        reason: "The parcel server parcels.waystation.test does not answer, and has not for a while now."
            .into(),
        code: Code::ServerUnreachable,
    };
    let progress = Some(Progress { done: 190 << 20, total: 512 << 20, rate: 11 << 20 });
    desk.state(State { waiting: Some(waiting), wishes_missed: misses(), ..running() });
    desk.keys("\x1dd");
    desk.event(Event::Status(Status { progress, ..Status::default() }));
    check("run-details-full", &desk);
}

#[test]
fn words_that_stay() {
    let has = |desk: &Desk, words: &[&str]| {
        let text = desk.text();
        words.iter().for_each(|word| assert!(text.contains(word), "no {word:?} in\n{text}"));
    };
    has(&Desk::at_login(), &["Log in", "Realm", "User", "Password"]);
    let mut desk = Desk::at_login();
    desk.log_in();
    desk.state(state(Phase::Choose));
    assert!(!desk.text().contains("Your computers"), "not before Enter means something there");
    desk.list(Ok(parcels()));
    has(&desk, &["Your computers", "Enter resumes it"]);
    desk.keys("j");
    has(&desk, &["Enter offers to break"]);
    desk.keys("j");
    has(&desk, &["Enter starts it"]);
    let mut desk = Desk::new();
    desk.state(state(Phase::Lock));
    has(&desk, &["Resuming"]);
    desk.state(running());
    has(&desk, &["Ctrl-]"]);
    desk.keys("\x1d");
    has(&desk, &["Suspend: save it"]);
    desk.state(state(Phase::Save));
    has(&desk, &["Suspending"]);
    desk.state(State { report: Some(report(true)), ..state(Phase::Login) });
    has(&desk, &["Wipe report", "the wipe is verified"]);
}

/// Each picture in the documentation is the snapshot of its name.
#[test]
fn the_documentation_shows_these_screens() {
    const OPEN: &str = "<!-- screen: ";
    if updating() {
        // Every picture, before it is copied.
        for write in [
            starting,
            login,
            login_that_fails,
            list,
            opening,
            hardware,
            resuming,
            run,
            suspending,
            again,
            answers,
        ] {
            write();
        }
        what_happened();
        wipe_report();
    }
    let path = here("../docs/screens.md");
    let text = fs::read_to_string(&path).expect("docs/screens.md");
    let mut new = String::new();
    let mut lines = text.lines();
    let mut shown = 0;
    while let Some(line) = lines.next() {
        new.push_str(line);
        new.push('\n');
        let Some(name) = line.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        assert_eq!(lines.next(), Some("```text"), "a picture follows {line}");
        let picture = fs::read_to_string(here("tests/snapshots").join(format!("{name}.txt"))).expect(name);
        let picture = picture.split("cursor: ").next().expect("a picture");
        new.push_str(&format!("```text\n{picture}```\n"));
        assert!(lines.any(|line| line == "```"), "the picture of {name} ends");
        shown += 1;
    }
    assert!(shown > 5, "only {shown} pictures");
    if updating() {
        fs::write(&path, new).expect("docs/screens.md is written");
    } else {
        assert!(new == text, "a picture in {} is not its snapshot", path.display());
    }
}
