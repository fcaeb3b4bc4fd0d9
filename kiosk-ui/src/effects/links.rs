//! The two lasting connections, each kept up by a task: `init.sock` and `console.sock`.

use crate::event::Event;
use parcel::wire::session::{Command, State};
use sockets::asynchronous::Connection;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, watch},
};

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);
/// The most console bytes taken at once: a key waits for one such piece at most.
const CONSOLE_PIECE: usize = 4 << 10;

/// Keeps a connection to `init` until nobody listens any more.
pub async fn session(socket: PathBuf, mut commands: mpsc::Receiver<Command>, events: mpsc::Sender<Event>) {
    while !events.is_closed() {
        if let Err(error) = session_once(&socket, &mut commands, &events).await {
            tracing::debug!(%error, "init.sock");
        }
        drop(events.send(Event::InitLost).await);
        // What the user wanted of an `init` that is gone must not reach the next one out of the blue.
        while commands.try_recv().is_ok() {}
        tokio::time::sleep(AGAIN).await;
    }
}

async fn session_once(
    socket: &Path,
    commands: &mut mpsc::Receiver<Command>,
    events: &mpsc::Sender<Event>,
) -> Result<(), sockets::Error> {
    let Connection { mut receiver, sender } = Connection::connect(socket).await?;
    let reading = async {
        loop {
            let state: State = receiver.receive().await?;
            if events.send(Event::State(Box::new(state))).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some(command) = commands.recv().await {
            sender.send(&command).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

/// Keeps a connection to the guest's console while it is wanted.
pub async fn console(
    socket: PathBuf,
    mut wanted: watch::Receiver<bool>,
    mut typed: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<Event>,
) {
    while wanted.wait_for(|wanted| *wanted).await.map(drop).is_ok() {
        while typed.try_recv().is_ok() {}
        let mut until = wanted.clone();
        tokio::select! {
            () = async { drop(until.wait_for(|wanted| !*wanted).await.map(drop)) } => {}
            ended = console_once(&socket, &mut typed, &events) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "console.sock");
                }
                drop(events.send(Event::ConsoleLost).await);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn console_once(
    socket: &Path,
    typed: &mut mpsc::Receiver<Vec<u8>>,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let (mut read, mut write) = UnixStream::connect(socket).await?.into_split();
    // The console is there, even while the guest is silent.
    drop(events.send(Event::Console(Vec::new())).await);
    let reading = async {
        let mut piece = vec![0; CONSOLE_PIECE];
        loop {
            let n = read.read(&mut piece).await?;
            if n == 0 || events.send(Event::Console(piece[..n].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some(bytes) = typed.recv().await {
            write.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
