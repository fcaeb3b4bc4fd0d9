//! Every screen and window with the longest texts that come, on the two smallest terminals: nothing is cut, and nothing is
//! said twice.

use crate::{desk::*, screens::login_errors};
use kiosk_ui::{
    event::{Event, OpenError},
    trouble::{Trouble, of_login},
};
use parcel::{
    id::Version,
    tag::Miss,
    wire::{
        Code, Progress, WireError,
        clock::{ClockState, Source},
        daemon::{Status, Waiting},
        diagnosis::{Check, Diagnosis, StepFound},
        health::Health,
        http::LockInfo,
        session::{Login, Phase, State, WipeCheck, WipeReport},
    },
};

const SIZES: [(u16, u16); 2] = [(80, 24), (60, 18)];
/// The longest sentence that the screens take.
const SENTENCE: usize = 400;
const REALM: &str = "LIBRARIES.STATE-UNIVERSITY.EXAMPLE.EDU";
const SERVER: &str = "parcels.libraries.state-university.example.edu";
const KIOSK: &str = "second-floor-reading-room-front-desk-kiosk-number-12-3f2a7k";

fn principal() -> String {
    format!("shantanu.ramachandran@{REALM}")
}

/// Both sizes, and one with room for everything.
fn sized(size: (u16, u16), state: State) -> Desk {
    let mut desk = Desk::sized(size.0, size.1);
    desk.app.about.realm = REALM.into();
    desk.app.about.server = format!("https://{SERVER}:8443");
    desk.state(State { kiosk: KIOSK.into(), ..state });
    desk
}

