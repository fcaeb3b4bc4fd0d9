use super::*;
use crate::net::view::tests::lease;
use std::net::Ipv4Addr;

fn link(carrier: bool, address: bool, routed: bool) -> View {
    let lease = address.then(|| lease([10, 0, 2, 15]));
    View { name: "eth0".into(), carrier, metric: 100, lease, routed, ..View::default() }
}

fn found() -> Found {
    Found { dns: Some(Ok(())), kdc: Ok("kdc.example.org:88".into()), server: Ok(()) }
}

/// Everything is as it should.
fn seen() -> Seen {
    Seen {
        links: vec![link(true, true, true)],
        now: 1_795_780_800_000,
        clock: ClockState {
            source: Source::Server { server: "parcels.example.org".into() },
            ..ClockState::default()
        },
        found: Some(found()),
        realm: "EXAMPLE.ORG".into(),
    }
}

fn at(seen: &Seen, check: Check) -> StepFound {
    seen.steps().into_iter().find(|step| step.check == check).unwrap()
}

/// The step fails with these words and says what to do, and no step before it fails.
fn fails(seen: &Seen, check: Check, words: &str) {
    let step = at(seen, check);
    assert_eq!(step.health, Health::Bad, "{step:?}");
    assert!(step.found.contains(words), "{step:?}");
    assert!(step.remedy.ends_with('.') && step.found.ends_with('.'), "{step:?}");
    assert!(!step.found.contains("..") && !step.found.contains("No network:"), "{step:?}");
    for before in seen.steps().iter().filter(|before| before.check < check && before.check != Check::Clock) {
        assert_ne!(before.health, Health::Bad, "{before:?}");
    }
}

#[test]
fn where_nothing_fails_every_step_is_good() {
    let steps = seen().steps();
    assert!(steps.iter().all(|step| step.health == Health::Good && step.remedy.is_empty()), "{steps:?}");
    let checks: Vec<Check> = steps.iter().map(|step| step.check).collect();
    assert_eq!(checks, [Check::Link, Check::Address, Check::Dns, Check::Clock, Check::Kdc, Check::Server]);
    let literal = Seen { found: Some(Found { dns: None, ..found() }), ..seen() };
    assert_eq!(at(&literal, Check::Dns).health, Health::Good);
}

#[test]
fn without_a_link_or_an_address_nothing_else_is_tried() {
    let dead = |links: Vec<View>| Seen { links, found: None, ..seen() };
    fails(&dead(vec![]), Check::Link, "No network card");
    fails(&dead(vec![link(false, true, true)]), Check::Link, "No network cable is plugged in");
    let silent = View { unanswered: true, ..link(true, false, false) };
    fails(&dead(vec![silent.clone()]), Check::Address, "no DHCP server answers");
    fails(&dead(vec![link(true, false, false)]), Check::Address, "Asking for an address");
    fails(&dead(vec![link(true, true, false)]), Check::Address, "no router");
    for links in [vec![], vec![silent]] {
        for check in [Check::Dns, Check::Kdc, Check::Server] {
            assert_eq!(at(&dead(links.clone()), check).health, Health::Untried);
        }
    }
}

#[test]
fn each_way_in_which_names_are_not_found_has_its_words() {
    let silent = Silence::Silent(vec![Ipv4Addr::new(10, 0, 2, 3)]);
    for (silence, words) in [
        (Silence::NoServer, "names no DNS server"),
        (silent, "10.0.2.3 does not answer"),
        (Silence::Nothing("parcels.example.org".into()), "does not know parcels.example.org"),
    ] {
        let found = Found {
            dns: Some(Err(silence.clone())),
            kdc: Err(KdcFault::Name(silence.clone())),
            server: Err(ServerFault::Name(silence.clone())),
        };
        let seen = Seen { found: Some(found), ..seen() };
        fails(&seen, Check::Dns, words);
        // What only follows from it is not told once more.
        assert_eq!(at(&seen, Check::Kdc).health, Health::Untried);
        assert_eq!(at(&seen, Check::Server).health, Health::Untried);
        let found = Found { kdc: Err(KdcFault::Name(silence)), ..found_of(&seen) };
        let only = Seen { found: Some(Found { dns: Some(Ok(())), ..found }), ..self::seen() };
        fails(&only, Check::Kdc, "No log-in server of EXAMPLE.ORG is found");
    }
}

