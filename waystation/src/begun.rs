//! What a command has begun and not finished. When it fails or is stopped, that is taken back, so that nothing half-made
//! stays: neither on the server nor here.

use super::{
    AdminError, Exit,
    claims::Claims,
    session::{Session, Stopping},
    terminal::say,
};
use cache::{status::lock, tenure::Tenure};
use client::api::ApiError;
use parcel::{
    id::{ParcelId, Version},
    wire::{Code, hold::Hold, http::LockRequest},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the server is asked to take something back while it cannot be reached, and the pause in between.
const TRIES: (usize, Duration) = (3, Duration::from_secs(1));

/// What has been begun; one for a whole command, cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Begun {
    state: Arc<Mutex<State>>,
    step: Arc<tokio::sync::Mutex<()>>,
    stopping: Stopping,
}

/// A step that must come to its end, while this is held.
pub(super) type Step = tokio::sync::OwnedMutexGuard<()>;

#[derive(Default)]
struct State {
    files: Vec<PathBuf>,
    on_server: Option<OnServer>,
}

struct OnServer {
    session: Arc<Session>,
    id: ParcelId,
    name: String,
    ask: LockRequest,
    claims: Claims,
    what: What,
}

#[derive(Clone)]
enum What {
    /// A parcel that has no version yet.
    Parcel,
    /// A parcel that has one now; only its lock is still to be given back.
    Committed(Hold),
    /// A lock that is held for a moment.
    Lock(Hold),
}

/// What became of it.
enum Outcome {
    /// Taken back.
    Gone,
    /// Its commit was the last thing that happened, so it stays.
    Whole,
    /// The server could not be asked, or says no.
    Unknown(String),
}

impl Begun {
    /// A parcel is about to be made, under the lock that `ask` asks for.
    pub fn parcel(
        &self,
        session: &Arc<Session>,
        id: ParcelId,
        name: &str,
        ask: &LockRequest,
        claims: &Claims,
    ) {
        self.on_server(OnServer {
            session: session.clone(),
            id,
            name: name.to_owned(),
            ask: ask.clone(),
            claims: claims.clone(),
            what: What::Parcel,
        });
    }

    /// A lock was taken that is to be given back.
    pub fn lock(&self, session: &Arc<Session>, tenure: &Tenure, claims: &Claims) {
        self.on_server(OnServer {
            session: session.clone(),
            id: tenure.parcel,
            name: tenure.name.clone(),
            ask: tenure.ask().clone(),
            claims: claims.clone(),
            what: What::Lock(tenure.hold()),
        });
    }

    /// The server has refused to make the parcel, so there is nothing of it; one of that name may be somebody's.
    pub fn refused(&self) {
        lock(&self.state).on_server = None;
    }

    fn on_server(&self, begun: OnServer) {
        lock(&self.state).on_server = Some(begun);
    }

    /// The parcel has its first version: from here on only its lock is given back.
    pub fn committed(&self, tenure: &Tenure) {
        let mut state = lock(&self.state);
        state.files.clear();
        if let Some(begun) = &mut state.on_server {
            begun.what = What::Committed(tenure.hold());
        }
    }

    /// A file was written that means nothing without the parcel.
    pub fn file(&self, path: &Path) {
        lock(&self.state).files.push(path.to_owned());
    }

    /// All is done: from here on nothing is taken back.
    pub fn finished(&self) {
        *lock(&self.state) = State::default();
    }

    /// What tells the log-in that the command is to stop.
    pub fn stopping(&self) -> &Stopping {
        &self.stopping
    }

    /// Is there nothing to be taken back?
    pub fn nothing(&self) -> bool {
        let state = lock(&self.state);
        state.files.is_empty() && state.on_server.is_none()
    }

    /// Held over a step that must come to its end before the command may be stopped: else nobody would know what the
    /// server did.
    pub async fn step(&self) -> Step {
        self.step.clone().lock_owned().await
    }

    /// Waits for the step under way, if there is one; `true` when all was done with it. No other begins while what is
    /// returned is held.
    pub async fn settle(&self) -> (bool, Step) {
        let before = self.nothing();
        let step = self.step().await;
        (!before && self.nothing(), step)
    }

    /// Takes back what was begun, after `error`, and says what became of it.
    pub async fn take_back(&self, mut error: AdminError, stops: &mut Stops) -> AdminError {
        let State { files, on_server } = std::mem::take(&mut *lock(&self.state));
        let Some(begun) = on_server else {
            remove(&files);
            return error;
        };
        let outcome = tokio::select! {
            outcome = begun.take_back() => outcome,
            () = stops.next() => Outcome::Unknown("interrupted".into()),
        };
        let name = &begun.name;
        let became = match (outcome, &begun.what) {
            (Outcome::Gone, What::Parcel) => {
                remove(&files);
                format!("nothing of the new parcel {name:?} is left on the server")
            }
            (Outcome::Gone, What::Lock(_)) => format!("the lock of the parcel {name:?} is given back"),
            (Outcome::Whole, _) | (Outcome::Gone, What::Committed(_)) => {
                format!("the parcel {name:?} itself is whole and committed")
            }
            (Outcome::Unknown(cause), What::Parcel) => format!(
                "what was begun of the parcel {name:?} could not be taken off the server ({cause}), so run waystation \
                 discard {} when it can be reached, or give the same command again",
                begun.id
            ),
            (Outcome::Unknown(cause), What::Lock(_) | What::Committed(_)) => format!(
                "the lock of the parcel {name:?} could not be given back ({cause}), so run waystation unlock {} later",
                begun.id
            ),
        };
        let said = error.error.message.trim_end_matches('.');
        error.error.message = format!("{said}; {became}");
        error
    }
}

