//! `cached.sock`: the connections of `init` and `kiosk-ui`.

use super::Daemon;
use crate::harden;
use parcel::wire::{
    Code, WireError,
    daemon::{Reply, Request},
    users,
};
use sockets::{
    Broken, Error,
    asynchronous::{Connection, Listener},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// The least time between two lines of a watch.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// How often a watch is told of time passing while something waits.
const WATCH_TICK: Duration = Duration::from_secs(1);

/// Serves the control socket until `SIGTERM`, `SIGINT` or [`Request::Quit`]; forgets all secrets at the end.
pub async fn run(daemon: Arc<Daemon>) -> io::Result<()> {
    let path = daemon.sockets().control.clone();
    // The VMM is of the sockets' group too, and what it runs is not trusted.
    let listener = Listener::bind(&path, harden::peers(users::KIOSK_UI))?;
    let (quit, mut quitting) = mpsc::channel(1);
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tracing::info!(socket = %path.display(), "ready");
    loop {
        tokio::select! {
            stream = listener.accept() => {
                let (daemon, quit) = (daemon.clone(), quit.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(&daemon, Connection::new(stream), &quit).await {
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

async fn converse(daemon: &Arc<Daemon>, mut peer: Connection, quit: &mpsc::Sender<()>) -> Result<(), Error> {
    loop {
        let request = match peer.receive::<Request>().await {
            Ok(request) => request,
            Err(Error::Closed) => return Ok(()),
            Err(Error::NotUnderstood(error)) => {
                let error =
                    WireError::new(Code::CachedProtocol, format!("the request is not understood: {error}"));
                send(&peer, Reply::Error(error)).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        match request {
            Request::Watch => return watch(daemon, &mut peer).await,
            Request::Quit => {
                let reply = daemon.answer(request).await.unwrap_or_else(Reply::Error);
                send(&peer, reply).await?;
                let _ = quit.send(()).await;
            }
            request => {
                let reply = tokio::select! {
                    biased;
                    reply = daemon.answer(request) => reply.unwrap_or_else(Reply::Error),
                    // Whoever asked is gone: the step is given up, and can be asked for again.
                    () = peer.gone() => return Ok(()),
                };
                send(&peer, reply).await?;
            }
        }
    }
}

async fn watch(daemon: &Arc<Daemon>, peer: &mut Connection) -> Result<(), Error> {
    let mut changes = daemon.board().changes();
    let mut last = None;
    loop {
        changes.mark_unchanged();
        let status = daemon.board().status();
        let waiting = status.waiting.is_some() || status.progress.is_some();
        if last.as_ref() != Some(&status) {
            send(peer, Reply::Status(status.clone())).await?;
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
            () = peer.gone() => return Ok(()),
        }
    }
}

async fn send(peer: &Connection, reply: Reply) -> Result<(), Error> {
    match peer.send(&reply).await {
        Err(Error::Broken(Broken::LineTooLong)) => {
            let text =
                "the parcel server's answer is longer than this kiosk can show; ask your administrator";
            peer.send(&Reply::Error(WireError::new(Code::AnswerTooLong, text))).await
        }
        sent => sent,
    }
}