/// What is in a picture, or in its window of this title: words with one blank between, without frames.
fn words(picture: &str, title: Option<&str>) -> String {
    let rows: Vec<Vec<char>> = picture.lines().map(|row| row.chars().collect()).collect();
    let window = title.and_then(|title| {
        let head: Vec<char> = format!("┌ {title}").chars().collect();
        rows.iter().enumerate().find_map(|(top, row)| {
            let left = row.windows(head.len()).position(|part| part == head)?;
            let right = left + row[left..].iter().position(|c| *c == '┐')?;
            let height = rows[top..].iter().position(|row| row.get(left) == Some(&'└'))?;
            Some((top + 1, height - 1, left, right))
        })
    });
    assert!(title.is_none() || window.is_some(), "no window {title:?} in\n{picture}");
    let (top, height, left, right) = window.unwrap_or((0, rows.len(), 0, 1000));
    let inside = |row: &Vec<char>| -> String { row.iter().skip(left).take(right - left).collect() };
    let text: String =
        rows.iter().skip(top).take(height).flat_map(|row| [inside(row), " ".to_owned()]).collect();
    let text: String = text.chars().map(|c| if "│┌┐└┘─".contains(c) { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same of all pages.
fn read(desk: &mut Desk, title: Option<&str>) -> String {
    let mut all = Vec::new();
    loop {
        let page = words(&desk.text(), title);
        let Some(at) = page.find("Page ") else { return page };
        let numbers: Vec<usize> =
            page[at..].split([' ', ':']).filter_map(|word| word.parse().ok()).take(2).collect();
        let foot = format!("Page {} of {}: Up and Down turn the pages.", numbers[0], numbers[1]);
        assert!(page.contains(&foot), "{page}");
        assert_eq!(numbers[0], all.len() + 1, "{page}");
        // What stands above the pages is there on each of them.
        let page = page.replace(&foot, " ");
        let head = all.first().map_or(0, |first: &String| {
            first.split(' ').zip(page.split(' ')).take_while(|(one, two)| one == two).count()
        });
        all.push(page.split_whitespace().skip(head).collect::<Vec<_>>().join(" "));
        if numbers[0] == numbers[1] {
            return all.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        }
        desk.keys("\x1b[B");
    }
}

fn says(all: &str, sentence: &str, about: &str) {
    // A word that is longer than a line goes on in the next one.
    assert!(squeezed(all).contains(&squeezed(sentence)), "{about}: cut off: {sentence:?} in\n{all}");
    doubled(all, about);
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Nothing like "No network: No network:".
fn doubled(all: &str, about: &str) {
    let words: Vec<&str> = all.split(' ').collect();
    for length in 1..=4 {
        for at in 0..words.len().saturating_sub(2 * length) {
            let (one, two) = (&words[at..at + length], &words[at + length..at + 2 * length]);
            assert!(
                one != two || !one[length - 1].ends_with([':', '.']),
                "{about}: said twice: {one:?} in\n{all}"
            );
        }
    }
}

fn error(code: Code) -> WireError {
    let cause = code.cause().replace('`', "");
    assert!(cause.chars().count() <= SENTENCE, "{code}: its sentence is too long for the screens");
    WireError::new(code, cause)
}

fn of(code: Code) -> String {
    format!("Code for IT: {code}")
}

#[test]
fn every_code_is_read_to_its_end_wherever_it_shows() {
    for size in SIZES {
        for code in Code::ALL {
            let (error, trouble) = (error(*code), Trouble::from(error(*code)));
            let about = format!("{code} at {size:?}");
            let both = format!("{} {}", error.message, of(*code));

            let notice = State { notice: Some(error.clone()), ..state(Phase::Login) };
            let all = read(&mut sized(size, notice), Some("What happened"));
            says(&all, &error.message, &about);
            says(&all, &of(*code), &about);

            let mut desk = sized(size, state(Phase::Login));
            desk.keys(&format!("shanta\r{PASSWORD}\r"));
            let attempt = desk.last_attempt();
            desk.event(Event::LoggedIn { attempt, result: Err(trouble.clone()) });
            says(&read(&mut desk, Some("Log in")), &both, &about);

            let mut desk = sized(size, state(Phase::Login));
            desk.log_in();
            desk.state(state(Phase::Choose));
            desk.list(Err(trouble.clone()));
            says(&read(&mut desk, None), &both, &about);

            let mut desk = sized(size, state(Phase::Login));
            desk.log_in();
            desk.state(state(Phase::Choose));
            desk.list(Ok(parcels()));
            desk.keys("\r");
            desk.opened(parcels()[0].id, Err(OpenError::Trouble(trouble.clone())));
            says(&read(&mut desk, Some("Opening")), &both, &about);

            for mut desk in [sized(size, running()), sized(size, waiting(*code))] {
                desk.keys(if desk.app.phase() == Phase::Run { "\x1dl" } else { "l" });
                if desk.app.dialog.is_none() {
                    continue;
                }
                desk.keys(&format!("{PASSWORD}\r"));
                let attempt = desk.last_attempt();
                desk.event(Event::LoggedIn { attempt, result: Err(trouble.clone()) });
                says(&read(&mut desk, Some("Log in again")), &both, &about);
            }

            let mut desk = sized(size, waiting(*code));
            let all = read(&mut desk, Some("Resuming"));
            says(&all, &of(*code), &about);
            if !all.contains("Your log-in has run out") {
                says(&all, &error.message, &about);
            }
            let sending =
                State { presses: 1, phase: Phase::Commit, ..desk.app.state.clone().expect("a state") };
            let mut pressed = sized(size, State { presses: 0, ..sending.clone() });
            pressed.state(sending);
            let all = read(&mut pressed, Some("The power button was pressed"));
            for words in [&of(*code), "Do not hold the button down", "Give your work up", "Wait"] {
                says(&all, words, &about);
            }
            desk.keys("d");
            desk.event(Event::Status(Status { bytes_in: 1 << 50, bytes_out: 1 << 50, ..Status::default() }));
            says(&read(&mut desk, Some("Details")), &error.message, &about);

            // The last line of the session has no room for a sentence; it says where the sentence is.
            let desk = sized(size, State { phase: Phase::Run, console: true, ..waiting(*code) });
            let bar = desk.text().lines().last().unwrap_or_default().to_owned();
            let told = [error.message.as_str(), "D tells why", "Ctrl-] L"];
            assert!(told.iter().any(|words| bar.contains(words)), "{about}: {bar}");
            doubled(&words(&bar, None), &about);
        }
    }
}

/// On the way in, with everything that can be said at once.
fn waiting(code: Code) -> State {
    let waiting = Waiting { pieces: 32_768, seconds: 90_000, reason: error(code).message, code };
    State {
        parcel: Some("p".repeat(64)),
        doing: "Bringing your computer back".into(),
        progress: Some(Progress { done: 190 << 30, total: 512 << 30, rate: 11 }),
        waiting: Some(waiting),
        wishes_missed: misses(),
        login: Some(Login { principal: principal(), ends: NOW + 600, began: NOW }),
        timeline: timeline(&[
            Phase::Boot,
            Phase::Login,
            Phase::Choose,
            Phase::Check,
            Phase::Lock,
            Phase::Open,
        ]),
        ..state(Phase::Restore)
    }
}

#[test]
fn a_login_that_fails_is_explained_to_the_end() {
    for size in SIZES {
        for (name, error, about) in login_errors() {
            let trouble = of_login(&error, &about);
            let sentence =
                trouble.sentence.replace("WAYSTATION.TEST", REALM).replace("parcels.waystation.test", SERVER);
            let trouble = Trouble { sentence: sentence.clone(), ..trouble };
            let mut desk = sized(size, state(Phase::Login));
            desk.keys(&format!("shanta\r{PASSWORD}\r"));
            let attempt = desk.last_attempt();
            let code = of(trouble.code);
            desk.event(Event::LoggedIn { attempt, result: Err(trouble) });
            says(
                &read(&mut desk, Some("Log in")),
                &format!("{sentence} {code}"),
                &format!("{name} at {size:?}"),
            );
        }
    }
}

/// What stands below the form gives way to why the log-in failed: as whole lines, what is on other pages first.
#[test]
fn what_is_below_the_log_in_is_whole_or_not_there() {
    let clock = ClockState {
        source: Source::Dhcp { server: "192.168.100.200".into() },
        moved: 788_923_800,
        ..ClockState::default()
    };
    let mut left_out = 0;
    for (size, network) in SIZES.into_iter().flat_map(|size| NETWORKS.map(|network| (size, network))) {
        let health = Health { clock: clock.clone(), ..Health::default() };
        let (detail, image) = (network.to_owned(), "0.1.0 (build e920f841e23d)".to_owned());
        let state = State { network: None, network_detail: detail, health, image, ..state(Phase::Login) };
        let mut desk = sized(size, state.clone());
        let quiet = read(&mut desk, None);
        desk.function(4);
        desk.keys("l");
        assert!(desk.text().contains("Version 0.1.0 (build e920f841e23d)"), "{}", desk.text());
        for (name, error, about) in login_errors() {
            let mut desk = sized(size, state.clone());
            desk.keys(&format!("shanta\r{PASSWORD}\r"));
            let attempt = desk.last_attempt();
            desk.event(Event::LoggedIn { attempt, result: Err(of_login(&error, &about)) });
            let text = read(&mut desk, None);
            let bare = network.split_once(": ").expect("a word before it").1;
            for (label, words) in [
                ("Network none", bare),
                ("Clock", "it was 25 years slow"),
                ("Server", SERVER),
                ("Version", "(build e920f841e23d)"),
            ] {
                let roomy = label != "Version" || size == SIZES[0];
                assert_eq!(quiet.contains(words), roomy, "{label} at {size:?}\n{quiet}");
                let (begun, whole) = (text.contains(&format!("{label} ")), text.contains(words));
                assert_eq!(begun, whole, "{label} beside {name} at {size:?}\n{}", desk.text());
                left_out += u32::from(!whole);
            }
        }
    }
    assert!(left_out > 0, "there was room for everything");
}

/// As `init` says them (`init/src/net/view.rs`).
const NETWORKS: [&str; 6] = [
    "No network: DHCP gave the address 192.168.100.200 but no router, so no way leads on (enx001122334455).",
    "No network: no network card was found, or this image lacks its driver or firmware.",
    "No network: no cable is plugged in (enp0s31f6, enx001122334455, eth0).",
    "No network: DHCP gave an address that no kiosk can use, such as one beside 10.77.0.1 (enp0s31f6, eth0).",
    "No network: the cable is in, but no DHCP server answers (enp0s31f6, enx001122334455).",
    "Network: asking for an address (enp0s31f6, enx001122334455, eth0)",
];

#[test]
fn each_word_on_the_network_is_read_to_its_end_and_once() {
    for size in SIZES {
        for sentence in NETWORKS {
            let bare = sentence.split_once(": ").expect("a word before it").1;
            let offline = |phase| State { network: None, network_detail: sentence.into(), ..state(phase) };
            for phase in [Phase::Boot, Phase::Login, Phase::Choose, Phase::Restore] {
                let mut desk = sized(size, State { parcel: Some("desk".into()), ..offline(phase) });
                says(&read(&mut desk, None), bare, &format!("{phase:?} at {size:?}"));
            }
            let run = State { console: true, parcel: Some("desk".into()), ..offline(Phase::Run) };
            let mut desk = sized(size, run);
            let bar = desk.text().lines().last().unwrap_or_default().to_owned();
            assert!(
                bar.contains("No network") && (bar.contains(bare) || bar.contains("D tells why")),
                "{bar}"
            );
            doubled(&words(&bar, None), "the last line of the session");
            desk.keys("\x1dd");
            says(&read(&mut desk, Some("Details")), bare, &format!("details at {size:?}"));
        }
        // The form keeps what stands under it.
        let all = read(&mut sized(size, state(Phase::Login)), None);
        for line in [
            SERVER,
            "10.0.2.15/24, gateway 10.0.2.2",
            "0.1.0 (build 3f2a91c0d4e5)",
            "nothing of it stays here.",
        ] {
            says(&all, line, &format!("log-in at {size:?}"));
        }
    }
}

#[test]
fn what_is_said_of_the_clock_is_read_to_its_end() {
    let server = || "time.libraries.example.edu".to_owned();
    let sources = [
        (Source::Image, "F4 says why"),
        (Source::Ntp { server: server() }, "it was 25 years slow"),
        (Source::Dhcp { server: "192.168.100.200".into() }, "it was 25 years slow"),
    ];
    for size in SIZES {
        for (source, words) in sources.clone() {
            let clock = ClockState { source, moved: 800_000_000, ..ClockState::default() };
            let health = Health { clock, ..Health::default() };
            let mut desk = sized(size, State { health, ..state(Phase::Login) });
            let all = read(&mut desk, None);
            for words in [words, "0.1.0 (build 3f2a91c0d4e5)", "nothing of it stays here."] {
                says(&all, words, &format!("the clock at {size:?}"));
            }
        }
    }
}

#[test]
fn each_step_of_the_diagnosis_is_read_to_its_end() {
    use parcel::wire::diagnosis::Health::{Bad, Doubtful, Good, Untried};
    let checks = [Check::Link, Check::Address, Check::Dns, Check::Clock, Check::Kdc, Check::Server];
    for size in SIZES {
        for health in [Good, Doubtful, Bad, Untried] {
            let step = |check| StepFound {
                check,
                health,
                found: format!("{check:?}: {}", NETWORKS.concat().chars().take(380).collect::<String>()),
                remedy: format!("{check:?}: {}.", "ask the IT desk of this place ".repeat(12).trim()),
            };
            let steps: Vec<_> = checks.map(step).into();
            let log = vec![format!("[   12.345678] network: {}", NETWORKS[0])];
            let diagnosis = Some(Diagnosis { steps: steps.clone(), log });
            let mut desk = sized(size, state(Phase::Login));
            desk.function(4);
            let health = Health { diagnosis, ..Health::default() };
            desk.state(State { health, ..state(Phase::Login) });
            let mut seen = Vec::new();
            let mut before = String::new();
            while before != desk.text() {
                before = desk.text();
                seen.push(squeezed(&words(&before, Some("What works"))));
                desk.keys("\x1b[B");
            }
            for sentence in steps.iter().flat_map(|step| [&step.found, &step.remedy]) {
                // The rows of a long one are never all on a small screen.
                let end: String =
                    squeezed(sentence).chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
                assert!(seen.iter().any(|page| page.contains(&end)), "{size:?}: {sentence}");
            }
            desk.keys("l");
            let log = words(&desk.text(), Some("The log"));
            assert!(squeezed(&log).contains(&squeezed(NETWORKS[0])), "{log}");
        }
    }
}

/// Every item of a tag, with long values.
fn all_misses() -> Vec<Miss> {
    let items = [
        "kvm",
        "cpu.vendor",
        "cpu.baseline",
        "cpu.feature.avx512_vpopcntdq",
        "vcpus",
        "memory",
        "device_model",
    ];
    let miss = |must, item: &str| Miss {
        must,
        item: item.into(),
        needed: format!("AuthenticAMD or {item}"),
        found: format!("GenuineIntel, not {item}"),
    };
    items.iter().map(|item| miss(true, item)).chain([miss(false, "bandwidth")]).collect()
}

#[test]
fn each_miss_of_the_hardware_is_read_to_its_end() {
    for size in SIZES {
        for misses in [misses(), all_misses()] {
            let mut error = error(Code::Hardware);
            error.misses.clone_from(&misses);
            let state = State { notice: Some(error), ..state(Phase::Choose) };
            let all = read(&mut sized(size, state), Some("Hardware"));
            let about = format!("hardware at {size:?}");
            for miss in &misses {
                says(&all, &miss.needed, &about);
                says(&all, &miss.found, &about);
                says(&all, if miss.must { "required" } else { "preferred" }, &about);
            }
            says(&all, "try another kiosk.", &about);
            says(&all, "Code for IT: hardware", &about);
            let mut desk =
                sized(size, State { wishes_missed: misses.clone(), waiting: None, ..waiting(Code::Busy) });
            let all = read(&mut desk, Some("Resuming"));
            misses.iter().for_each(|miss| says(&all, &miss.found, &about));
        }
    }
}

/// The checks that `init` makes, from its source.
fn checks() -> Vec<String> {
    let source = include_str!("../../../init/src/wipe/verify.rs");
    let tests = source.find("mod tests").unwrap_or(source.len());
    let call = source[..tests].split("check(").skip(1);
    let whats: Vec<String> = call
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned))
        .chain(
            source[..tests]
                .split("what: \"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next().map(str::to_owned)),
        )
        .collect();
    assert!(whats.len() > 10, "{whats:?}");
    whats
}

#[test]
fn each_check_of_the_wipe_is_read_to_its_end() {
    for size in SIZES {
        for ok in [true, false] {
            let found = if ok {
                String::new()
            } else {
                "cached (311), kiosk-ui (312), vmm (313), ".repeat(5) + "end"
            };
            let checks: Vec<_> =
                checks().into_iter().map(|what| WipeCheck { what, ok, found: found.clone() }).collect();
            let report =
                WipeReport { verified: ok, committed: ok.then_some(Version(99_999)), checks: checks.clone() };
            let mut desk = sized(size, State { report: Some(report), ..state(Phase::Login) });
            let all = read(&mut desk, Some("Wipe report"));
            for check in checks {
                let words =
                    if ok { format!("[yes] {}", check.what) } else { format!("{}: {found}", check.what) };
                says(&all, &words, &format!("the report at {size:?}"));
            }
        }
    }
}

/// README and the snapshots show no check that `init` does not make.
#[test]
fn readme_and_snapshots_show_real_checks() {
    let checks = checks();
    let known = |line: &str| checks.iter().any(|check| check.starts_with(line));
    for line in include_str!("../../../README.md").lines().filter_map(|line| line.split_once("[yes] ")) {
        let shown = line.1.split('│').next().unwrap_or_default().trim();
        assert!(known(shown), "README.md: {shown:?}");
    }
    for check in report(true).checks {
        assert!(known(&check.what), "the snapshots: {:?}", check.what);
    }
}

#[test]
fn every_window_says_the_same_on_every_terminal() {
    let lock = LockInfo {
        principal: principal(),
        kiosk: KIOSK.into(),
        ..parcels()[1].lock.clone().expect("a lock")
    };
    let mut held = parcels()[1].clone();
    held.lock = Some(lock.clone());
    let held_notice = || {
        let mut error = error(Code::Locked);
        error.holder = Some(lock.clone());
        State { notice: Some(error), ..state(Phase::Login) }
    };
    let refused = vec!["The network card of the dock at port 1-4.2 is plugged in and not used. ".repeat(5)];
    let health = Health { passing_name: true, refused, ..Health::default() };
    let work = |phase| State { parcel: Some("desk".into()), console: true, ..state(phase) };
    let cases: Vec<(&str, State, &str)> = vec![
        ("Power", state(Phase::Login), "\x0f"),
        ("In use elsewhere", state(Phase::Choose), "\r"),
        ("Cold boot", state(Phase::Choose), "\x1b[Bc"),
        ("Session", running(), "\x1d"),
        ("Log in again", running(), "\x1dl"),
        ("Give up?", work(Phase::Restore), "c"),
        ("Give up?", work(Phase::Run), "\x1dg"),
        ("What happened", held_notice(), ""),
        ("This kiosk", State { health: health.clone(), ..state(Phase::Login) }, "\x0e"),
        ("Locked", State { locked: true, ..running() }, ""),
        ("Opening", state(Phase::Choose), "\x1b[B\r"),
    ];
    for (title, state, keys) in cases {
        let seen = |size| {
            let mut desk = sized(
                size,
                State {
                    login: Some(Login { principal: principal(), ends: NOW + 3600, began: NOW }),
                    ..state.clone()
                },
            );
            if state.phase == Phase::Choose {
                desk.list(Ok(vec![held.clone(), parcels()[0].clone()]));
            }
            desk.keys(keys);
            if title == "This kiosk" {
                // It has a way of its own through its sentences.
                let first = words(&desk.text(), Some(title));
                let sentences = desk.app.unusual();
                assert!(first.contains(sentences[0].trim()), "{first}");
                desk.keys("\x1b[B");
                let second = words(&desk.text(), Some(title));
                assert!(second.contains(sentences[1].trim()), "{second}");
                return String::new();
            }
            let all = read(&mut desk, Some(title));
            doubled(&all, title);
            squeezed(&all.replace('_', ""))
        };
        let whole = seen((200, 60));
        SIZES.into_iter().for_each(|size| assert_eq!(seen(size), whole, "{title} at {size:?}"));
    }
}

#[test]
fn the_list_is_read_to_its_end() {
    for size in SIZES {
        let mut held = parcels()[1].clone();
        held.lock = Some(LockInfo {
            principal: principal(),
            kiosk: KIOSK.into(),
            ..held.lock.clone().expect("a lock")
        });
        let mut desk = sized(size, state(Phase::Choose));
        desk.list(Ok(vec![held, parcels()[0].clone(), parcels()[2].clone()]));
        let about = format!("the list at {size:?}");
        let all = read(&mut desk, None);
        for words in [
            "in use",
            "suspended",
            "L Log out",
            "since 2026-11-01 02:55 UTC.",
            "Enter offers to break that lock.",
        ] {
            says(&all, words, &about);
        }
        desk.keys("\x1b[B");
        says(&read(&mut desk, None), "C starts it from its disk.", &about);
        desk.keys("\x1b[B");
        let all = read(&mut desk, None);
        says(&all, "Enter starts it from its disk.", &about);
        says(&all, "shut down", &about);
        let mut desk = sized(size, state(Phase::Choose));
        desk.list(Ok(vec![]));
        says(&read(&mut desk, None), "Your IT desk can make one for you.", &about);
    }
}
