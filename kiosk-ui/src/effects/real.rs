//! The effects for real: sockets, Kerberos, key slots.

use super::{Effects, Unlock, links, unlock};
use crate::{
    event::{Event, Session},
    password::Password,
    trouble::{Circumstances, Trouble, of_login},
};
use cache::control::{AsyncClient, ControlError};
use client::{api::Api, traffic::Traffic};
use login::{LoginError, login_with_password};
use parcel::wire::{
    daemon::{Reply, Request},
    kiosk::Kiosk,
    session::{Command, Login},
};
use sockets::names;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use zeroize::Zeroizing;

/// How long `cached` may take over an answer: longer than it waits for the parcel server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commands that may wait for `init.sock` to take them.
const COMMANDS: usize = 16;
/// Keys, and answers to the guest's questions, that may wait for the guest: more than a person types while it hangs, and
/// a pasted page or two; of answers, at most a few megabytes.
const TYPING: usize = 16 << 10;

/// The world.
pub struct Real {
    events: mpsc::Sender<Event>,
    cached: PathBuf,
    api: Api,
    realm: String,
    about: Circumstances,
    commands: mpsc::Sender<Command>,
    console: watch::Sender<bool>,
    typing: mpsc::Sender<Vec<u8>>,
}

/// Seconds since 1970 by this machine's clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Real {
    /// Connects what is to be connected, and tells `events` what happens and `output` what the guest writes. Called
    /// within a runtime.
    pub fn start(
        config: &Kiosk,
        run: &Path,
        ca: &Path,
        events: mpsc::Sender<Event>,
        output: mpsc::Sender<Event>,
    ) -> anyhow::Result<Self> {
        let api = Api::new(&config.server_url, ca, Arc::new(Traffic::default()))?;
        let (commands, from_screens) = mpsc::channel(COMMANDS);
        tokio::spawn(links::session(run.join(names::INIT), from_screens, events.clone()));
        let (console, wanted) = watch::channel(false);
        let (typing, typed) = mpsc::channel(TYPING);
        tokio::spawn(links::console(run.join(names::CONSOLE), wanted, typed, output));
        Ok(Self {
            events,
            cached: run.join(names::CACHED),
            realm: config.realm.name.clone(),
            about: Circumstances {
                server: api.host().to_owned(),
                kpasswd: config.realm.kpasswd.clone(),
                clocks: None,
            },
            api,
            commands,
            console,
            typing,
        })
    }

    /// Asks `cached` in the background; `event` says what its answer means.
    fn ask(
        &self,
        request: Request,
        event: impl FnOnce(Result<Reply, ControlError>) -> Option<Event> + Send + 'static,
    ) {
        let (cached, events) = (self.cached.clone(), self.events.clone());
        tokio::spawn(async move {
            let answer = ask(&cached, request).await;
            if let Some(event) = event(answer) {
                drop(events.send(event).await);
            }
        });
    }
}

/// One request to `cached`.
pub(super) async fn ask(cached: &Path, request: Request) -> Result<Reply, ControlError> {
    let answer = async { AsyncClient::connect(cached).await?.ask(&request).await };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// What an answer that fits no question is.
pub(super) fn unexpected() -> Trouble {
    Trouble::from(&ControlError::Unexpected)
}

async fn log_in(api: &Api, principal: &str, password: Zeroizing<String>) -> Result<Session, LoginError> {
    let credential = login_with_password(principal, password).await?;
    let reply = credential.negotiate(api).await;
    // The token is for `cached` alone, also when nobody waits for this log-in any more.
    api.forget_token();
    let reply = reply?;
    let login = Login { principal: reply.principal, ends: now().saturating_add(reply.expires_in) };
    Ok(Session { token: reply.token.into_text(), login })
}

impl Effects for Real {
    fn command(&mut self, command: Command) {
        // A full queue means that `init` is not there: the screen says so, and an old command must not come late.
        if self.commands.try_send(command).is_err() {
            tracing::warn!("a command was dropped: init does not take it");
        }
    }

    fn login(&mut self, attempt: u64, user: Zeroizing<String>, password: Password) {
        let principal =
            if user.contains('@') { user } else { Zeroizing::new(format!("{}@{}", *user, self.realm)) };
        let (api, events) = (self.api.clone(), self.events.clone());
        let mut about = self.about.clone();
        tokio::spawn(async move {
            let secret = Zeroizing::new(password.as_str().to_owned());
            drop(password);
            let result = match log_in(&api, &principal, secret).await {
                Ok(session) => Ok(session),
                Err(error) => {
                    // A ticket that has ended by this kiosk's clock is no ticket, either.
                    if matches!(error, LoginError::ClockSkew | LoginError::NoTicket) {
                        about.clocks = api.health().await.ok().map(|health| (now(), health.time));
                    }
                    tracing::info!(code = error.code(), %error, "log-in failed");
                    Err(of_login(&error, &about))
                }
            };
            drop(events.send(Event::LoggedIn { attempt, result }).await);
        });
    }

    fn adopt(&mut self, attempt: u64, session: Session) {
        self.ask(Request::Session { token: session.token.into() }, move |answer| {
            let result = match answer {
                Ok(Reply::Ok) => Ok(()),
                Ok(_) => Err(unexpected()),
                Err(error) => Err((&error).into()),
            };
            Some(Event::Adopted { attempt, result })
        });
    }

    fn parcels(&mut self, attempt: u64) {
        self.ask(Request::Parcels, move |answer| {
            let result = match answer {
                Ok(Reply::Parcels { parcels }) => Ok(parcels),
                Ok(_) => Err(unexpected()),
                Err(error) => Err((&error).into()),
            };
            Some(Event::Parcels { attempt, result })
        });
    }

    fn open(&mut self, unlock: Unlock) {
        let (cached, events) = (self.cached.clone(), self.events.clone());
        tokio::spawn(async move {
            let (attempt, parcel) = (unlock.attempt, unlock.parcel);
            let result = unlock::open(&cached, unlock).await;
            drop(events.send(Event::Opened { attempt, parcel, result }).await);
        });
    }

    fn console(&mut self, wanted: bool) {
        self.console.send_if_modified(|was| std::mem::replace(was, wanted) != wanted);
    }

    fn type_into_guest(&mut self, bytes: Vec<u8>) {
        if self.typing.try_send(bytes).is_err() {
            tracing::debug!("typing was dropped: the guest takes none");
        }
    }

    fn status(&mut self) {
        self.ask(Request::Status, |answer| match answer {
            Ok(Reply::Status(status)) => Some(Event::Status(status)),
            _ => None,
        });
    }
}
