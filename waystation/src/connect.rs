//! A logged-in connection to the parcel server, and the parcels on it.

use super::{
    AdminError, Exit, Result,
    begun::Begun,
    claims::Claims,
    cli::Common,
    list::date,
    session::{LastingSink, Session},
    terminal::{afresh, say, show},
};
use cache::{
    commit::upload::Uploader,
    remote::{ServerSink, again},
    status::{Board, Step},
    tenure::Tenure,
};
use client::{
    api::{Api, ApiError},
    traffic::Traffic,
};
use futures::{FutureExt as _, TryFutureExt as _};
use parcel::{
    id::{ParcelId, Version},
    secret::Secret,
    slot::Slots,
    wire::{
        Code, Stake,
        http::{CreateParcel, LockReply, ParcelInfo},
    },
};
use std::{io::IsTerminal as _, sync::Arc, time::Duration};

/// How long giving a lock back may take: what was done under it is done.
const RELEASING: Duration = Duration::from_secs(30);

/// A logged-in connection.
pub(super) struct Connection {
    pub api: Api,
    pub board: Arc<Board>,
    /// Who we are, by the server's word.
    pub principal: String,
    /// The log-in, which lasts as long as the command.
    pub session: Arc<Session>,
    /// Who we are to those who wait for a lock, and which locks are ours.
    pub claims: Claims,
    /// What is to be taken back if the command does not come to its end.
    pub begun: Begun,
}

impl Connection {
    /// Logs in with the ticket of the default credential cache.
    pub async fn open(common: &Common) -> Result<Self> {
        if common.server.is_empty() {
            return Err(AdminError::input(
                "no parcel server is named; give --server or set WAYSTATION_SERVER",
            ));
        }
        let board = Board::new(Arc::new(Traffic::default()));
        let api = Api::new(&common.server, &common.ca, board.traffic().clone())?;
        let (session, reply) = Session::begin(&api, common.begun.stopping().clone()).await?;
        let claims = Claims::open()?;
        Ok(Self { api, board, principal: reply.principal, session, claims, begun: common.begun.clone() })
    }

    /// Takes the lock, or finds that it is ours; with `breaking`, whoever holds it.
    pub async fn lock(&self, parcel: &ParcelInfo, breaking: bool) -> Result<(Arc<Tenure>, LockReply)> {
        let ask = self.claims.ask(&parcel.id, parcel.lock.as_ref())?;
        let reply = self.api.lock(&parcel.id, &ask, breaking).await.inspect_err(|error| {
            if error.refused() {
                self.claims.forget(&parcel.id);
            }
        })?;
        Ok((Arc::new(Tenure::new(parcel.id, ask, &reply)), reply))
    }

    /// The caller's parcel of that name, or with that id.
    pub async fn find(&self, name: &str) -> Result<ParcelInfo> {
        self.find_among(name, |parcel| parcel.version > Version(0), "; waystation ls lists those you have")
            .await
    }

    /// The same of those that were not finished.
    pub async fn find_unfinished(&self, name: &str) -> Result<ParcelInfo> {
        let remedy = " that was not finished; waystation ls --all lists those you have";
        self.find_among(name, |parcel| parcel.version == Version(0), remedy).await
    }

    async fn find_among(
        &self,
        name: &str,
        wanted: impl Fn(&ParcelInfo) -> bool,
        remedy: &str,
    ) -> Result<ParcelInfo> {
        let mut found: Vec<_> = self.api.parcels().await?;
        found.retain(|parcel| wanted(parcel) && (parcel.name == name || parcel.id.to_string() == name));
        if found.len() > 1 {
            let ids: Vec<_> = found.iter().map(|one| format!("{} of {}", one.id, one.owner)).collect();
            let text =
                format!("several parcels are called {name:?}; use one of their ids: {}", ids.join(", "));
            return Err(AdminError::input(text));
        }
        found.pop().ok_or_else(|| {
            let text = format!("you have no parcel {name:?}{remedy}");
            AdminError::new(Exit::Refused, Code::NoSuchParcel, text)
        })
    }

