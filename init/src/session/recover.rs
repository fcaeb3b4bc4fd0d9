//! After the client engine died in a session: its successor finds the changes, once it has the parcel key again.

use super::{
    Kiosk, Stop,
    steps::{out_of_order, unexpected},
    words::cached_died,
};
use crate::{
    backoff::Backoff,
    system::{Event, Role},
};
use parcel::wire::{
    Code,
    daemon::{self, Waiting},
    session::Command,
};

/// What is said when the kept changes are not sealed under the key that the password opened.
const OTHER_KEY: &str = "The key that your password opened does not open the changes of your computer's disk, which are kept here \
                         [wrong-key]. Press L and type your password again. If this stays, tell your IT desk.";

/// `cached` is started again, and finds what the last one left once the user has typed the password. What fails then is tried
/// again; nothing but the user gives it up.
pub(super) fn recover(kiosk: &mut Kiosk<'_>) -> Result<(), Stop> {
    let Some(parcel) = kiosk.parcel else { return Err(out_of_order("recover")) };
    kiosk.forgotten = true;
    kiosk.state.console = false;
    kiosk.end_vmm();
    // Nothing is behind a lock any more, and the window that asks for the password has to be seen.
    kiosk.state.locked = false;
    kiosk.sys.stop(Role::Cached);
    kiosk.restart_later(Role::Cached);
    let restarted = "The part of this kiosk that keeps your computer's data was restarted. Your computer has stopped, and its disk \
                     is kept. Press L and type your password, and it is saved.";
    let needed = Waiting { pieces: 1, seconds: 0, reason: restarted.to_owned(), code: Code::EngineRestarted };
    kiosk.stuck = Some(needed.clone());
    kiosk.publish();
    let mut backoff = Backoff::default();
    // `None`: only a log-in helps.
    let mut again = None;
    loop {
        match kiosk.next(again)? {
            None => {}
            Some(Event::Command(Command::LoggedIn(_))) => {
                // From here on the engine tells what it waits for.
                kiosk.stuck = None;
                kiosk.publish();
            }
            Some(_) => continue,
        }
        backoff.started(kiosk.sys.now());
        let answer = kiosk.try_cached(daemon::Request::Recover { parcel })?;
        kiosk.forgotten = answer.is_err();
        let error = match answer {
            Ok(daemon::Reply::Recovered { version, changed: true }) => {
                kiosk.sys.log(&format!("the changes since version {version} are here again"));
                return Ok(());
            }
            // The version before has this disk, with its memory.
            Ok(daemon::Reply::Recovered { .. }) => {
                let why = kiosk.memory_lost.take().unwrap_or_else(|| cached_died("unknown"));
                return Err(Stop::Failed(why));
            }
            Ok(_) => return Err(unexpected("the kept changes")),
            Err(error) => error,
        };
        kiosk.sys.log(&format!("the kept changes are not here [{}]", error.code));
        // The engine keeps the key, so what may pass needs no password again.
        (kiosk.stuck, again) = match error.code {
            Code::NoKey => (Some(needed.clone()), None),
            Code::WrongKey => (Some(Waiting { reason: OTHER_KEY.to_owned(), ..needed.clone() }), None),
            code => {
                let now = kiosk.sys.now();
                let waiting = Waiting { pieces: 1, seconds: 0, reason: error.message, code };
                (Some(waiting), Some(now + backoff.ended(now)))
            }
        };
        kiosk.publish();
    }
}
