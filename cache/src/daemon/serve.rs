//! `cached.sock`: the connections of `init` and `kiosk-ui`.

use super::Daemon;
use crate::harden;
use parcel::wire::{
    MAX_LINE, WireError,
    daemon::{Reply, Request},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use zeroize::Zeroizing;

/// The least time between two lines of a watch.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// How often a watch is told of time passing while something waits.
const WATCH_TICK: Duration = Duration::from_secs(1);

/// Serves the control socket until `SIGTERM`, `SIGINT` or [`Request::Quit`]; forgets all secrets at the end.
pub async fn run(daemon: Arc<Daemon>) -> io::Result<()> {
    let path = daemon.sockets().control.clone();
    harden::clear_socket(&path)?;
    let listener = UnixListener::bind(&path)?;
    harden::share_socket(&path)?;
    let (quit, mut quitting) = mpsc::channel(1);
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tracing::info!(socket = %path.display(), "ready");
    let peers = peers();
    loop {
        tokio::select! {
            stream = harden::accepted(&listener) => {
                if !stream.peer_cred().is_ok_and(|peer| peers.contains(&peer.uid())) {
                    tracing::warn!("a program that has no business here is turned away");
                    continue;
                }
                let (daemon, quit) = (daemon.clone(), quit.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(&daemon, stream, &quit).await {
                        tracing::debug!(%error, "a control connection ends");
                    }
                });
            }
            _ = quitting.recv() => break,
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    daemon.forget();
    let _ = std::fs::remove_file(&path);
    Ok(())
}

/// Who may steer: `init`, `kiosk-ui`, and this user. The VMM is of the sockets' group too, and what it runs is not trusted.
fn peers() -> Vec<u32> {
    let screen = nix::unistd::User::from_name("kiosk-ui").ok().flatten().map(|user| user.uid.as_raw());
    [Some(0), Some(nix::unistd::geteuid().as_raw()), screen].into_iter().flatten().collect()
}

/// What comes in over a connection, by lines. All of it is wiped, for it may be a key.
struct Lines {
    read: OwnedReadHalf,
    bytes: Zeroizing<Vec<u8>>,
}

impl Lines {
    /// The next line; `None` at the end, or when it is longer than any.
    async fn next(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = Zeroizing::new(self.bytes.split_off(end + 1));
                return Ok(Some(std::mem::replace(&mut self.bytes, rest)));
            }
            if self.bytes.len() > MAX_LINE || self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes in more; loses nothing when it is given up.
    async fn more(&mut self) -> io::Result<usize> {
        let mut part = Zeroizing::new([0; 4096]);
        let len = self.read.read(&mut *part).await?;
        if self.bytes.len() + len > self.bytes.capacity() {
            // Growing in place would leave the old bytes behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * self.bytes.len() + part.len()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(&part[..len]);
        Ok(len)
    }

    /// Ends when the other side has closed; requests that come meanwhile are kept for later.
    async fn gone(&mut self) {
        while self.bytes.len() <= MAX_LINE {
            if let Ok(0) | Err(_) = self.more().await {
                return;
            }
        }
        std::future::pending().await
    }
}

async fn converse(daemon: &Arc<Daemon>, stream: UnixStream, quit: &mpsc::Sender<()>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = Lines { read, bytes: Zeroizing::default() };
    while let Some(line) = lines.next().await? {
        let request: Request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => {
                let error = WireError::new("bad-request", format!("the request is not understood: {error}"));
                send(&mut write, Reply::Error(error)).await?;
                continue;
            }
        };
        match request {
            Request::Watch => watch(daemon, &mut lines, &mut write).await?,
            Request::Quit => {
                let reply = daemon.answer(request).await.unwrap_or_else(Reply::Error);
                send(&mut write, reply).await?;
                let _ = quit.send(()).await;
            }
            request => {
                let reply = tokio::select! {
                    biased;
                    reply = daemon.answer(request) => reply.unwrap_or_else(Reply::Error),
                    // Whoever asked is gone: the step is given up, and can be asked for again.
                    () = lines.gone() => return Ok(()),
                };
                send(&mut write, reply).await?;
            }
        }
    }
    Ok(())
}

async fn watch(daemon: &Arc<Daemon>, lines: &mut Lines, write: &mut OwnedWriteHalf) -> io::Result<()> {
    let mut changes = daemon.board().changes();
    let mut last = None;
    loop {
        changes.mark_unchanged();
        let status = daemon.board().status();
        let waiting = status.waiting.is_some() || status.progress.is_some();
        if last.as_ref() != Some(&status) {
            send(write, Reply::Status(status.clone())).await?;
            last = Some(status);
        }
        let next = async {
            tokio::time::sleep(WATCH_PAUSE).await;
            match waiting {
                true => drop(tokio::time::timeout(WATCH_TICK, changes.changed()).await),
                false => drop(changes.changed().await),
            }
        };
        tokio::select! {
            () = next => {}
            () = lines.gone() => return Ok(()),
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, reply: Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(&reply)?;
    if line.len() >= MAX_LINE {
        let text = "the parcel server's answer is longer than this kiosk can show; ask your administrator";
        line = serde_json::to_vec(&Reply::Error(WireError::new("answer-too-long", text)))?;
    }
    line.push(b'\n');
    write.write_all(&line).await
}
