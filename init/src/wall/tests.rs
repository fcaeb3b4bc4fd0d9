use super::*;
use crate::{
    config::Config,
    diagnosis::Doctor,
    net::{
        probe::{Prober, Server},
        view::View,
    },
};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A clock that says what it is set to.
struct Fake {
    now: i64,
    set: Sender<i64>,
}

impl Clock for Fake {
    fn now(&self) -> i64 {
        self.now
    }

    fn set(&mut self, millis: i64) -> io::Result<()> {
        self.now = millis;
        let _ = self.set.send(millis);
        Ok(())
    }
}

const BUILT: i64 = 1_795_780_800_000;
const DAY: i64 = 86_400_000;

fn keeper(now: i64, floor: Option<i64>) -> (tempfile::TempDir, Keeper, Receiver<i64>) {
    let folder = tempfile::tempdir().unwrap();
    let (set, steps) = channel();
    let keeper = Keeper::new(Fake { now, set }, floor, Log::open(folder.path(), None));
    (folder, keeper, steps)
}

fn told(time: i64) -> Instant {
    Instant { time, at: u64::try_from(clock::since_boot().as_millis()).unwrap() }
}

fn ntp() -> Source {
    Source::Ntp { server: "ntp.example.org".into() }
}

#[test]
fn it_is_never_before_the_image_was_built() {
    let (folder, keeper, steps) = keeper(978_307_200_000, Some(BUILT));
    assert_eq!(steps.try_iter().collect::<Vec<_>>(), [BUILT]);
    assert_eq!(keeper.state().source, Source::Image);
    assert_eq!(keeper.state().moved, (BUILT - 978_307_200_000) / 1000);
    let log = fs::read_to_string(folder.path().join("waystation.log")).unwrap();
    assert!(log.contains("set from Mon, 01 Jan 2001 00:00:00 UTC to Fri, 27 Nov 2026 12:00:00 UTC"), "{log}");
    for time in [978_307_200_000, BUILT - 1000, BUILT + 21 * 365 * DAY, i64::MAX, i64::MIN] {
        assert!(judge(BUILT, told(time)).is_err(), "{time}");
        keeper.lock().take(told(time), ntp());
    }
    assert_eq!((steps.try_iter().count(), keeper.state().source), (0, Source::Image));
    // A machine whose clock is right is left alone.
    let (_folder, keeper, steps) = self::keeper(BUILT + DAY, Some(BUILT));
    assert_eq!((steps.try_iter().count(), keeper.state()), (0, ClockState::default()));
}

#[test]
fn it_takes_the_time_that_it_is_when_it_is_set() {
    let (_folder, keeper, steps) = keeper(BUILT + DAY, Some(BUILT));
    let mut late = told(BUILT + 9 * DAY);
    late.at -= 5_000;
    keeper.lock().take(late, ntp());
    let set = steps.try_recv().unwrap() - (BUILT + 9 * DAY);
    assert!((5_000..7_000).contains(&set), "{set}");
    assert_eq!((keeper.state().source, keeper.state().moved / 60), (ntp(), 8 * 24 * 60));
    // Close enough is right.
    let now = keeper.now();
    keeper.lock().take(told(now + 1_000), ntp());
    assert_eq!(steps.try_iter().count(), 0);
}

#[test]
fn a_time_that_nothing_vouches_for_never_replaces_one_of_the_site() {
    let dhcp = || Source::Dhcp { server: "192.168.7.1".into() };
    let server = || Source::Server { server: "parcels.example.org".into() };
    for of_site in [ntp(), server()] {
        let (_folder, keeper, steps) = keeper(BUILT + DAY, Some(BUILT));
        keeper.lock().take(told(BUILT + 2 * DAY), dhcp());
        assert_eq!((steps.try_iter().count(), keeper.state().source), (1, dhcp()));
        keeper.lock().take(told(BUILT + 3 * DAY), of_site.clone());
        assert_eq!((steps.try_iter().count(), keeper.state().source), (1, of_site.clone()));
        // Neither a step, nor its name on a clock that is right.
        for time in [BUILT + 9 * DAY, keeper.now()] {
            keeper.lock().take(told(time), dhcp());
            assert_eq!((steps.try_iter().count(), keeper.state().source), (0, of_site.clone()));
        }
        // Nor once a session has come and gone.
        keeper.hold(false);
        keeper.hold(true);
        keeper.hold(false);
        keeper.lock().take(told(BUILT + 9 * DAY), dhcp());
        assert_eq!((steps.try_iter().count(), keeper.state().source), (0, of_site));
        // The site's sources follow each other.
        keeper.lock().take(told(BUILT + 4 * DAY), server());
        keeper.lock().take(told(BUILT + 5 * DAY), ntp());
        assert_eq!((steps.try_iter().count(), keeper.state().source), (2, ntp()));
    }
}

