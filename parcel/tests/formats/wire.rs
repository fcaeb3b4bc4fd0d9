//! Wire types: every message goes round through its JSON line, and what went over the network once is still understood.

use crate::sample;
use parcel::{
    id::{BootId, Epoch, Generation, RecordHash, StoreId, Version},
    slot::{Proof, Slots},
    tag::Miss,
    wire::{
        Code, MAX_LINE, Progress, WireError,
        daemon::{self, Policy, Status, Waiting},
        guest::{self, Region, Start},
        hold::{Claim, StoreIdentity},
        http::{
            Base, CreateParcel, Health, LockInfo, LockReply, LockRequest, ParcelInfo, Rescue, SessionReply,
            VersionInfo,
        },
        kiosk::{Cache, CacheDevice, CacheKind, Clock, Kiosk, Realm, Session, Wipe},
        session::{
            Command, Keyboard, KeyboardLayout, Login, Phase, PhaseRecord, State, WipeCheck, WipeReport,
        },
        vmm::{self, GuestState},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A message's type, its JSON, and its JSON after it was read and written again.
struct Message {
    kind: &'static str,
    line: String,
    reread: fn(&str) -> Result<String, String>,
}

fn messages_of<T: Serialize + DeserializeOwned>(values: impl IntoIterator<Item = T>) -> Vec<Message> {
    let reread = |line: &str| {
        let value: T = serde_json::from_str(line).map_err(|error| error.to_string())?;
        serde_json::to_string(&value).map_err(|error| error.to_string())
    };
    let line = |value: T| serde_json::to_string(&value).unwrap();
    let kind = std::any::type_name::<T>();
    values.into_iter().map(|value| Message { kind, line: line(value), reread }).collect()
}

/// JSON of a message of every kind, for the smoke test.
pub fn lines() -> Vec<String> {
    local().into_iter().chain(lasting()).map(|message| message.line).collect()
}

fn store() -> StoreIdentity {
    StoreIdentity { id: StoreId([3; 16]), generation: Generation([4; 8]) }
}

fn claim() -> Claim {
    Claim::from_bytes([5; 16])
}

fn lock_info() -> LockInfo {
    LockInfo {
        principal: "shanta@EXAMPLE.ORG".to_owned(),
        kiosk: "lobby-3".to_owned(),
        boot: BootId([2; 16]),
        claim: claim().tag(),
        epoch: Epoch(9),
        since: 1_700_000_000,
    }
}

fn misses() -> Vec<Miss> {
    vec![Miss {
        must: true,
        item: "memory".to_owned(),
        needed: "512 MiB".to_owned(),
        found: "256 MiB".to_owned(),
    }]
}

fn error() -> WireError {
    let mut error =
        WireError::new(Code::from("hardware-missing"), "this kiosk has too little memory: use another");
    error.misses = misses();
    error.holder = Some(lock_info());
    error
}

fn parcel_info() -> ParcelInfo {
    ParcelInfo {
        id: sample::parcel_id(),
        name: "desktop \"α\"".to_owned(),
        owner: "shanta@EXAMPLE.ORG".to_owned(),
        store: store(),
        version: Version(7),
        record: Some(RecordHash::of(b"record")),
        epoch: Epoch(9),
        lock: Some(lock_info()),
        tag: Some(sample::tag()),
        suspended_at: Some(1_700_000_000),
        suspended_on: Some("lobby-3".to_owned()),
        disk_bytes: 4 << 30,
        suspended: true,
        memory_lost: false,
    }
}

fn lock_reply() -> LockReply {
    LockReply {
        store: store(),
        name: "desktop".to_owned(),
        owner: "shanta@EXAMPLE.ORG".to_owned(),
        epoch: Epoch(10),
        version: Version(7),
        misses: misses(),
    }
}

fn progress() -> Progress {
    Progress { done: 1, total: 2, rate: 3 }
}

fn waiting() -> Waiting {
    Waiting {
        pieces: 3,
        seconds: 8,
        reason: "the server does not answer".to_owned(),
        code: Code::from("server-away"),
    }
}

fn status() -> Status {
    Status {
        bytes_in: 1,
        bytes_out: 2,
        progress: Some(progress()),
        waiting: Some(waiting()),
        dirty_chunks: 3,
        room: parcel::wire::memory::Room::Little,
    }
}

fn record_of(phase: Phase) -> PhaseRecord {
    PhaseRecord { kiosk: "A".to_owned(), phase, seconds: 1.5, bytes_in: 3, bytes_out: 4, ok: true }
}

fn login() -> Login {
    Login { principal: "shanta@EXAMPLE.ORG".to_owned(), ends: 1_700_036_000, began: 1_700_000_000 }
}

fn health() -> parcel::wire::health::Health {
    use parcel::wire::{clock, diagnosis};
    parcel::wire::health::Health {
        passing_name: true,
        refused: vec!["a card".to_owned()],
        low_battery: Some(7),
        room: parcel::wire::memory::Room::None,
        clock: clock::ClockState {
            source: clock::Source::Dhcp { server: "192.0.2.1".to_owned() },
            moved: -7,
            problems: vec!["nobody else answers".to_owned()],
        },
        diagnosis: Some(diagnosis::Diagnosis {
            steps: vec![diagnosis::StepFound {
                check: diagnosis::Check::Link,
                health: diagnosis::Health::Bad,
                found: "no cable".to_owned(),
                remedy: "plug it in".to_owned(),
            }],
            log: vec!["a line".to_owned()],
        }),
    }
}

fn proof() -> Proof {
    Proof::new(Slots::default(), &sample::parcel_key())
}

fn state() -> State {
    use Phase::{Login, *};
    State {
        kiosk: "A".to_owned(),
        image: "0.1.0".to_owned(),
        phase: Run,
        doing: "the machine runs".to_owned(),
        progress: Some(progress()),
        network: Some("10.0.2.15".to_owned()),
        network_detail: "enp1s0".to_owned(),
        login: Some(login()),
        parcel: Some("desktop".to_owned()),
        parcel_id: Some(sample::parcel_id()),
        proof: Some(proof()),
        locked: true,
        failures: 3,
        presses: 2,
        notice: Some(error()),
        wishes_missed: misses(),
        waiting: Some(waiting()),
        clock_behind: true,
        report: Some(WipeReport {
            verified: true,
            committed: Some(Version(8)),
            checks: vec![WipeCheck { what: "no mapping is left".to_owned(), ok: true, found: String::new() }],
        }),
        keyboard: Some(Keyboard {
            layout: "de".to_owned(),
            layouts: vec![KeyboardLayout { name: "de".to_owned(), title: "German".to_owned() }],
        }),
        health: health(),
        console: true,
        timeline: [Boot, Login, Choose, Check, Lock, Open, Restore, Run, Save, Commit, Unlock, Wipe, Verify]
            .map(record_of)
            .into(),
    }
}

/// Messages between parts of one kiosk, which are always of one release.
fn local() -> Vec<Message> {
    let parcel = sample::parcel_id();
    let daemon_requests = {
        use daemon::Request::*;
        let key = sample::parcel_key().to_hex().into();
        let (inventory, kiosk) = (sample::inventory(), "A".to_owned());
        [
            Session { token: "t".into() },
            Parcels,
            Slots { parcel },
            PutSlots { parcel, slots: "{\"format\":1}\n".to_owned() },
            Key { parcel, key },
            Lock { parcel, kiosk, boot: BootId([2; 16]), inventory, break_lock: true, cold_boot: true },
            Open { parcel, policy: Policy::Baseline, cold_boot: true, memory_mib: Some(512) },
            Commit,
            Rescue,
            MemoryLost,
            GoesOn,
            Recover { parcel },
            Learn,
            Unlock,
            Status,
            Watch,
            Quit,
        ]
    };
    let daemon_replies = {
        use daemon::Reply::*;
        [
            Ok,
            Parcels { parcels: vec![parcel_info()] },
            Slots { slots: "{}".to_owned() },
            Locked(lock_reply()),
            Committed { version: Version(8), bytes: 99, memory_lost: true },
            Status(status()),
            Error(error()),
        ]
    };
    let regions = vec![Region { guest_addr: 0, file_offset: 0, len: 512 << 20 }];
    let guest_requests = {
        use guest::Request::*;
        [Describe, Memory { regions }, Save { device_model: 2 }, PoweredOff]
    };
    let machine = |start| guest::Reply::Machine {
        machine: sample::machine(),
        start,
        disk_socket: "/run/waystation/disk.sock".to_owned(),
    };
    let guest_replies = [
        machine(Start::Cold { cmdline: "ro".to_owned() }),
        machine(Start::Restore),
        guest::Reply::Ready,
        guest::Reply::Saved,
        guest::Reply::Error(error()),
    ];
    let vmm_requests = {
        use vmm::Request::*;
        [Status, Pause, Resume, Save, ConsoleSize { cols: 80, rows: 25 }, PowerButton, Quit]
    };
    let vmm_replies = {
        use GuestState::*;
        let status = [Starting, Running, Paused, PoweredOff, Failed].map(|state| vmm::Reply::Status {
            state,
            failure: (state == Failed).then(error),
            clock_behind: state == Running,
        });
        status.into_iter().chain([vmm::Reply::Ok, vmm::Reply::Error(error())])
    };
    let commands = {
        use Command::*;
        [
            LoggedIn(login()),
            Opened(proof()),
            Resume { parcel, name: "desktop".to_owned(), cold_boot: true, break_lock: true },
            Suspend,
            Lock,
            Unlocked,
            WrongPassword,
            GiveUp,
            LogOut,
            Dismiss,
            ConsoleSize { cols: 80, rows: 25 },
            Keyboard { layout: "de".to_owned() },
            Diagnose,
            PowerOff,
            Reboot,
        ]
    };
    [
        messages_of(daemon_requests),
        messages_of(daemon_replies),
        messages_of(guest_requests),
        messages_of(guest_replies),
        messages_of(vmm_requests),
        messages_of(vmm_replies),
        messages_of(commands),
        messages_of([state()]),
        messages_of([record_of(Phase::Boot)]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Messages between machines that may be of different releases, and files that outlive one.
fn lasting() -> Vec<Message> {
    let kiosk = Kiosk {
        name: None,
        title: "Lobby".to_owned(),
        realm: Realm {
            name: "EXAMPLE.ORG".to_owned(),
            kdc: vec!["kdc:88".to_owned()],
            kpasswd: None,
            ..Realm::default()
        },
        server_url: "https://parcels.example.org".to_owned(),
        hosts: [("parcels.example.org".to_owned(), [10, 0, 2, 2].into())].into(),
        console: "tty1".to_owned(),
        log: Some("ttyS1".to_owned()),
        keymap: "de".to_owned(),
        clock: Clock { ntp: vec!["ntp.example.org".to_owned()] },
        session: Session::default(),
        cache: Cache {
            kind: CacheKind::Auto,
            device: CacheDevice::Partuuid("4f68bce3-e8cd-4db1-96e7-fbcaf984b709".to_owned()),
            size_mib: 0,
            zstd_level: 3,
        },
        wipe: Wipe { discard: true, power_off_on_failure: false },
    };
    let session =
        SessionReply { token: "t".into(), principal: "shanta@EXAMPLE.ORG".to_owned(), expires_in: 3600 };
    let create = CreateParcel {
        id: sample::parcel_id(),
        name: "desktop".to_owned(),
        owner: "shanta@EXAMPLE.ORG".to_owned(),
        kiosk: "import".to_owned(),
        boot: BootId([2; 16]),
        claim: claim(),
        rescues: Some(Rescue { parcel: sample::parcel_id(), claim: claim() }),
    };
    let version = VersionInfo {
        version: Version(7),
        parent: Version(5),
        created_at: 1_700_000_000,
        kiosk: "lobby-3".to_owned(),
        suspended: true,
        memory_lost: false,
    };
    let base = Base { store: store().id, version: Version(7), record: RecordHash::of(b"record") };
    let lock = |inventory, again| LockRequest {
        kiosk: "lobby-3".to_owned(),
        boot: BootId([2; 16]),
        claim: claim(),
        again,
        inventory,
        cold_boot: true,
    };
    let mut unlocked = parcel_info();
    (unlocked.lock, unlocked.tag, unlocked.suspended_at) = (None, None, None);
    [
        messages_of([session]),
        messages_of([Health {
            ok: true,
            server: "parcel-server 0.1.0".to_owned(),
            time: 1_700_000_000,
            store: store(),
        }]),
        messages_of([vec![parcel_info(), unlocked]]),
        messages_of([create]),
        messages_of([lock(None, Some(base)), lock(Some(sample::inventory()), None)]),
        messages_of([lock_reply()]),
        messages_of([vec![version]]),
        messages_of([error(), WireError::new(Code::StaleEpoch, "the lock was broken elsewhere")]),
        messages_of([kiosk]),
        messages_of([sample::tag()]),
        messages_of([sample::inventory()]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_message_goes_round_in_one_line() {
    for Message { kind, line, reread } in local().into_iter().chain(lasting()) {
        assert!(!line.contains('\n') && line.len() < MAX_LINE, "{kind}");
        assert_eq!(reread(&line).as_ref(), Ok(&line), "{kind}");
    }
}

/// Golden lines, one a message: the type's last name, a tab, the JSON. A later release may add fields; what was said before it
/// still means the same.
#[test]
fn v1_what_was_said_is_still_understood() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/wire.txt");
    let name = |kind: &'static str| kind.replace("parcel::wire::", "").replace("parcel::tag::", "");
    let messages: Vec<_> = lasting().into_iter().collect();
    if std::env::var_os("BLESS").is_some() && !std::path::Path::new(path).exists() {
        let text: String =
            messages.iter().map(|message| format!("{}\t{}\n", name(message.kind), message.line)).collect();
        std::fs::write(path, text).unwrap();
    }
    let text = std::fs::read_to_string(path).expect("written with BLESS=1");
    assert!(text.lines().count() >= 13);
    for line in text.lines() {
        let (kind, json) = line.split_once('\t').unwrap();
        let message = messages.iter().find(|message| {
            name(message.kind).replace("alloc::vec::", "") == kind.replace("alloc::vec::", "")
        });
        let message = message.unwrap_or_else(|| panic!("nobody reads {kind} any more"));
        let again = (message.reread)(json).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let (before, after) = [json, &again].map(|json| serde_json::from_str::<Value>(json).unwrap()).into();
        assert!(contains(&after, &before), "{kind}: {before} became {after}");
    }
}

/// `true` when everything in `part` is in `whole` too.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

#[test]
fn what_may_be_left_out_may_be_left_out() {
    let mut reply = serde_json::to_value(lock_reply()).unwrap();
    reply.as_object_mut().unwrap().remove("misses");
    let reply: LockReply = serde_json::from_value(reply).unwrap();
    assert!(reply.misses.is_empty());
    let error: WireError = serde_json::from_str(r#"{"code":"another-code","message":"m"}"#).unwrap();
    assert_eq!((error.to_string().as_str(), error.holder), ("m [another-code]", None));
    let lock = r#"{"cmd":"resume","parcel":"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf","name":"desktop"}"#;
    let command: Command = serde_json::from_str(lock).unwrap();
    let expected = Command::Resume {
        parcel: sample::parcel_id(),
        name: "desktop".to_owned(),
        cold_boot: false,
        break_lock: false,
    };
    assert_eq!(command, expected);
}

#[test]
fn a_misspelt_kiosk_setting_is_refused() {
    let message = lasting().into_iter().find(|message| message.kind.ends_with("::Kiosk")).unwrap();
    let wrong = message.line.replace("\"discard\"", "\"discrad\"");
    assert!((message.reread)(&wrong).unwrap_err().contains("unknown field `discrad`"));
}