fn found_of(seen: &Seen) -> Found {
    seen.found.clone().unwrap()
}

#[test]
fn each_fault_of_log_in_server_and_parcel_server_has_its_words() {
    let kdc = |fault| Seen { found: Some(Found { kdc: Err(fault), ..found() }), ..seen() };
    fails(
        &kdc(KdcFault::Silent(vec!["kdc:88".into()])),
        Check::Kdc,
        "No log-in server of EXAMPLE.ORG answers (kdc:88)",
    );
    let refused = ServerFault::Silent("nobody answers at 192.0.2.1".into());
    fails(&kdc(KdcFault::Proxy("https://p".into(), refused.clone())), Check::Kdc, "log-in proxy https://p");
    let server = |fault| Seen { found: Some(Found { server: Err(fault), ..found() }), ..seen() };
    fails(&server(refused), Check::Server, "nobody answers at 192.0.2.1");
    fails(&server(ServerFault::Speech("x".into())), Check::Server, "does not answer as a parcel server");
    let untrusted = server(ServerFault::Untrusted("UnknownIssuer".into()));
    fails(&untrusted, Check::Server, "not the parcel server");
    assert!(at(&untrusted, Check::Server).remedy.contains("Do not log in"));
    for (expired, words) in [(true, "has expired"), (false, "not valid yet")] {
        let seen = server(ServerFault::Time { expired });
        fails(&seen, Check::Server, words);
        assert!(at(&seen, Check::Server).found.contains("27 Nov 2026 12:00:00 UTC"), "with the clock in it");
    }
    // Both times are told: the clock's, and when it ended.
    let expired = |clients_go_on| ServerFault::CaExpired { last: 1_767_225_600, clients_go_on };
    let ca = server(expired(false));
    let words = "12:00:00 UTC), it cannot be trusted: the certificate of its CA has expired (Thu, 01 Jan 2026 00:00:00 UTC)";
    fails(&ca, Check::Server, words);
    let tell = "tell IT: this kiosk needs the certificate of a new CA";
    assert!(at(&ca, Check::Server).remedy.contains(tell));
    // What still works is not called broken.
    let proxy = kdc(KdcFault::Proxy("https://p".into(), expired(true)));
    for (step, words) in [
        (
            at(&server(expired(true)), Check::Server),
            "The parcel server answers, but by this kiosk's clock (Fri, 27 Nov 2026 12:00:00 UTC), the certificate of its CA has expired (Thu, 01 Jan 2026 \
             00:00:00 UTC). Log-ins still work.",
        ),
        (
            at(&proxy, Check::Kdc),
            "https://p answers, but the certificate of its CA has expired. Log-ins still work.",
        ),
    ] {
        assert_eq!((step.health, step.found.as_str()), (Health::Doubtful, words));
        assert!(step.remedy.contains(tell), "{step:?}");
    }
    fails(&kdc(KdcFault::Proxy("https://p".into(), expired(false))), Check::Kdc, "cannot be used");
}

#[test]
fn whose_time_it_is_is_said() {
    let clock = |source, problems: &[&str]| {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        at(&Seen { clock: ClockState { source, moved: 0, problems }, ..seen() }, Check::Clock)
    };
    let why = "The parcel server does not tell the time: it does not answer";
    let own = clock(Source::Machine, &[why]);
    assert!(
        own.health == Health::Doubtful && own.found.contains("own clock") && own.found.contains(why),
        "{own:?}"
    );
    let dhcp = clock(Source::Dhcp { server: "10.0.2.7".into() }, &[why]);
    assert!(dhcp.health == Health::Doubtful && dhcp.found.contains("nothing vouches for"), "{dhcp:?}");
    let lost = clock(Source::Image, &[]);
    assert!(lost.health == Health::Bad && lost.found.contains("had lost the time"), "{lost:?}");
    assert_eq!(clock(Source::Ntp { server: "ntp".into() }, &[]).health, Health::Good);
}
