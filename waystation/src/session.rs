//! The log-in of a command that may outlast it. A new token is got with the ticket of the default credential cache, which is
//! renewed where it can be; on a terminal, kinit asks for the password; else the command waits for somebody to run kinit.

use super::{Result, secrets::Typing};
use cache::remote::{PAUSES, Sink};
use client::api::Api;
use futures::future::{BoxFuture, FutureExt as _};
use login::LoginError;
use parcel::{
    id::{ChunkName, Version},
    wire::{WireError, http::SessionReply},
};
use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
};

/// How long a renewal of the ticket may take; libkrb5 asks dead KDCs for longer.
const RENEWING: Duration = Duration::from_secs(15);
/// The shortest time between two renewals that nothing but the clock asks for.
const LEAST: Duration = Duration::from_secs(60);
/// How often kinit asks for the password: whoever mistypes it more often runs kinit elsewhere.
const ASKS: u32 = 3;

/// A log-in to the parcel server that lasts as long as the command.
pub(super) struct Session {
    api: Api,
    /// Whose ticket it began with.
    who: String,
    /// Held by whoever logs in anew.
    turn: tokio::sync::Mutex<()>,
    /// Somebody is told of it, or asked, on the terminal.
    speaks: AtomicBool,
}

impl Session {
    /// Logs in with the ticket of the default credential cache, and again at half of each token's life.
    pub async fn begin(api: &Api) -> Result<(Arc<Self>, SessionReply)> {
        let credential = login::from_default_cache().await?;
        let reply = credential.negotiate(api).await?;
        let session = Arc::new(Self {
            api: api.clone(),
            who: credential.principal().to_owned(),
            turn: tokio::sync::Mutex::default(),
            speaks: AtomicBool::new(false),
        });
        let kept = Arc::downgrade(&session);
        let life = reply.expires_in;
        tokio::spawn(keep(life, move || {
            let kept = kept.clone();
            async move {
                let session = kept.upgrade()?;
                let _turn = session.turn.lock().await;
                // Whatever fails is told when the token has ended.
                Some(session.log_in().await.map_or(0, |reply| reply.expires_in))
            }
        }));
        Ok((session, reply))
    }

    /// Does it speak on the terminal now?
    pub fn speaks(&self) -> bool {
        self.speaks.load(Relaxed)
    }

    /// Makes a request, and again after a new log-in for as long as the server wants one.
    pub async fn during<T, F>(&self, mut attempt: impl FnMut() -> F) -> std::result::Result<T, WireError>
    where
        F: Future<Output = std::result::Result<T, WireError>>,
    {
        let mut pause = Duration::ZERO;
        loop {
            let token = *self.api.token_renewals().borrow();
            match attempt().await {
                Err(error) if error.code.needs_login() => {
                    // A server that refuses what it has just given is not asked without end at once.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
                    self.anew(token).await;
                }
                done => return done,
            }
        }
    }

