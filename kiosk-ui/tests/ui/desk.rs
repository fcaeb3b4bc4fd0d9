//! What the tests of the screens share: a world that only writes down, and states of a session to show.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use kiosk_ui::{
    app::{About, App},
    effects::{Effects, Unlock},
    event::{Event, OpenError, Session},
    glyph::Glyphs,
    input::{Decoder, Input},
    password::Password,
    screens,
    trouble::Trouble,
};
use parcel::{
    id::{BootId, Epoch, Generation, ParcelId, StoreId, Version},
    secret::ParcelKey,
    slot::{Proof, Slots},
    tag::{CpuTag, Miss, Tag, Wishes},
    wire::{
        hold::{ClaimTag, StoreIdentity},
        http::{LockInfo, ParcelInfo},
        session::{
            Command, Keyboard, KeyboardLayout, Login, Phase, PhaseRecord, State, WipeCheck, WipeReport,
        },
    },
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    style::{Color, Modifier},
};
use zeroize::Zeroizing;

/// 2026-11-01 04:55:00 UTC.
pub const NOW: u64 = 1_793_508_900;
/// The password that is typed everywhere, and drawn nowhere.
pub const PASSWORD: &str = "Tr0ub4dor&3";

/// What the screens wanted of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    Command(Command),
    Login { attempt: u64, user: String, password: String },
    Adopt(u64, String),
    Parcels,
    Open { attempt: u64, parcel: ParcelId, login: Option<String>, typed: Option<String>, proof: bool },
    Prove(u64, ParcelId, String),
    Console(bool),
    Typed(Vec<u8>),
    Status,
}

pub fn command(command: Command) -> Did {
    Did::Command(command)
}

/// A world that writes down what is wanted of it, whether the console is, and for which attempt parcels were.
#[derive(Default)]
pub struct Fake(pub Vec<Did>, Option<bool>, pub u64);

impl Effects for Fake {
    fn command(&mut self, command: Command) {
        self.0.push(Did::Command(command));
    }
    fn login(&mut self, attempt: u64, user: Zeroizing<String>, password: Password) {
        let user = user.to_string();
        self.0.push(Did::Login { attempt, user, password: password.as_str().to_owned() });
    }
    fn adopt(&mut self, attempt: u64, session: Session) {
        self.0.push(Did::Adopt(attempt, session.login.principal));
    }
    fn parcels(&mut self, attempt: u64) {
        self.2 = attempt;
        self.0.push(Did::Parcels);
    }
    fn open(&mut self, unlock: Unlock) {
        let text = |password: Option<Password>| password.map(|password| password.as_str().to_owned());
        self.0.push(Did::Open {
            attempt: unlock.attempt,
            parcel: unlock.parcel,
            login: text(unlock.login),
            typed: text(unlock.typed),
            proof: unlock.proof == Some(proof()),
        });
    }
    fn prove(&mut self, attempt: u64, parcel: ParcelId, _: Proof, typed: Password) {
        self.0.push(Did::Prove(attempt, parcel, typed.as_str().to_owned()));
    }
    fn console(&mut self, wanted: bool) {
        if self.1 != Some(wanted) {
            self.1 = Some(wanted);
            self.0.push(Did::Console(wanted));
        }
    }
    fn type_into_guest(&mut self, bytes: Vec<u8>) {
        self.0.push(Did::Typed(bytes));
    }
    fn status(&mut self) {
        self.0.push(Did::Status);
    }
}

/// Screens and their world.
pub struct Desk {
    pub app: App,
    pub world: Fake,
}

impl Desk {
    pub fn new() -> Self {
        Self::sized(80, 25)
    }

    pub fn sized(cols: u16, rows: u16) -> Self {
        let about = About {
            title: "Waystation at the Riverside Library".into(),
            realm: "WAYSTATION.TEST".into(),
            server: "https://parcels.waystation.test:8443".into(),
            glyphs: Glyphs::Font,
            session: parcel::wire::kiosk::Session {
                lock_after_s: 0,
                suspend_after_s: 0,
                low_battery_percent: 0,
            },
        };
        Self { app: App::new(about, (cols, rows), NOW), world: Fake::default() }
    }

    /// At the login screen.
    pub fn at_login() -> Self {
        let mut desk = Self::new();
        desk.state(state(Phase::Login));
        desk
    }

    /// With the list of parcels before the user, who logged in with [`PASSWORD`].
    pub fn at_list() -> Self {
        let mut desk = Self::at_login();
        desk.log_in();
        desk.state(state(Phase::Choose));
        desk.list(Ok(parcels()));
        desk
    }

    /// With the guest's console before the user.
    pub fn at_run() -> Self {
        let mut desk = Self::new();
        desk.state(running());
        desk.event(Event::Console(b"shanta@guest:~$ ".to_vec()));
        desk
    }

    pub fn log_in(&mut self) {
        self.keys(&format!("shanta\r{PASSWORD}\r"));
        let attempt = self.last_attempt();
        self.event(Event::LoggedIn { attempt, result: Ok(session()) });
        self.event(Event::Adopted { attempt, result: Ok(()) });
    }