/// How often the time is asked for in two seconds, and in two more after a call of [`Keeper::wake`].
fn asked(ntp: &[&str], by_dhcp: &[[u8; 4]]) -> (usize, usize) {
    let (folder, keeper, _steps) = keeper(BUILT + DAY, Some(BUILT));
    let links = Links::default();
    let mut lease = crate::net::view::tests::lease([192, 168, 7, 9]);
    lease.ntp = by_dhcp.iter().map(|address| (*address).into()).collect();
    links.note(vec![View { carrier: true, lease: Some(lease), routed: true, ..View::default() }]);
    let sources = Sources {
        prober: Prober::new(&says(folder.path(), BUILT + 9 * DAY)),
        ntp: ntp.iter().map(|server| (*server).to_owned()).collect(),
        server: Server::default(),
        hosts: std::collections::BTreeMap::new(),
        links: links.clone(),
    };
    let pace = Pace { retry: Duration::from_millis(100), again: Duration::from_secs(3600) };
    let (tell, told) = channel();
    keeper.hold(false);
    keeper.keep_at(pace, sources, links, move |state| tell.send(state.source).is_ok()).unwrap();
    let count = || {
        let end = clock::since_boot() + Duration::from_secs(2);
        let left = || end.saturating_sub(clock::since_boot());
        std::iter::from_fn(|| told.recv_timeout(left()).ok()).filter(Source::is_told).count()
    };
    let first = count();
    keeper.wake();
    (first, count())
}

#[test]
fn it_is_asked_for_soon_again_until_the_site_tells_it_and_when_somebody_wants_it() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    assert_eq!(asked(&["ntp.example.org"], &[]), (1, 1), "once an hour, and when it is woken");
    assert!(asked(&[], &[[192, 168, 7, 1]]).0 > 1, "what DHCP names is not believed for an hour");
}

#[test]
fn each_diagnosis_has_the_time_asked_for() {
    let (folder, keeper, _steps) = keeper(BUILT + DAY, Some(BUILT));
    let log = Log::open(folder.path(), None);
    let prober = Prober::new(&folder.path().join("none"));
    let doctor = Doctor::new(&Config::load().kiosk, "", prober, Links::default(), &keeper, &log);
    for wakes in 1..=3 {
        doctor.examine(drop);
        assert_eq!(keeper.lock().turn.wakes, wakes, "while another is under way, too");
    }
}

#[test]
fn it_is_not_moved_during_a_session() {
    let (folder, keeper, steps) = keeper(BUILT + DAY, Some(BUILT));
    let sources = Sources {
        prober: Prober::new(&says(folder.path(), BUILT + 9 * DAY)),
        ntp: vec!["ntp.example.org".into()],
        server: Server::default(),
        hosts: std::collections::BTreeMap::new(),
        links: Links::default(),
    };
    // From the start on, until somebody can log in.
    assert!(!keeper.ask(&sources));
    keeper.hold(false);
    keeper.hold(true);
    assert!(!keeper.ask(&sources));
    assert_eq!(steps.try_iter().count(), 0);
    if nix::unistd::geteuid().is_root() {
        keeper.hold(false);
        assert!(keeper.ask(&sources), "{:?}", keeper.state());
        assert_eq!(steps.try_iter().count(), 1);
    }
}

/// A probe that always says the same.
fn says(folder: &Path, time: i64) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let said = serde_json::json!({ "Time": { "Ok": { "instant": told(time), "from": "ntp.example.org" } } });
    let probe = folder.join("probe");
    fs::write(&probe, format!("#!/bin/busybox sh\necho '{said}'\n")).unwrap();
    for (path, mode) in [(folder, 0o755), (probe.as_path(), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    probe
}

#[test]
fn times_have_words_whatever_they_are() {
    for time in [i64::MIN, -1, 0, BUILT, i64::MAX] {
        assert!(words(time).ends_with(" UTC"), "{time}");
    }
}