    /// Makes a parcel and takes its lock. One of that name and owner that was begun here and never finished makes room for
    /// it.
    pub async fn create(&self, name: &str, owner: &str) -> Result<Arc<Tenure>> {
        let known = self.api.parcels().await?;
        match known.iter().find(|one| one.name == name && one.owner == owner) {
            Some(begun) if begun.version == Version(0) => self.discard(begun, false).await?,
            Some(_) => {
                let text = format!("{owner} has a parcel {name:?} already; choose another --name");
                return Err(AdminError::new(Exit::Refused, Code::NameTaken, text));
            }
            None => {}
        }
        let id = ParcelId(*super::secrets::random()?);
        let ask = self.claims.ask(&id, None)?;
        let body = CreateParcel {
            id,
            name: name.to_owned(),
            owner: owner.to_owned(),
            kiosk: ask.kiosk.clone(),
            boot: ask.boot,
            claim: ask.claim.clone(),
            rescues: None,
        };
        let _step = self.begun.step().await;
        self.begun.parcel(&self.session, id, name, &ask, &self.claims);
        let reply = self.api.create(&body).await.map_err(|e| {
            if matches!(&e, ApiError::Refused { status: 400..500, .. }) {
                self.begun.refused();
                self.claims.forget(&id);
            }
            self.about(e, &format!("the parcel {name:?}"))
        })?;
        Ok(Arc::new(Tenure::new(id, ask, &reply)))
    }

    /// Takes away a parcel that has no version. One that is held elsewhere may be in the making there at this moment, so
    /// that is only done with `breaking`.
    pub async fn discard(&self, begun: &ParcelInfo, breaking: bool) -> Result<()> {
        let elsewhere = begun.lock.as_ref().filter(|_| !self.claims.holds(begun));
        if let Some(lock) = elsewhere.filter(|_| !breaking) {
            let text = format!(
                "the parcel {:?} of {} is being made by {} ({}) since {}; let that end, or take it away with waystation \
                 discard --break {}",
                begun.name,
                begun.owner,
                lock.kiosk,
                lock.principal,
                date(lock.since),
                begun.id
            );
            let mut error = AdminError::new(Exit::Refused, Code::Locked, text);
            error.error.holder = Some(lock.clone());
            return Err(error);
        }
        let (tenure, _) = self.lock(begun, elsewhere.is_some()).await?;
        self.api.discard(&begun.id, &tenure.hold()).await?;
        self.claims.forget(&begun.id);
        Ok(())
    }

    /// Gives the lock of a committed parcel back. What was done is done whether that works or not, so it only warns.
    pub async fn release(&self, parcel: &ParcelInfo, tenure: &Tenure) {
        let once = || async {
            match self.api.unlock(&parcel.id, &tenure.hold()).await {
                // Somebody else's is out of sight once it is unlocked, so an earlier try has come through.
                Err(error) if error.not_found() => Ok(()),
                released => released.map_err(|e| e.to_wire()),
            }
        };
        let release = || self.session.at_once(once).boxed();
        let releasing = again(&self.board, self.api.token_renewals(), Stake::Nothing, release);
        let why = match tokio::time::timeout(RELEASING, releasing).await {
            Ok(Ok(())) => return self.claims.forget(&parcel.id),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the server did not do it within {} seconds", RELEASING.as_secs()),
        };
        say(format_args!(
            "{}waystation: the lock of the parcel {:?} could not be given back ({why}); run waystation unlock {} later",
            afresh(),
            parcel.name,
            parcel.id
        ));
    }

    /// The error of storing `what`: that a server is full is told with what did not fit, and where.
    pub fn about(&self, error: impl Into<AdminError>, what: &str) -> AdminError {
        let mut error = error.into();
        if error.error.code == Code::StoreFull {
            error.error.message = format!(
                "{what} does not fit into the store of the parcel server {}, which has no space left: make space \
                 there, then give the command again",
                self.api.host()
            );
        }
        error
    }

