//! Whatever `init` says, whatever is typed and however small the terminal: a picture is drawn, and the password is not in it.

use crate::desk::*;
use kiosk_ui::app::Dialog;
use kiosk_ui::event::{Event, OpenError};
use kiosk_ui::trouble::Trouble;
use parcel::{
    id::{BootId, Epoch, ParcelId, Version},
    tag::Miss,
    wire::{
        Code, Progress, WireError,
        clock::{ClockState, Source},
        daemon::{Status, Waiting},
        diagnosis::{self, Check, Diagnosis, StepFound},
        health::Health,
        hold::ClaimTag,
        http::{LockInfo, ParcelInfo},
        memory::Room,
        session::{Keyboard, KeyboardLayout, Login, Phase, PhaseRecord, State, WipeCheck, WipeReport},
    },
};
use proptest::{option, prelude::*, sample::select};

fn phase() -> impl Strategy<Value = Phase> {
    use Phase::*;
    select(vec![
        Boot,
        Login,
        Choose,
        Phase::Check,
        Lock,
        Open,
        Restore,
        Run,
        Save,
        Commit,
        Rescue,
        Unlock,
        Wipe,
        Verify,
    ])
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,60}",
        "\\PC{0,30}",
        any::<String>(),
        Just("long ".repeat(5000)),
        Just("x".repeat(3000))
    ]
}

fn progress() -> impl Strategy<Value = Progress> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(done, total, rate)| Progress { done, total, rate })
}

fn miss() -> impl Strategy<Value = Miss> {
    (any::<bool>(), words(), words(), words()).prop_map(|(must, item, needed, found)| Miss {
        must,
        item,
        needed,
        found,
    })
}

fn waiting() -> impl Strategy<Value = Waiting> {
    (any::<u64>(), any::<u64>(), words(), words()).prop_map(|(pieces, seconds, reason, code)| Waiting {
        pieces,
        seconds,
        reason,
        code: Code::from(code.as_str()),
    })
}

fn lock() -> impl Strategy<Value = LockInfo> {
    (words(), words(), any::<u64>()).prop_map(|(principal, kiosk, since)| LockInfo {
        principal,
        kiosk,
        boot: BootId([1; 16]),
        claim: ClaimTag([1; 16]),
        epoch: Epoch(1),
        since,
    })
}

fn wire_error() -> impl Strategy<Value = WireError> {
    (words(), words(), prop::collection::vec(miss(), 0..15), option::of(lock())).prop_map(
        |(code, message, misses, holder)| WireError {
            code: Code::from(code.as_str()),
            message,
            misses,
            holder,
        },
    )
}

fn wipe_report() -> impl Strategy<Value = WipeReport> {
    let check = (words(), any::<bool>(), words()).prop_map(|(what, ok, found)| WipeCheck { what, ok, found });
    (any::<bool>(), option::of(any::<u64>()), prop::collection::vec(check, 0..40)).prop_map(
        |(verified, committed, checks)| WipeReport { verified, committed: committed.map(Version), checks },
    )
}