    /// Logs in anew, unless somebody has since `token` was found to have ended.
    async fn anew(&self, token: u64) {
        let _turn = self.turn.lock().await;
        if *self.api.token_renewals().borrow() != token {
            return;
        }
        let mut asking = Asking::new(&self.who);
        let mut told = String::new();
        let mut pause = PAUSES.0;
        let _speech = Speech(&self.speaks);
        while let Err(why) = self.log_in().await {
            self.speaks.store(true, Relaxed);
            if told != why {
                let start = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
                eprintln!("{start}waiting: the log-in to the parcel server has ended: {why}");
                told = why;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = asking.asked() => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// A new token, and if possible a ticket that lasts longer; else why not, and what to do.
    async fn log_in(&self) -> std::result::Result<SessionReply, String> {
        let kinit = format!("run kinit {}, and this command goes on", self.who);
        let credential = match self.credential().await {
            Ok(credential) if credential.principal() == self.who => credential,
            Ok(credential) => {
                return Err(format!("the ticket is now of {}; {kinit}", credential.principal()));
            }
            Err(LoginError::NoTicket) => return Err(format!("there is no valid Kerberos ticket; {kinit}")),
            Err(error) => return Err(error.to_string()),
        };
        credential.negotiate(&self.api).await.map_err(|error| error.to_string())
    }

    /// The ticket, renewed where it is this session's and can be.
    async fn credential(&self) -> std::result::Result<login::Credential, LoginError> {
        let credential = login::from_default_cache().await?;
        if credential.principal() != self.who {
            return Ok(credential);
        }
        let mut kinit = Command::new("kinit");
        kinit.arg("-R").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(RENEWING, kinit.status()).await {
            Ok(Ok(status)) if status.success() => login::from_default_cache().await,
            // It cannot be renewed; as long as it lives, it does as it is.
            _ => Ok(credential),
        }
    }
}

/// Logs in at half of each token's life, until there is no session any more. What failed is tried again.
async fn keep<F: Future<Output = Option<u64>>>(life: u64, mut log_in: impl FnMut() -> F) {
    let mut life = Some(life);
    while let Some(seconds) = life {
        tokio::time::sleep(Duration::from_secs(seconds / 2).max(LEAST)).await;
        life = log_in().await;
    }
}

struct Speech<'a>(&'a AtomicBool);

impl Drop for Speech<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// kinit on the terminal, where there is one.
struct Asking<'a> {
    who: &'a str,
    left: u32,
    child: Option<(Child, Typing)>,
}

impl<'a> Asking<'a> {
    fn new(who: &'a str) -> Self {
        Self { who, left: ASKS, child: None }
    }

    /// Goes on asking; returns when there is an answer, and never where nobody can be asked.
    async fn asked(&mut self) {
        if self.child.is_none() {
            self.child = self.begin();
        }
        match &mut self.child {
            Some((kinit, _)) => drop(kinit.wait().await),
            None => std::future::pending().await,
        }
        self.child = None;
    }

    fn begin(&mut self) -> Option<(Child, Typing)> {
        self.left = self.left.checked_sub(1)?;
        let typing = Typing::begin()?;
        // The standard output is for the answer.
        let output = io::stderr().as_fd().try_clone_to_owned().ok()?;
        let kinit = Command::new("kinit").arg(self.who).stdout(output).kill_on_drop(true).spawn().ok()?;
        Some((kinit, typing))
    }
}

/// A sink whose requests outlast a log-in.
pub(super) struct LastingSink<S> {
    pub sink: S,
    pub session: Arc<Session>,
}

type Done<T> = std::result::Result<T, WireError>;

impl<S: Sink> Sink for LastingSink<S> {
    fn have<'a>(&'a self, names: &'a [ChunkName]) -> BoxFuture<'a, Done<Vec<bool>>> {
        self.session.during(|| self.sink.have(names)).boxed()
    }

    fn put<'a>(&'a self, name: &'a ChunkName, bytes: bytes::Bytes) -> BoxFuture<'a, Done<()>> {
        self.session.during(move || self.sink.put(name, bytes.clone())).boxed()
    }

    fn commit<'a>(&'a self, version: Version, record: bytes::Bytes) -> BoxFuture<'a, Done<()>> {
        self.session.during(move || self.sink.commit(version, record.clone())).boxed()
    }

    fn record<'a>(&'a self, version: Version) -> BoxFuture<'a, Done<bytes::Bytes>> {
        self.session.during(move || self.sink.record(version)).boxed()
    }

    fn made<'a>(&'a self, version: Version) -> BoxFuture<'a, Done<Option<cache::remote::Made>>> {
        self.session.during(move || self.sink.made(version)).boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.sink.hints()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_at_half_of_its_life_and_no_more_often_than_each_minute() {
        let begun = Instant::now();
        let mut at = Vec::new();
        let mut lives = [Some(1000), Some(0), None].into_iter();
        keep(36_000, || {
            at.push(begun.elapsed().as_secs());
            let life = lives.next().flatten();
            async move { life }
        })
        .await;
        assert_eq!(at, [18_000, 18_500, 18_560]);
    }
}