    /// An uploader for a parcel whose lock we have.
    pub fn uploader(&self, tenure: Arc<Tenure>, secret: Secret, level: i32) -> Uploader {
        let sink = ServerSink { api: self.api.clone(), tenure };
        let sink = LastingSink { sink, session: self.session.clone() };
        Uploader::new(Arc::new(sink), self.board.clone(), Stake::Nothing, secret, level)
    }

    /// The answer to a request that may be made again: it outlasts the log-in, and a server that is away.
    pub async fn lasting<T, F>(&self, request: impl Fn() -> F + Copy + Send) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, ApiError>> + Send,
    {
        let once = move || request().map_err(|e| e.to_wire());
        let asking = || self.session.during(once).boxed();
        Ok(again(&self.board, self.api.token_renewals(), Stake::Nothing, asking).await?)
    }

    /// What the server tells of a parcel.
    pub async fn parcel(&self, id: &ParcelId) -> Result<ParcelInfo> {
        self.lasting(|| self.api.parcel(id)).await
    }

    /// A sealed version record.
    pub async fn record(&self, parcel: &ParcelId, version: Version) -> Result<bytes::Bytes> {
        self.lasting(|| self.api.version(parcel, version)).await
    }

    /// A sealed object.
    pub async fn object(&self, name: &parcel::id::ChunkName) -> Result<bytes::Bytes> {
        self.lasting(|| self.api.chunk(name)).await
    }

    /// Stores the key slots of a parcel that is being made.
    pub async fn put_slots(&self, tenure: &Tenure, slots: &Slots) -> Result<()> {
        let (hold, slots) = (tenure.hold(), bytes::Bytes::from(slots.to_json()));
        self.lasting(|| self.api.put_slots(&tenure.parcel, Some(&hold), slots.clone())).await
    }

    /// Starts a long step, and shows it on the standard error: a line that is written over on a terminal, and elsewhere
    /// only what is waited for.
    pub fn show(&self, what: &'static str, bytes: u64) -> Showing {
        let step = self.board.step(bytes);
        let (board, session) = (self.board.clone(), self.session.clone());
        let task = tokio::spawn(async move {
            let terminal = std::io::stderr().is_terminal();
            let mut told = String::new();
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                if session.speaks() {
                    continue;
                }
                let status = board.status();
                let Some(progress) = status.progress else { continue };
                if let Some(waiting) = status.waiting.filter(|waiting| waiting.reason != told) {
                    say(format_args!("{}waiting: {}", afresh(), waiting.reason));
                    told = waiting.reason;
                }
                if terminal {
                    let line = match progress.total {
                        0 => String::new(),
                        _ => line(progress.done, progress.total, progress.rate),
                    };
                    show(format_args!("{}{what}: {line}", afresh()));
                }
            }
        });
        Showing { step, task: task.abort_handle() }
    }
}

/// A long step that is shown until this is dropped.
pub(super) struct Showing {
    pub step: Step,
    task: tokio::task::AbortHandle,
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.task.abort();
        show(afresh());
    }
}

/// `12.0 of 400.0 MiB, 3 %, 8.1 MiB/s, 0:48 to go`.
fn line(done: u64, total: u64, rate: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let percent = (done * 100).checked_div(total).unwrap_or(0);
    let mut text = format!("{:.1} of {:.1} MiB, {percent} %", mib(done), mib(total));
    if let Some(seconds) = total.saturating_sub(done).checked_div(rate) {
        text += &format!(", {:.1} MiB/s, {}:{:02} to go", mib(rate), seconds / 60, seconds % 60);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_rate_and_time_to_go() {
        let mib = 1 << 20;
        assert_eq!(line(12 * mib, 400 * mib, 8 * mib), "12.0 of 400.0 MiB, 3 %, 8.0 MiB/s, 0:48 to go");
        assert_eq!(line(0, 0, 0), "0.0 of 0.0 MiB, 0 %");
    }
}