impl OnServer {
    async fn take_back(&self) -> Outcome {
        let mut cause = String::new();
        for attempt in 0..TRIES.0 {
            if attempt > 0 {
                tokio::time::sleep(TRIES.1).await;
            }
            match self.attempt().await {
                Ok(outcome) => return outcome,
                Err(error) if error.session_ended() => {
                    // Only with the same user's ticket: another user's parcel is out of sight, as if it were gone.
                    if let Err(error) = self.session.renew().await {
                        return Outcome::Unknown(error);
                    }
                }
                Err(error) if !error.transient() => return Outcome::Unknown(error.to_string()),
                Err(error) => cause = error.to_string(),
            }
        }
        Outcome::Unknown(cause)
    }

    async fn attempt(&self) -> Result<Outcome, ApiError> {
        let outcome = self.attempt_once().await?;
        if matches!(outcome, Outcome::Gone | Outcome::Whole) {
            self.claims.forget(&self.id);
        }
        Ok(outcome)
    }

    async fn attempt_once(&self) -> Result<Outcome, ApiError> {
        let api = self.session.api();
        let info = match api.parcel(&self.id).await {
            Err(error) if error.not_found() => return Ok(Outcome::Gone),
            info => info?,
        };
        let ours = info.lock.is_some_and(|lock| lock.claim == self.ask.claim.tag());
        match &self.what {
            What::Parcel if info.version > Version(0) => {
                if ours {
                    api.unlock(&self.id, &self.hold().await?).await?;
                }
                Ok(Outcome::Whole)
            }
            What::Parcel if !ours => Ok(Outcome::Unknown("somebody else has its lock".into())),
            What::Parcel => match api.discard(&self.id, &self.hold().await?).await {
                Err(error) if !error.not_found() => Err(error),
                _ => Ok(Outcome::Gone),
            },
            What::Lock(hold) | What::Committed(hold) if ours => {
                api.unlock(&self.id, hold).await?;
                Ok(Outcome::Gone)
            }
            What::Lock(_) | What::Committed(_) => Ok(Outcome::Gone),
        }
    }

    /// The lock that the server gave, although its answer may have been lost.
    async fn hold(&self) -> Result<Hold, ApiError> {
        let reply = self.session.api().lock(&self.id, &self.ask, false).await?;
        Ok(Tenure::new(self.id, self.ask.clone(), &reply).hold())
    }
}

fn remove(files: &[PathBuf]) {
    for file in files {
        // It was ours a moment ago; what cannot be removed is at least named.
        if let Err(error) = std::fs::remove_file(file) {
            say(format_args!("waystation: {} is left and means nothing: {error}", file.display()));
        }
    }
}

/// The ways in which a command is told to stop.
pub(super) struct Stops([Signal; 3]);

impl Stops {
    /// Ctrl-C, SIGTERM, and the terminal's end; from here on none of them kills the process.
    pub fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [a, b, c] = kinds.map(signal);
        Ok(Self([a?, b?, c?]))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}

/// What is said when a command is stopped.
pub(super) fn interrupted() -> AdminError {
    AdminError::new(Exit::Interrupted, Code::Interrupted, "interrupted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn a_step_under_way_comes_to_its_end_before_anything_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Begun::default();
        // Nothing is begun: it may be stopped at once.
        assert!(!begun.settle().await.0);

        begun.file(&folder.path().join("key"));
        for done in [false, true] {
            let step = begun.step().await;
            let mut settling = Box::pin(begun.settle());
            assert!(settling.as_mut().now_or_never().is_none(), "the step is under way");
            if done {
                begun.finished();
            }
            drop(step);
            let (all_done, held) = settling.await;
            assert_eq!(all_done, done);
            assert!(begun.step().now_or_never().is_none(), "another step begins");
            drop(held);
        }
    }

    #[tokio::test]
    async fn files_are_taken_back_until_all_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut stops = Stops::new().unwrap();
        for (done, stays) in [(false, false), (true, true)] {
            std::fs::write(&path, "k").unwrap();
            let begun = Begun::default();
            begun.file(&path);
            if done {
                begun.finished();
            }
            let said = begun.take_back(AdminError::input("it failed"), &mut stops).await;
            assert_eq!((said.error.message.as_str(), path.exists()), ("it failed", stays));
        }
    }
}
