//! `vmm.sock`: takes `init`'s requests, answers what needs no machine itself, and hands the rest to the manager.

use crate::{
    error::{Error, Result},
    machine::manager::{Event, Shared},
};
use parcel::wire::{
    Code, WireError,
    vmm::{GuestState, Reply, Request},
};
use sockets::blocking::Connection;
use std::{
    collections::BTreeMap,
    os::{fd::AsRawFd, unix::net::UnixListener},
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

const LISTENER: u64 = 0;
const ANSWERS: u64 = 1;
const CLIENT: u64 = 2;
/// Most connections at one time.
const CLIENTS: usize = 16;
/// A peer that does not read its answers for this long is let go.
const PATIENCE: Duration = Duration::from_secs(5);

struct Client {
    socket: Connection,
    /// A request is with the manager; later ones wait.
    busy: bool,
}

/// The server of `vmm.sock`.
pub struct Control {
    epoll: Epoll,
    listener: UnixListener,
    clients: BTreeMap<u64, Client>,
    next: u64,
    answers: Receiver<(u64, Reply)>,
    answered: EventFd,
    manager: Sender<Event>,
    shared: Arc<Shared>,
}

/// Takes an answer from the manager to whoever asked.
pub type Answer = Box<dyn Fn(u64, Reply) + Send>;

impl Control {
    /// Prepares to serve; with it the way by which answers come.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new(
        listener: UnixListener,
        manager: Sender<Event>,
        shared: Arc<Shared>,
    ) -> Result<(Self, Answer)> {
        let failed = || Error::io("preparing the control socket");
        listener.set_nonblocking(true).map_err(failed())?;
        let epoll = Epoll::new().map_err(failed())?;
        let answered = EventFd::new(EFD_NONBLOCK).map_err(failed())?;
        for (fd, token) in [(listener.as_raw_fd(), LISTENER), (answered.as_raw_fd(), ANSWERS)] {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, token)).map_err(failed())?;
        }
        let (sender, answers) = channel();
        let wake = answered.try_clone().map_err(failed())?;
        let answer = Box::new(move |who, reply| {
            if sender.send((who, reply)).is_ok() {
                let _ = wake.write(1);
            }
        });
        let clients = BTreeMap::new();
        Ok((Self { epoll, listener, clients, next: CLIENT, answers, answered, manager, shared }, answer))
    }

    /// Serves until told to quit.
    ///
    /// # Errors
    /// The system's refusal to wait.
    pub fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::default(); 16];
        loop {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => 0,
                Err(e) => return Err(Error::io("waiting for requests")(e)),
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept(),
                    ANSWERS => {
                        if self.pass_answers() {
                            return Ok(());
                        }
                    }
                    id => {
                        let filled = self.clients.get_mut(&id).map(|c| c.socket.fill());
                        if !matches!(filled, Some(Ok(()))) {
                            self.clients.remove(&id);
                        }
                        let quit = crate::caught(|| Ok(self.serve(id))).unwrap_or_else(|why| {
                            tracing::error!("a connection to the control socket was dropped: {why}");
                            self.clients.remove(&id);
                            false
                        });
                        if quit {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let event = EpollEvent::new(EventSet::IN, self.next);
        if self.clients.len() == CLIENTS
            || stream.set_write_timeout(Some(PATIENCE)).is_err()
            || self.epoll.ctl(ControlOperation::Add, stream.as_raw_fd(), event).is_err()
        {
            tracing::warn!("a connection to the control socket was turned away");
            return;
        }
        self.clients.insert(self.next, Client { socket: Connection::new(stream), busy: false });
        self.next += 1;
    }

    /// Passes on what the manager answered, and serves the requests that waited for it; `true`: quit.
    fn pass_answers(&mut self) -> bool {
        let _ = self.answered.read();
        while let Ok((who, reply)) = self.answers.try_recv() {
            if let Some(client) = self.clients.get_mut(&who) {
                client.busy = false;
                if client.socket.send(&reply).is_err() {
                    self.clients.remove(&who);
                }
            }
            if self.serve(who) {
                return true;
            }
        }
        false
    }

    /// Serves what a client has asked; `true`: quit.
    fn serve(&mut self, id: u64) -> bool {
        while let Some(client) = self.clients.get_mut(&id) {
            if client.busy {
                return false;
            }
            let taken = client.socket.take();
            if matches!(taken, Ok(Some(_))) {
                crate::planted::here("control");
            }
            let reply = match taken {
                Ok(None) => return false,
                Err(e @ sockets::Error::NotUnderstood(_)) => {
                    Some(Reply::Error(WireError::new(Code::VmmProtocol, e.to_string())))
                }
                Err(e) => {
                    tracing::warn!("a connection to the control socket ends: {e}");
                    self.clients.remove(&id);
                    return false;
                }
                Ok(Some(Request::Quit)) => {
                    let _ = client.socket.send(&Reply::Ok);
                    return true;
                }
                Ok(Some(request)) => answer_now(&self.shared, &request).or_else(|| {
                    client.busy = true;
                    // A send fails only when the manager has ended, and with it the process.
                    let _ = self.manager.send(Event::Command(id, request));
                    None
                }),
            };
            if let Some(reply) = reply
                && client.socket.send(&reply).is_err()
            {
                self.clients.remove(&id);
            }
        }
        false
    }
}

/// What can be answered without the manager.
fn answer_now(shared: &Shared, request: &Request) -> Option<Reply> {
    let state = shared.state();
    match (request, state) {
        (Request::Status, _) => {
            Some(Reply::Status { state, failure: shared.failure(), clock_behind: shared.clock_behind() })
        }
        (Request::ConsoleSize { cols, rows }, GuestState::Starting) => {
            let mut size = shared.size.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at again under the lock: the manager takes a size for the last time after it has left this state.
            (shared.state() == GuestState::Starting).then(|| {
                *size = Some((*cols, *rows));
                Reply::Ok
            })
        }
        (_, GuestState::Starting) => {
            let text = "the machine is still starting; ask again when its state is running";
            Some(Reply::Error(WireError::new(Code::VmmStarting, text)))
        }
        _ => None,
    }
}