    /// The number of the attempt that was made last.
    pub fn last_attempt(&self) -> u64 {
        let number = |did: &Did| match did {
            Did::Prove(attempt, ..) | Did::Login { attempt, .. } | Did::Open { attempt, .. } => {
                Some(*attempt)
            }
            _ => None,
        };
        self.world.0.iter().rev().find_map(number).expect("an attempt was made")
    }

    pub fn event(&mut self, event: Event) {
        self.app.handle(event, &mut self.world);
    }

    /// `cached` answers with the user's parcels.
    pub fn list(&mut self, result: Result<Vec<ParcelInfo>, Trouble>) {
        self.event(Event::Parcels { attempt: self.world.2, result });
    }

    /// The last try to have a parcel's key ends so.
    pub fn opened(&mut self, parcel: ParcelId, result: Result<(), OpenError>) {
        let attempt = self.last_attempt();
        self.did();
        let result = result.map(|()| proof());
        self.event(Event::Opened { attempt, parcel, result });
    }

    /// Seconds pass in which nobody presses a key.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.event(Event::Tick(self.app.now + 1));
        }
    }

    pub fn state(&mut self, state: State) {
        self.event(Event::State(Box::new(state)));
    }

    /// Types, as a terminal would send it.
    pub fn keys(&mut self, text: &str) {
        let (mut decoder, mut inputs) = (Decoder::new(), Vec::new());
        decoder.feed(text.as_bytes(), &mut inputs);
        decoder.flush(&mut inputs);
        for input in inputs {
            if let Input::Key(key) = input {
                self.event(Event::Key(key));
            }
        }
    }

    pub fn function(&mut self, n: u8) {
        self.event(Event::Key(KeyEvent::new(KeyCode::F(n), KeyModifiers::NONE)));
    }

    /// What was wanted of the world since the last call.
    pub fn did(&mut self) -> Vec<Did> {
        std::mem::take(&mut self.world.0)
    }

    /// The picture, one line a row, without trailing blanks; and where the cursor is.
    pub fn picture(&self) -> (String, Option<(u16, u16)>) {
        let (cols, rows) = self.app.size;
        let mut terminal = Terminal::new(TestBackend::new(cols.max(1), rows.max(1))).expect("a terminal");
        let mut cursor = None;
        terminal
            .draw(|frame| {
                screens::draw(&self.app, frame);
            })
            .expect("a picture");
        if terminal.backend().cursor_visible() {
            let at = terminal.get_cursor_position().expect("a cursor");
            cursor = Some((at.x, at.y));
        }
        let buffer = terminal.backend().buffer();
        for cell in buffer.content() {
            assert!(
                is_console(cell.fg) && is_console(cell.bg),
                "a colour that a virtual console gets wrong: {cell:?}"
            );
            assert!(!cell.modifier.intersects(Modifier::BOLD | Modifier::DIM), "{cell:?}");
        }
        let mut text = String::new();
        for row in 0..buffer.area.height {
            let line: String = (0..buffer.area.width).map(|col| buffer[(col, row)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        (text, cursor)
    }

    pub fn text(&self) -> String {
        self.picture().0
    }
}

/// One of the 16 colours, said outright.
fn is_console(color: Color) -> bool {
    !matches!(color, Color::Reset | Color::Rgb(..) | Color::Indexed(_))
}

/// What proves a password in every session here.
pub fn proof() -> Proof {
    Proof::new(Slots::default(), &ParcelKey::from_bytes([0x5a; 32]))
}

/// Who logged in, for an hour.
pub fn login() -> Login {
    Login { principal: "shanta@WAYSTATION.TEST".into(), ends: NOW + 3600, began: NOW }
}

pub fn session() -> Session {
    Session { token: Zeroizing::new("token".into()), login: login() }
}

/// Some of an image's layouts.
pub fn keyboard() -> Keyboard {
    let layout = |(name, title): (&str, &str)| KeyboardLayout { name: name.into(), title: title.into() };
    let layouts = [
        ("at", "German (Austria)"),
        ("be", "Belgian"),
        ("br", "Portuguese (Brazil)"),
        ("ch-fr", "French (Switzerland)"),
        ("cz", "Czech"),
        ("de", "German"),
        ("de-nodeadkeys", "German (no dead keys)"),
        ("dk", "Danish"),
        ("es", "Spanish"),
        ("fi", "Finnish"),
        ("fr", "French"),
        ("gb", "English (UK)"),
        ("gr", "Greek and English (US)"),
        ("hu", "Hungarian"),
        ("it", "Italian"),
        ("no", "Norwegian"),
        ("pl", "Polish"),
        ("ro", "Romanian"),
        ("se", "Swedish"),
        ("tr", "Turkish"),
        ("ua", "Ukrainian and English (US)"),
        ("us", "English (US)"),
    ];
    Keyboard { layout: "us".into(), layouts: layouts.map(layout).into() }
}

/// A healthy kiosk in a phase.
pub fn state(phase: Phase) -> State {
    State {
        kiosk: "kiosk-A".into(),
        image: "0.1.0 (build 3f2a91c0d4e5)".into(),
        phase,
        doing: String::new(),
        progress: None,
        network: Some("eth0".into()),
        network_detail: "10.0.2.15/24, gateway 10.0.2.2".into(),
        login: (phase >= Phase::Choose).then(login),
        parcel: None,
        parcel_id: (phase > Phase::Choose).then_some(ParcelId([7; 16])),
        proof: (phase > Phase::Choose).then(proof),
        locked: false,
        failures: 0,
        presses: 0,
        notice: None,
        wishes_missed: Vec::new(),
        waiting: None,
        clock_behind: false,
        report: None,
        keyboard: Some(keyboard()),
        health: parcel::wire::health::Health::default(),
        console: false,
        timeline: Vec::new(),
    }
}

/// In the session.
pub fn running() -> State {
    State {
        parcel: Some("desk".into()),
        console: true,
        timeline: timeline(&[
            Phase::Boot,
            Phase::Login,
            Phase::Choose,
            Phase::Check,
            Phase::Lock,
            Phase::Open,
            Phase::Restore,
        ]),
        ..state(Phase::Run)
    }
}

pub fn timeline(phases: &[Phase]) -> Vec<PhaseRecord> {
    let mut records = Vec::new();
    for (i, phase) in phases.iter().enumerate() {
        records.push(PhaseRecord {
            kiosk: "kiosk-A".into(),
            phase: *phase,
            seconds: 0.4 + 1.7 * i as f64,
            bytes_in: if *phase >= Phase::Open { 3_500_000 * i as u64 } else { 0 },
            bytes_out: if *phase == Phase::Commit { 41_000_000 } else { 0 },
            ok: true,
        });
    }
    records
}

pub fn parcels() -> Vec<ParcelInfo> {
    let tag = Tag {
        cpu: CpuTag {
            vendor: Some("AuthenticAMD".into()),
            baseline: "x86-64-v2".into(),
            features: ["sse4_2", "popcnt", "cx16"].map(String::from).into(),
        },
        vcpus: 2,
        memory_mib: 512,
        device_model: 1,
        wishes: Wishes { sound: true, kbit_per_s: Some(10_000), ..Wishes::default() },
    };
    let desk = ParcelInfo {
        id: ParcelId([1; 16]),
        name: "desk".into(),
        owner: "shanta@WAYSTATION.TEST".into(),
        store: StoreIdentity { id: StoreId([1; 16]), generation: Generation([1; 8]) },
        version: Version(7),
        record: None,
        epoch: Epoch(15),
        lock: None,
        tag: Some(tag.clone()),
        suspended_at: Some(NOW - 50_000),
        suspended_on: Some("kiosk-B".into()),
        disk_bytes: 2 << 30,
        suspended: true,
        memory_lost: false,
    };
    let away = ParcelInfo {
        id: ParcelId([2; 16]),
        name: "travel".into(),
        lock: Some(LockInfo {
            principal: "shanta@WAYSTATION.TEST".into(),
            kiosk: "kiosk-B".into(),
            boot: BootId([1; 16]),
            claim: ClaimTag([1; 16]),
            epoch: Epoch(3),
            since: NOW - 7200,
        }),
        version: Version(3),
        suspended_at: Some(NOW - 400_000),
        ..desk.clone()
    };
    let fresh = ParcelInfo {
        id: ParcelId([3; 16]),
        name: "new machine".into(),
        version: Version(1),
        tag: Some(Tag { cpu: CpuTag { vendor: None, ..tag.cpu.clone() }, wishes: Wishes::default(), ..tag }),
        suspended_at: None,
        suspended_on: None,
        suspended: false,
        memory_lost: false,
        ..desk.clone()
    };
    vec![desk, away, fresh]
}

pub fn misses() -> Vec<Miss> {
    let miss = |must, item: &str, needed: &str, found: &str| Miss {
        must,
        item: item.into(),
        needed: needed.into(),
        found: found.into(),
    };
    vec![
        miss(true, "memory", "512 MiB", "300 MiB"),
        miss(true, "cpu.feature.avx2", "avx2", "not there"),
        miss(true, "device_model", "1", "2, 3"),
        miss(false, "sound", "a sound device", "none"),
    ]
}

pub fn report(verified: bool) -> WipeReport {
    let check = |what: &str, ok: bool, found: &str| WipeCheck { what: what.into(), ok, found: found.into() };
    WipeReport {
        verified,
        committed: verified.then_some(Version(8)),
        checks: vec![
            check("no process of the session is left", true, ""),
            check("the cache is not mounted", true, ""),
            check("no key of the session is left in the kernel", true, ""),
            check(
                "no mapping of the cache's disk is left",
                verified,
                if verified { "" } else { "waystation-cache" },
            ),
            check("no file or socket of the session is left", true, ""),
        ],
    }
}
