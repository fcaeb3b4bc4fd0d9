//! The effects for real: sockets, Kerberos, key slots.

use super::{Effects, Unlock, links, unlock};
use crate::{
    event::{Event, Session},
    password::Password,
    trouble::{Circumstances, Trouble, of_login},
};
use cache::control::{AsyncClient, ControlError};
use client::{api::Api, proxy::KdcProxy, traffic::Traffic};
use login::{LoginError, Network, with_password};
use parcel::{
    id::ParcelId,
    slot::Proof,
    wire::{
        daemon::{Reply, Request},
        kiosk::Kiosk,
        session::{Command, Login},
    },
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
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use zeroize::Zeroizing;

/// How long `cached` may take over an answer: longer than it waits for the parcel server.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long `cached` may take to listen: `init` is starting it again.
const RESTART: Duration = Duration::from_secs(10);
/// Between two attempts to connect to it.
const AGAIN: Duration = Duration::from_millis(100);
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
    network: Arc<Network>,
    attempt: Option<AbortHandle>,
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
        kdc_ca: &Path,
        events: mpsc::Sender<Event>,
        output: mpsc::Sender<Event>,
    ) -> anyhow::Result<Self> {
        let api = Api::new(&config.server_url, ca, Arc::new(Traffic::default()))?;
        let realm = &config.realm;
        let proxy = realm.kdc_proxy.as_deref().map(|url| KdcProxy::new(url, ca)).transpose()?;
        let network = Arc::new(Network::new(realm.clone(), proxy, kdc_ca));
        let (commands, from_screens) = mpsc::channel(COMMANDS);
        tokio::spawn(links::session(run.join(names::INIT), from_screens, events.clone()));
        let (console, wanted) = watch::channel(false);
        let (typing, typed) = mpsc::channel(TYPING);
        tokio::spawn(links::console(run.join(names::CONSOLE), wanted, typed, output));
        Ok(Self {
            events,
            cached: run.join(names::CACHED),
            network,
            attempt: None,
            about: Circumstances {
                server: api.host().to_owned(),
                kpasswd: config.realm.kpasswd.clone(),
                clocks: None,
                now: 0,
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

/// One request to `cached`, which may have been killed a moment ago.
pub(super) async fn ask(cached: &Path, request: Request) -> Result<Reply, ControlError> {
    let answer = async { connect(cached).await?.ask(&request).await };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

async fn connect(cached: &Path) -> io::Result<AsyncClient> {
    let until = Instant::now() + RESTART;
    loop {
        match AsyncClient::connect(cached).await {
            Err(error) if nobody_listens(&error) && Instant::now() < until => sleep(AGAIN).await,
            done => return done,
        }
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// What an answer that fits no question is.
pub(super) fn unexpected() -> Trouble {
    Trouble::from(&ControlError::Unexpected)
}

async fn log_in(
    network: &Arc<Network>,
    api: &Api,
    user: &str,
    password: Zeroizing<String>,
) -> Result<Session, LoginError> {
    let reply = with_password(network, api, user, password).await;
    // The token is for `cached` alone, also when nobody waits for this log-in any more.
    api.forget_token();
    let reply = reply?;
    let began = now();
    let login = Login { principal: reply.principal, ends: began.saturating_add(reply.expires_in), began };
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
        let (api, events, network) = (self.api.clone(), self.events.clone(), self.network.clone());
        let mut about = self.about.clone();
        let mut trying = network.trying();
        let words = self.events.clone();
        // What nobody waits for any more asks no KDC about a password.
        if let Some(last) = self.attempt.take() {
            last.abort();
        }
        let told = async move {
            while trying.changed().await.is_ok() {
                let kdc = trying.borrow_and_update().clone();
                drop(words.send(Event::Trying { attempt, kdc }).await);
            }
        };
        let asked = async move {
            let secret = Zeroizing::new(password.as_str().to_owned());
            drop(password);
            let result = match log_in(&network, &api, &user, secret).await {
                Ok(session) => Ok(session),
                Err(error) => {
                    about.now = now();
                    // A ticket that has ended by this kiosk's clock is no ticket, either.
                    if matches!(error, LoginError::ClockSkew | LoginError::NoTicket) {
                        about.clocks = api.health().await.ok().map(|health| (now(), health.time));
                    }
                    tracing::info!(code = %error.code(), %error, "log-in failed");
                    Err(of_login(&error, &about))
                }
            };
            drop(events.send(Event::LoggedIn { attempt, result }).await);
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = asked => {}
                () = told => {}
            }
        });
        self.attempt = Some(task.abort_handle());
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

    fn prove(&mut self, attempt: u64, parcel: ParcelId, proof: Proof, typed: Password) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let result = unlock::prove(parcel, proof, typed).await;
            drop(events.send(Event::Proved { attempt, result }).await);
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

#[cfg(test)]
mod tests {
    use super::*;
    use sockets::asynchronous::Connection;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_killed_engine_is_asked_when_its_successor_listens() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join(names::CACHED);
        // A killed process leaves its socket.
        drop(UnixListener::bind(&socket).expect("a socket"));
        let asking = tokio::spawn({
            let socket = socket.clone();
            async move { ask(&socket, Request::Parcels).await }
        });
        sleep(2 * AGAIN).await;
        assert!(!asking.is_finished(), "it gave up");
        std::fs::remove_file(&socket).expect("it was left");
        sleep(2 * AGAIN).await;
        let successor = UnixListener::bind(&socket).expect("a socket");
        let (stream, _) = successor.accept().await.expect("it comes");
        let Connection { mut receiver, sender } = Connection::new(stream);
        let asked: Request = receiver.receive().await.expect("a request");
        assert!(matches!(asked, Request::Parcels));
        sender.send_with(&Reply::Ok, &[]).await.expect("it listens");
        assert!(matches!(asking.await, Ok(Ok(Reply::Ok))));
    }
}
