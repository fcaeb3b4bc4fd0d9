//! `cached.sock`: the connections of `init` and `kiosk-ui`.

use super::Daemon;
use crate::harden;
use parcel::wire::{
    MAX_LINE, WireError,
    daemon::{Reply, Request},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
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
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let (stream, _) = connection?;
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

async fn converse(daemon: &Arc<Daemon>, stream: UnixStream, quit: &mpsc::Sender<()>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Zeroizing::new(Vec::with_capacity(4096));
        (&mut read).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        let request: Request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => {
                let error = WireError::new("bad-request", format!("the request is not understood: {error}"));
                send(&mut write, Reply::Error(error)).await?;
                continue;
            }
        };
        match request {
            Request::Watch => watch(daemon, &mut read, &mut write).await?,
            Request::Quit => {
                let reply = daemon.answer(request).await.unwrap_or_else(Reply::Error);
                send(&mut write, reply).await?;
                let _ = quit.send(()).await;
            }
            request => {
                let reply = tokio::select! {
                    reply = daemon.answer(request) => reply.unwrap_or_else(Reply::Error),
                    // Whoever asked is gone: the step is given up, and can be asked for again.
                    () = gone(&mut read) => return Ok(()),
                };
                send(&mut write, reply).await?;
            }
        }
    }
}

/// Ends when the other side has closed; a further request that has come already is left for later.
async fn gone(read: &mut BufReader<OwnedReadHalf>) {
    match read.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

async fn watch(
    daemon: &Arc<Daemon>,
    read: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> io::Result<()> {
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
            () = gone(read) => return Ok(()),
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, reply: Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}
