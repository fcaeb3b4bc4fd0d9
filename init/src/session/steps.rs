//! What each phase of a session does, and what takes it back.

use super::{
    Kiosk, Stop,
    recover::recover,
    words::{MEMORY_LOST, brief, cached_died, extend, noticed, suspended_for, vmm_died},
};
use crate::system::{Changes, Event, Lock, Role, Sign};
use parcel::wire::{
    Code, Fate, Stake, WireError,
    daemon::{self, Policy, Waiting},
    session::{Command, Phase},
    vmm::{self, GuestState},
};
use std::time::Duration;

/// What is said of a machine whose memory cannot be committed: what the VMM saved is not there, or is of no use. Its disk is there.
const MEMORY_IS_OF_NO_USE: [Code; 2] = [Code::NothingSaved, Code::BadMemoryImage];

/// A phase of a session.
pub struct Step {
    /// The phase that this step runs.
    pub phase: Phase,
    /// What the traveller reads meanwhile.
    pub doing: &'static str,
    /// Does it.
    pub(super) run: fn(&mut Kiosk<'_>) -> Result<(), Stop>,
    /// Takes back what it did, also when it only did half.
    pub undo: Undo,
}

/// What takes a phase back.
pub struct Undo {
    /// For the log.
    pub what: &'static str,
    pub(super) run: fn(&mut Kiosk<'_>) -> Result<(), WireError>,
}

/// A session between two wipes, in order. Wipe and verification follow always and need no undo.
pub const SESSION: [Step; 10] = [
    Step {
        phase: Phase::Login,
        doing: "Waiting for a traveller",
        run: login,
        undo: Undo { what: "forget the login", run: forget_login },
    },
    Step {
        phase: Phase::Choose,
        doing: "Choose what to resume",
        run: choose,
        undo: Undo { what: "forget the choice", run: forget_choice },
    },
    Step {
        phase: Phase::Check,
        doing: "Measuring this kiosk's hardware",
        run: check,
        undo: Undo { what: "nothing was taken", run: nothing },
    },
    Step {
        phase: Phase::Lock,
        doing: "Asking the server for your computer",
        run: lock,
        undo: Undo { what: "release the lock", run: release_lock },
    },
    Step {
        phase: Phase::Open,
        doing: "Opening your computer",
        run: open,
        undo: Undo { what: "nothing was changed on the server", run: nothing },
    },
    Step {
        phase: Phase::Restore,
        doing: "Bringing your computer back",
        run: restore,
        undo: Undo { what: "end the virtual machine", run: end_machine },
    },
    Step {
        phase: Phase::Run,
        doing: "Your computer is running",
        run: work,
        undo: Undo { what: "nothing was committed", run: nothing },
    },
    Step {
        phase: Phase::Save,
        doing: "Pausing your computer and saving it",
        run: save,
        undo: Undo { what: "let the machine continue", run: go_on },
    },
    Step {
        phase: Phase::Commit,
        doing: "Sending your changes home",
        run: commit,
        undo: Undo { what: "the server keeps the version before", run: nothing },
    },
    Step {
        phase: Phase::Unlock,
        doing: "Releasing the lock",
        run: unlock,
        undo: Undo { what: "the version committed stands", run: nothing },
    },
];

/// What follows a commit whose lock the owner has broken elsewhere.
pub const RESCUE: Step = Step {
    phase: Phase::Rescue,
    doing: "Your lock was broken. Sending your changes home as a computer of their own",
    run: rescue,
    undo: Undo { what: "nothing of it stays on the server", run: nothing },
};

/// What takes the place of [`Phase::Save`] when there is no memory to save.
pub const DISK_ONLY: Step = Step {
    phase: Phase::Save,
    doing: "Your machine stopped. Keeping its disk",
    run: disk_only,
    undo: Undo { what: "the server keeps the version before", run: nothing },
};

/// What takes the place of [`Phase::Save`] when `cached` has gone: its successor finds the changes, with the user's password.
pub const RECOVER: Step = Step {
    phase: Phase::Save,
    doing: "Your machine stopped. Keeping its disk",
    run: recover,
    undo: Undo { what: "the server keeps the version before", run: nothing },
};

/// How long an undo waits for the server before it leaves the lock to be broken later.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);
/// How long a lock is given back when everything is home. Nothing but a take-over at the next log-in is at stake, and a
/// kiosk that waits still holds the session's keys.
const UNLOCK_LIMIT: Duration = Duration::from_secs(120);
/// How long the server is asked what became of a commit or lock whose answer is missing.
const LEARN_LIMIT: Duration = Duration::from_secs(5);
/// Longest name of a parcel that is shown, in characters.
const LONGEST_NAME: usize = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

fn nothing(_: &mut Kiosk<'_>) -> Result<(), WireError> {
    Ok(())
}

fn login(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    loop {
        if let Some(Event::Command(Command::LoggedIn(login))) = kiosk.next(None)? {
            kiosk.state.login = Some(login);
            kiosk.state.report = None;
            kiosk.state.notice = None;
            // From here on somebody is there to whom a crash has to be explained.
            kiosk.sys.remember(Some(&kiosk.live));
            return Ok(());
        }
    }
}

fn forget_login(kiosk: &mut Kiosk<'_>) -> Result<(), WireError> {
    if kiosk.alive.contains(&Role::Cached) {
        kiosk.cached_within(daemon::Request::Quit, Duration::from_secs(2))?;
    }
    Ok(())
}

fn choose(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    loop {
        if let Some(Event::Command(Command::Resume { parcel, name, cold_boot, break_lock })) =
            kiosk.next(None)?
        {
            // Without it nobody could unlock the session or give it up.
            if kiosk.state.proof.is_none() {
                kiosk.sys.log("a computer was chosen that no password has opened: ignored");
                continue;
            }
            kiosk.parcel = Some(parcel);
            kiosk.state.parcel_id = Some(parcel);
            kiosk.state.parcel = Some(name.chars().take(LONGEST_NAME).collect());
            kiosk.cold_boot = cold_boot;
            kiosk.break_lock = break_lock;
            kiosk.state.notice = None;
            return Ok(());
        }
    }
}

fn forget_choice(kiosk: &mut Kiosk<'_>) -> Result<(), WireError> {
    kiosk.parcel = None;
    kiosk.state.parcel = None;
    kiosk.state.parcel_id = None;
    kiosk.state.proof = None;
    Ok(())
}

fn check(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    let ticket = kiosk.sys.inventory();
    loop {
        if let Some(Event::Inventory(got, reply)) = kiosk.next(None)?
            && got == ticket
        {
            let inventory = reply.map_err(|error| Stop::Failed(brief(error)))?;
            kiosk.memory_mib = Some(inventory.memory_mib);
            kiosk.inventory = Some(inventory);
            return Ok(());
        }
    }
}

fn lock(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    let (Some(parcel), Some(inventory)) = (kiosk.parcel, kiosk.inventory.take()) else {
        return Err(out_of_order("lock"));
    };
    let kiosk_name = kiosk.settings.name.clone();
    let boot = kiosk.settings.boot;
    // Until the answer is here the lock may be ours: an undo has to release it.
    kiosk.live.lock = Lock::Asked;
    kiosk.sys.remember(Some(&kiosk.live));
    let request = daemon::Request::Lock {
        parcel,
        kiosk: kiosk_name,
        boot,
        inventory,
        break_lock: kiosk.break_lock,
        cold_boot: kiosk.cold_boot,
    };
    match kiosk.try_cached(request)? {
        Ok(daemon::Reply::Locked(reply)) => {
            kiosk.live.version = reply.version;
            kiosk.live.lock = Lock::Held;
            kiosk.state.wishes_missed = reply.misses;
            kiosk.sys.remember(Some(&kiosk.live));
            Ok(())
        }
        Ok(_) => Err(unexpected("the lock")),
        Err(error) => {
            // Refused is not held. A request that broke off may have been heard all the same.
            if !error.code.in_doubt() {
                kiosk.live.lock = Lock::None;
                kiosk.sys.remember(Some(&kiosk.live));
            }
            Err(Stop::Failed(error))
        }
    }
}

fn release_lock(kiosk: &mut Kiosk<'_>) -> Result<(), WireError> {
    if kiosk.live.lock == Lock::None {
        return Ok(());
    }
    if kiosk.forgotten {
        return Err(cached_died("before it was asked"));
    }
    kiosk.state.phase = Phase::Unlock;
    kiosk.state.doing = format!("Releasing the lock, for up to {} seconds", RELEASE_LIMIT.as_secs());
    kiosk.state.progress = None;
    kiosk.publish();
    let until = kiosk.sys.now() + RELEASE_LIMIT;
    loop {
        let left = until.saturating_sub(kiosk.sys.now());
        match kiosk.cached_within(daemon::Request::Unlock, left) {
            Ok(_) => break,
            // The step that was just cancelled has not ended yet.
            Err(error) if error.code == Code::StepUnderWay && !left.is_zero() => kiosk.pause(BUSY_PAUSE),
            Err(error) => {
                let asked = kiosk.alive.contains(&Role::Cached) && error.code != Code::StepUnderWay;
                if asked && kiosk.live.lock == Lock::Held {
                    kiosk.live.lock = Lock::Returned;
                }
                return Err(error);
            }
        }
    }
    kiosk.live.lock = Lock::None;
    if kiosk.live.changes == Changes::InDoubt {
        learn(kiosk)?;
    }
    Ok(())
}

/// Asks the server what became of a commit whose answer is missing. Nothing that this kiosk sent before the lock was given
/// back takes effect after it.
fn learn(kiosk: &mut Kiosk<'_>) -> Result<(), WireError> {
    let daemon::Reply::Learned { held, committed } =
        kiosk.cached_within(daemon::Request::Learn, LEARN_LIMIT)?
    else {
        return Ok(());
    };
    if held {
        kiosk.live.lock = Lock::Held;
    }
    match committed {
        Some(true) => kiosk.home(kiosk.live.version.next()),
        // The next version is not there, or it is of whoever broke the lock.
        Some(false) => kiosk.live.changes = Changes::Unsaved,
        None => {}
    }
    Ok(())
}

fn open(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    let Some(parcel) = kiosk.parcel else { return Err(out_of_order("open")) };
    let policy = Policy::default();
    let (cold_boot, memory_mib) = (kiosk.cold_boot, kiosk.memory_mib);
    kiosk.cached(daemon::Request::Open { parcel, policy, cold_boot, memory_mib })?;
    Ok(())
}

fn restore(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    kiosk.guest = Some(GuestState::Starting);
    kiosk.sys.start(Role::Vmm).map_err(Stop::Failed)?;
    kiosk.alive.insert(Role::Vmm);
    while !matches!(kiosk.guest, Some(GuestState::Running | GuestState::PoweredOff | GuestState::Failed)) {
        kiosk.next(None)?;
    }
    kiosk.tell_size();
    Ok(())
}

fn end_machine(kiosk: &mut Kiosk<'_>) -> Result<(), WireError> {
    kiosk.end_vmm();
    Ok(())
}

fn work(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    kiosk.live.changes = Changes::Unsaved;
    kiosk.sys.remember(Some(&kiosk.live));
    kiosk.state.console = true;
    kiosk.publish();
    while kiosk.guest != Some(GuestState::PoweredOff) {
        match kiosk.next(None)? {
            Some(Event::Command(Command::Suspend)) => kiosk.state.notice = None,
            Some(Event::Sign(sign)) => {
                // Shown when the session is over, to whoever finds it suspended.
                kiosk.state.notice = match sign {
                    Sign::Battery(percent) => Some(suspended_for(percent)),
                    Sign::Button | Sign::Lid | Sign::Powered => None,
                };
                // Whoever does that leaves. Should the save fail, the session goes on, and not for whoever is next.
                kiosk.state.locked |= matches!(sign, Sign::Button | Sign::Lid);
                kiosk.sign = Some(sign);
            }
            Some(Event::Exited { role: Role::Vmm, how }) if kiosk.guest != Some(GuestState::PoweredOff) => {
                return Err(Stop::MemoryLost(vmm_died(&how)));
            }
            _ => continue,
        }
        break;
    }
    Ok(())
}

fn save(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    kiosk.state.console = false;
    if let Some(sign) = kiosk.sign.take() {
        kiosk.state.doing = format!("{}. {}", noticed(sign), kiosk.state.doing);
    }
    kiosk.publish();
    // A guest that powered itself off has told `cached` so: there is a disk to commit and no memory.
    if kiosk.guest != Some(GuestState::PoweredOff) {
        let saved = match kiosk.try_vmm(vmm::Request::Save) {
            // The VMM hung up, which costs no more than any other error of it.
            Err(Stop::Failed(error)) if kiosk.alive.contains(&Role::Cached) => Err(error),
            answered => answered?,
        };
        match saved {
            Ok(_) => {}
            // It powered itself off meanwhile.
            Err(_) if kiosk.guest == Some(GuestState::PoweredOff) => {}
            Err(error) if matches!(error.code, Code::VmmUnreadable | Code::VmmDied) => {
                return Err(Stop::MemoryLost(error));
            }
            Err(error) => return Err(Stop::GoOn(error)),
        }
    }
    kiosk.end_vmm();
    Ok(())
}

/// Without the machine's memory there is its disk, which nothing but the user gives up. If that did not change, the version
/// before has it, with its memory.
fn disk_only(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    kiosk.state.console = false;
    kiosk.publish();
    kiosk.end_vmm();
    match keep(kiosk, daemon::Request::MemoryLost)? {
        daemon::Reply::Ok => changed(kiosk),
        // The VMM did that before it died.
        daemon::Reply::Kept => {
            kiosk.sys.log("the machine was handed over before the VMM ended: nothing is lost");
            kiosk.memory_lost = None;
            Ok(())
        }
        _ => Err(unexpected("the lost memory")),
    }
}

fn changed(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    if kiosk.ask_status().is_some_and(|status| status.dirty_chunks == 0) {
        let why = kiosk.memory_lost.take().unwrap_or_else(|| vmm_died("unknown"));
        return Err(Stop::Failed(why));
    }
    Ok(())
}

/// Only after a failed save is there a machine that can go on.
fn go_on(kiosk: &mut Kiosk<'_>) -> Result<(), WireError> {
    if kiosk.walking {
        return Ok(());
    }
    if !kiosk.alive.contains(&Role::Vmm) {
        return Err(vmm_died("while it was saved"));
    }
    let went = kiosk.try_cached(daemon::Request::GoesOn).and_then(|forgotten| match forgotten {
        Ok(_) => kiosk.try_vmm(vmm::Request::Resume).map(|resumed| resumed.map(|_| ())),
        Err(error) => Ok(Err(error)),
    });
    match went {
        Ok(answer) => answer,
        Err(
            Stop::Failed(error)
            | Stop::GoOn(error)
            | Stop::Broken(error)
            | Stop::MemoryLost(error)
            | Stop::EngineLost(error),
        ) => Err(error),
        Err(_) => Err(WireError::new(Code::GaveUp, "You gave the session up.")),
    }
}

fn commit(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    kiosk.live.changes = Changes::InDoubt;
    kiosk.sys.remember(Some(&kiosk.live));
    let answer = match kiosk.try_cached(daemon::Request::Commit) {
        // The proof that the owner broke the lock.
        Ok(Err(error)) if error.code == Code::StaleEpoch => {
            kiosk.live.changes = Changes::Unsaved;
            kiosk.sys.remember(Some(&kiosk.live));
            return Err(Stop::Broken(error));
        }
        Ok(answer) => is_home(kiosk, answer),
        Err(stop) => Err(stop),
    };
    match answer {
        Ok(daemon::Reply::Committed { version, bytes, memory_lost }) => {
            kiosk.sys.log(&format!("version {version} committed, {bytes} bytes sent"));
            kiosk.came_home(memory_lost);
            kiosk.home(version);
            kiosk.sys.remember(Some(&kiosk.live));
            if let Some(why) = kiosk.memory_lost.clone() {
                kiosk.state.notice = Some(extend(why, MEMORY_LOST));
            }
            Ok(())
        }
        Ok(_) => Err(unexpected("the commit")),
        Err(stop) => {
            // Nothing was sent.
            let refused =
                kiosk.stuck.as_ref().is_some_and(|stuck| stuck.code.fate(Stake::Work) == Fate::Final);
            // Pieces go first: while some are missing, the record that makes them a version has not been sent.
            let sending = |status: &daemon::Status| status.progress.is_some_and(|p| p.done < p.total);
            let unsent = refused || kiosk.ask_status().is_some_and(sending);
            if unsent && !kiosk.perhaps_heard {
                kiosk.live.changes = Changes::Unsaved;
            }
            Err(stop)
        }
    }
}

fn rescue(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    match keep(kiosk, daemon::Request::Rescue)? {
        daemon::Reply::Rescued { name, bytes, memory_lost, .. } => {
            kiosk.came_home(memory_lost);
            kiosk.sys.log(&format!("the changes are home as a parcel of their own, {bytes} bytes sent"));
            kiosk.live.changes = Changes::None;
            kiosk.sys.remember(Some(&kiosk.live));
            let text = format!(
                "The lock of your computer was broken elsewhere, so what you did here is saved as a computer of its own: \
                 \u{201c}{name}\u{201d}."
            );
            let text = match &kiosk.memory_lost {
                Some(why) => format!("{} {text}{MEMORY_LOST}", why.message),
                None => text,
            };
            kiosk.state.notice = Some(brief(WireError::new(Code::Rescued, text)));
            Ok(())
        }
        _ => Err(unexpected("the rescue")),
    }
}

fn unlock(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    kiosk.live.lock = Lock::Returned;
    kiosk.sys.remember(Some(&kiosk.live));
    let until = kiosk.sys.now() + UNLOCK_LIMIT;
    match kiosk.try_cached_until(daemon::Request::Unlock, Some(until))? {
        Some(answer) => answer.map_err(Stop::Failed)?,
        None => {
            let why = match kiosk.status.waiting.as_ref().is_some_and(Waiting::needs_login) {
                true => "Your log-in had run out, and nobody logged in again.",
                false => "The parcel server does not answer.",
            };
            return Err(Stop::Failed(WireError::new(Code::StillLocked, why)));
        }
    };
    kiosk.live.lock = Lock::None;
    kiosk.sys.remember(Some(&kiosk.live));
    Ok(())
}

/// Has `cached` see to a user's work.
fn keep(kiosk: &mut Kiosk<'_>, request: daemon::Request) -> Result<daemon::Reply, Stop> {
    let answer = kiosk.try_cached(request)?;
    is_home(kiosk, answer)
}

/// `cached` asks the server until the work is home, so what it answers is its last word. An error is a fault of the kiosk; even
/// then only the user ends the session.
fn is_home(kiosk: &mut Kiosk<'_>, answer: Result<daemon::Reply, WireError>) -> Result<daemon::Reply, Stop> {
    let error = match answer {
        Ok(reply) => return Ok(reply),
        Err(error) if MEMORY_IS_OF_NO_USE.contains(&error.code) && !kiosk.without_memory => {
            kiosk.without_memory = true;
            return Err(Stop::MemoryLost(error));
        }
        Err(error) => error,
    };
    kiosk.sys.log(&format!("waiting for the user to give up [{}]", error.code));
    kiosk.stuck = Some(Waiting { pieces: 1, seconds: 0, reason: error.message, code: error.code });
    kiosk.publish();
    loop {
        kiosk.next(None)?;
    }
}

pub(super) fn unexpected(what: &str) -> Stop {
    Stop::Failed(WireError::new(
        Code::BadAnswer,
        format!(
            "The client engine's answer about {what} was not understood; this kiosk's image is damaged or mixed."
        ),
    ))
}

pub(super) fn out_of_order(phase: &str) -> Stop {
    Stop::Failed(WireError::new(Code::OutOfOrder, format!("Phase {phase} began without what it needs.")))
}
