//! The log-in of a command that may outlast it. A new token is got with the ticket of the default credential cache, which is
//! renewed where it can be; on a terminal, kinit asks for the password; else the command waits for somebody to run kinit.

use super::{
    Result,
    terminal::{Typing, afresh, say},
};
use cache::remote::{PAUSES, Sink};
use client::api::Api;
use futures::future::{BoxFuture, FutureExt as _};
use login::LoginError;
use parcel::{
    id::{ChunkName, Version},
    wire::{Code, WireError, http::SessionReply},
};
use std::{
    fmt, io,
    os::fd::AsFd as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{process::Command, sync::watch};

type Done<T> = std::result::Result<T, WireError>;

/// How long a renewal of the ticket may take; libkrb5 asks dead KDCs for longer.
const RENEWING: Duration = Duration::from_secs(15);
/// The shortest time between two renewals that nothing but the clock asks for.
const LEAST: Duration = Duration::from_secs(60);

/// That the command was told to stop: nobody is waited for any more.
#[derive(Clone, Default)]
pub(super) struct Stopping(watch::Sender<bool>);

impl Stopping {
    /// It is told to stop.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Does `work`, but no longer than until it is told to stop.
    pub async fn cuts<T>(&self, work: impl Future<Output = T>) -> Done<T> {
        let mut asked = self.0.subscribe();
        tokio::select! {
            done = work => Ok(done),
            _ = asked.wait_for(|asked| *asked) => Err(WireError::new(Code::Interrupted, "interrupted")),
        }
    }
}

/// A log-in to the parcel server that lasts as long as the command.
pub(super) struct Session {
    api: Api,
    /// Whose ticket it began with.
    who: String,
    /// Held by whoever logs in anew.
    turn: tokio::sync::Mutex<()>,
    /// Somebody is told of it, or asked, on the terminal.
    speaks: AtomicBool,
    stopping: Stopping,
}

/// Why there is no new log-in.
struct NoLogin {
    cause: String,
    /// A new ticket helps.
    kinit: bool,
}

impl NoLogin {
    fn ticket(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), kinit: true }
    }
}

impl From<LoginError> for NoLogin {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::NoTicket => Self::ticket("there is no valid Kerberos ticket"),
            other => Self { cause: other.to_string(), kinit: false },
        }
    }
}