fn record() -> impl Strategy<Value = PhaseRecord> {
    (phase(), any::<f64>(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
        |(phase, seconds, bytes_in, bytes_out, ok)| PhaseRecord {
            kiosk: "k".into(),
            phase,
            seconds,
            bytes_in,
            bytes_out,
            ok,
        },
    )
}

// Boxed: strategies within strategies outgrow a test's stack.
fn keyboard_of() -> BoxedStrategy<Option<Keyboard>> {
    let layout = (words(), words()).prop_map(|(name, title)| KeyboardLayout { name, title });
    let keyboard = (words(), prop::collection::vec(layout, 0..40))
        .prop_map(|(layout, layouts)| Keyboard { layout, layouts });
    option::of(keyboard).boxed()
}

fn room() -> impl Strategy<Value = Room> {
    prop::sample::select(&[Room::Enough, Room::Little, Room::None][..])
}

fn health() -> BoxedStrategy<Health> {
    let clock = (words(), any::<i64>()).prop_map(|(server, moved)| ClockState {
        source: Source::Dhcp { server },
        moved,
        problems: vec![],
    });
    let step = (words(), words()).prop_map(|(found, remedy)| StepFound {
        check: Check::Clock,
        health: diagnosis::Health::Bad,
        found,
        remedy,
    });
    let diagnosis = (prop::collection::vec(step, 0..7), prop::collection::vec(words(), 0..40))
        .prop_map(|(steps, log)| Diagnosis { steps, log });
    let battery = any::<Option<u8>>();
    (any::<bool>(), prop::collection::vec(words(), 0..4), battery, clock, option::of(diagnosis), room())
        .prop_map(|(passing_name, refused, low_battery, clock, diagnosis, room)| Health {
            passing_name,
            refused,
            low_battery,
            clock,
            diagnosis,
            room,
        })
        .boxed()
}

prop_compose! {
    fn any_state()(
        phase in phase(),
        (kiosk, doing, network_detail) in (words(), words(), words()),
        (network, parcel) in (option::of(words()), option::of(words())),
        progress in option::of(progress()),
        login in option::of((words(), any::<(u64, u64)>()).prop_map(|(principal, (ends, began))| Login { principal, ends, began })),
        notice in option::weighted(0.2, wire_error()),
        wishes_missed in prop::collection::vec(miss(), 0..4),
        waiting in option::of(waiting()),
        report in option::weighted(0.2, wipe_report()),
        (console, clock_behind, image) in (any::<bool>(), any::<bool>(), words()),
        timeline in prop::collection::vec(record(), 0..30),
        (locked, keyed, health, presses) in (any::<bool>(), keyboard_of(), health(), 0u32..4),
    ) -> State {
        State {
            kiosk, phase, doing, progress, network, network_detail, login, parcel, notice, wishes_missed, waiting, report,
            keyboard: keyed,
            health, console, timeline, clock_behind, image,
            parcel_id: Some(ParcelId([7; 16])), locked, failures: 0,
            proof: Some(proof()), presses,
        }
    }
}

fn parcel_info() -> impl Strategy<Value = ParcelInfo> {
    (
        any::<[u8; 16]>(),
        words(),
        option::of(lock()),
        option::of(any::<u64>()),
        option::of(words()),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(id, name, lock, suspended_at, suspended_on, n, suspended)| {
            let mut tag = parcels()[0].tag.clone();
            if let Some(tag) = &mut tag {
                tag.memory_mib = n;
            }
            ParcelInfo {
                id: ParcelId(id),
                name,
                lock,
                suspended_at,
                suspended_on,
                disk_bytes: n,
                suspended,
                memory_lost: !suspended && n % 2 == 0,
                tag: tag.filter(|_| n % 3 != 0),
                ..parcels()[0].clone()
            }
        })
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Keys(Vec<u8>),
    Chosen(char),
    Password,
    Resize(u16, u16),
    State(Box<State>),
    /// The state as `init` would send it, with one byte changed: what still parses is shown.
    Mangled(Box<State>, usize, u8),
    Parcels(Vec<ParcelInfo>),
    Answer(bool, u64),
    Console(Vec<u8>),
    Status(Status),
    Lost(bool),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status =
        (any::<u64>(), option::of(progress()), option::of(waiting())).prop_map(|(n, progress, waiting)| {
            Step::Status(Status {
                bytes_in: n,
                bytes_out: n,
                progress,
                waiting,
                dirty_chunks: n,
                ..Status::default()
            })
        });
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Step::Keys),
        6 => select("\r\t\x1b\x1d\x0f\x0b\x0e\x10 bcdgjklnpqrsy".chars().collect::<Vec<_>>()).prop_map(Step::Chosen),
        2 => Just(Step::Password),
        2 => (0u16..150, 0u16..60).prop_map(|(cols, rows)| Step::Resize(cols, rows)),
        4 => any_state().prop_map(|state| Step::State(Box::new(state))),
        2 => phase().prop_map(|phase| Step::State(Box::new(state(phase)))),
        1 => (any_state(), any::<usize>(), any::<u8>()).prop_map(|(s, at, byte)| Step::Mangled(Box::new(s), at, byte)),
        2 => prop::collection::vec(parcel_info(), 0..30).prop_map(Step::Parcels),
        4 => (any::<bool>(), 0u64..12).prop_map(|(good, attempt)| Step::Answer(good, attempt)),
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Step::Console),
        1 => status,
        1 => any::<bool>().prop_map(Step::Lost),
        1 => any::<u64>().prop_map(Step::Tick),
    ]
}

fn take(desk: &mut Desk, step: Step) {
    match step {
        Step::Keys(bytes) => desk.keys(&String::from_utf8_lossy(&bytes)),
        Step::Chosen(key) => desk.keys(&key.to_string()),
        Step::Password => {
            // Typed where passwords are typed; in the user field it would be the user's own doing.
            let at_user = desk.app.view() == kiosk_ui::app::View::Login
                && desk.app.login.focus == kiosk_ui::app::Field::User;
            if at_user {
                desk.keys("\t");
            }
            let here = desk.app.dialog == Some(Dialog::LogIn)
                || (desk.app.dialog.is_none() && desk.app.view() != kiosk_ui::app::View::Run);
            if here {
                desk.did();
                desk.keys(PASSWORD);
                assert!(!desk.did().iter().any(|did| matches!(did, Did::Typed(_))), "the guest is typed to");
            }
        }
        Step::Resize(cols, rows) => desk.event(Event::Resize(cols, rows)),
        Step::State(state) => desk.state(*state),
        Step::Mangled(state, at, byte) => {
            let mut json = serde_json::to_vec(&*state).expect("a state is JSON");
            let at = at % json.len();
            json[at] = byte;
            if let Ok(state) = serde_json::from_slice(&json) {
                desk.state(state);
            }
        }
        Step::Parcels(parcels) => desk.list(Ok(parcels)),
        Step::Answer(good, attempt) => {
            let trouble = || Trouble::new("It did not work.", Code::InternalError);
            desk.event(Event::LoggedIn {
                attempt,
                result: if good { Ok(session()) } else { Err(trouble()) },
            });
            desk.event(Event::Adopted { attempt, result: if good { Ok(()) } else { Err(trouble()) } });
            let chosen = desk.app.opening.as_ref().map(|opening| &opening.unlocking);
            if let Some(parcel) =
                chosen.or(desk.app.again.unlocking.as_ref()).map(|unlocking| unlocking.parcel)
            {
                let result = if good { Ok(proof()) } else { Err(OpenError::Wrong) };
                desk.event(Event::Opened { attempt, parcel, result });
            }
        }
        Step::Console(bytes) => desk.event(Event::Console(bytes)),
        Step::Status(status) => desk.event(Event::Status(status)),
        Step::Lost(console) => desk.event(if console { Event::ConsoleLost } else { Event::InitLost }),
        Step::Tick(now) => desk.event(Event::Tick(now)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_course_of_events_is_drawn_without_the_password(steps in prop::collection::vec(step(), 1..40)) {
        let mut desk = Desk::at_login();
        for step in steps {
            take(&mut desk, step);
            // But when it was asked for.
            prop_assert!(desk.app.shows_password() || !desk.text().contains(PASSWORD));
        }
    }
}