impl fmt::Display for NoLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl Session {
    /// Logs in with the ticket of the default credential cache, and again at half of each token's life.
    pub async fn begin(api: &Api, stopping: Stopping) -> Result<(Arc<Self>, SessionReply)> {
        let credential = login::from_default_cache().await?;
        let reply = credential.negotiate(api).await?;
        let session = Arc::new(Self {
            api: api.clone(),
            who: credential.principal().to_owned(),
            turn: tokio::sync::Mutex::default(),
            speaks: AtomicBool::new(false),
            stopping,
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

    /// The connection that it logs in.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Does it speak on the terminal now?
    pub fn speaks(&self) -> bool {
        self.speaks.load(Relaxed)
    }

    /// Makes a request, and again after a new log-in for as long as the server wants one, or until the command is told to
    /// stop.
    pub async fn during<T, F>(&self, mut attempt: impl FnMut() -> F) -> Done<T>
    where
        F: Future<Output = Done<T>>,
    {
        let mut rounds = Rounds::default();
        loop {
            let token = *self.api.token_renewals().borrow();
            let (pause, said) = match attempt().await {
                Err(error) if error.code.needs_login() => rounds.refused(&error),
                done => return done,
            };
            if let Some(said) = said {
                tell(&said);
            }
            let again = async {
                tokio::time::sleep(pause).await;
                self.anew(token).await;
            };
            self.stopping.cuts(again).await?;
        }
    }

    /// Makes a request, and once more after a new log-in; for that, it waits for nobody.
    pub async fn at_once<T, F>(&self, mut attempt: impl FnMut() -> F) -> Done<T>
    where
        F: Future<Output = Done<T>>,
    {
        match attempt().await {
            Err(error) if error.code.needs_login() => match self.log_in().await {
                Ok(_) => attempt().await,
                Err(why) => Err(WireError::new(error.code, why.to_string())),
            },
            done => done,
        }
    }

    /// Logs in anew if that needs nobody; else says why not.
    pub async fn renew(&self) -> std::result::Result<(), String> {
        self.log_in().await.map(drop).map_err(|why| why.to_string())
    }

    /// Logs in anew, unless somebody has since `token` was found to have ended.
    async fn anew(&self, token: u64) {
        let _turn = self.turn.lock().await;
        if *self.api.token_renewals().borrow() != token {
            return;
        }
        let mut told = String::new();
        let mut pause = PAUSES.0;
        let mut answered = false;
        let _speech = Speech(&self.speaks);
        while let Err(why) = self.log_in().await {
            self.speaks.store(true, Relaxed);
            if told != why.cause {
                let kinit = format!("; run kinit {}, and this command goes on", self.who);
                let remedy = if why.kinit { kinit.as_str() } else { "" };
                tell(&format!("the log-in to the parcel server has ended: {why}{remedy}"));
                told.clone_from(&why.cause);
            }
            // What was answered is tried at once; if it was wrong, kinit asks again after a pause.
            answered = why.kinit && !answered && ask(&self.who).await;
            if !answered {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }

    /// A new token, and if possible a ticket that lasts longer.
    async fn log_in(&self) -> std::result::Result<SessionReply, NoLogin> {
        let credential = self.credential().await?;
        if credential.principal() != self.who {
            return Err(NoLogin::ticket(format!("the ticket is now of {}", credential.principal())));
        }
        Ok(credential.negotiate(&self.api).await?)
    }

    /// The ticket, renewed where it is this session's and can be.
    async fn credential(&self) -> std::result::Result<login::Credential, LoginError> {
        let credential = match login::from_default_cache().await {
            Ok(credential) if credential.principal() == self.who => credential,
            // Of a collection, another cache may be the primary one by now; kinit -R would change that under its user.
            other => return login::from_default_cache_of(&self.who).await.or(other),
        };
        let mut kinit = Command::new("kinit");
        kinit.arg("-R").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(RENEWING, kinit.status()).await {
            Ok(Ok(status)) if status.success() => login::from_default_cache_of(&self.who).await,
            // It cannot be renewed; as long as it lives, it does as it is.
            _ => Ok(credential),
        }
    }
}

fn tell(why: &str) {
    say(format_args!("{}waiting: {why}", afresh()));
}

/// The log-ins of one request.
#[derive(Default)]
struct Rounds {
    pause: Option<Duration>,
    told: String,
}

impl Rounds {
    /// The server wants a log-in: how long to pause before it, and what to say. The first is at once; a server that refuses what
    /// it has just given is asked neither without end at once nor in silence.
    fn refused(&mut self, error: &WireError) -> (Duration, Option<String>) {
        let Some(pause) = self.pause else {
            self.pause = Some(PAUSES.0);
            return (Duration::ZERO, None);
        };
        self.pause = Some((pause * 2).min(PAUSES.1));
        let new = std::mem::replace(&mut self.told, error.message.clone()) != error.message;
        (pause, new.then(|| format!("the parcel server refuses the new log-in: {}", error.message)))
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

/// Lets kinit ask on the terminal until it has ended; `false` where nobody can be asked.
async fn ask(who: &str) -> bool {
    let Some(_typing) = Typing::begin() else { return false };
    // The standard output is for the answer.
    let Ok(output) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    match Command::new("kinit").arg(who).stdout(output).kill_on_drop(true).spawn() {
        Ok(mut kinit) => kinit.wait().await.is_ok(),
        Err(_) => false,
    }
}

/// A sink whose requests outlast a log-in.
pub(super) struct LastingSink<S> {
    pub sink: S,
    pub session: Arc<Session>,
}

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

    #[tokio::test]
    async fn nobody_is_waited_for_after_a_stop() {
        let stopping = Stopping::default();
        assert_eq!(stopping.cuts(async { 7 }).await.unwrap(), 7);
        let waits = tokio::spawn({
            let stopping = stopping.clone();
            async move { stopping.cuts(std::future::pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        stopping.ask();
        assert_eq!(waits.await.unwrap().unwrap_err().code, Code::Interrupted);
        assert!(stopping.cuts(std::future::pending::<()>()).await.is_err());
    }

    #[test]
    fn only_a_new_ticket_is_asked_for() {
        assert!(NoLogin::from(LoginError::NoTicket).kinit);
        for other in [LoginError::KdcUnreachable { realm: "R".into() }, LoginError::ClockSkew] {
            assert!(!NoLogin::from(other).kinit);
        }
    }

    #[test]
    fn that_a_new_log_in_is_refused_is_said_once() {
        let mut rounds = Rounds::default();
        let refused = |message: &str| WireError::new(Code::SessionExpired, message);
        assert_eq!(rounds.refused(&refused("one")), (Duration::ZERO, None));
        let said = |why: &str| Some(format!("the parcel server refuses the new log-in: {why}"));
        assert_eq!(rounds.refused(&refused("one")), (PAUSES.0, said("one")));
        assert_eq!(rounds.refused(&refused("one")), (PAUSES.0 * 2, None));
        assert_eq!(rounds.refused(&refused("two")), (PAUSES.0 * 4, said("two")));
    }
}
