//! `init.sock`: the state goes out to every connected `kiosk-ui`, its commands come in.

use parcel::wire::{
    session::{Command, State},
    users,
};
use sockets::{
    Error,
    blocking::{Connection, send_line},
    codec::encode,
    listen::{Access, Peers, bind},
    names,
};
use std::{
    fs, io,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use zeroize::Zeroizing;

/// Connections at once: the screens have one, and another while they start again.
const MOST: usize = 8;
/// Between two commands of one connection: commands are a person's, and a broken program must not flood the manager.
const PACE: Duration = Duration::from_millis(5);

/// The server side. Cheap to clone.
#[derive(Clone, Default)]
pub struct Control(Arc<Mutex<Clients>>);

#[derive(Default)]
struct Clients {
    last: Option<Zeroizing<Vec<u8>>>,
    streams: Vec<UnixStream>,
    /// Counts sessions: what a client of an earlier one still says is not heard.
    session: u64,
}

impl Control {
    /// Makes the run folder and the socket in it, and hands commands to `hear` until that says no.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn serve(
        &self,
        folder: &Path,
        hear: impl Fn(Command) -> bool + Clone + Send + 'static,
    ) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        // Sticky: one session user cannot take another's socket away and listen in its place. Set-group-ID: a socket
        // made in it belongs to the group that all of them are in, whoever makes it.
        chown(folder, Some(users::ROOT.id), Some(users::GROUP))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o3770))?;
        let listener = bind(&folder.join(names::INIT), Access::Group)?;
        // Only the screens command: a guest that breaks out into the VMM's user must not.
        self.accept(listener, Peers::new([users::KIOSK_UI.id]), hear)
    }

    fn accept(
        &self,
        listener: UnixListener,
        peers: Peers,
        hear: impl Fn(Command) -> bool + Clone + Send + 'static,
    ) -> io::Result<()> {
        let control = self.clone();
        std::thread::Builder::new().name(names::INIT.to_owned()).spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // Out of descriptors or memory: a pause, then again.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                };
                if peers.admit(&stream) {
                    let _ = control.greet(stream, hear.clone());
                }
            }
        })?;
        Ok(())
    }

    fn greet(&self, stream: UnixStream, hear: impl Fn(Command) -> bool + Send + 'static) -> io::Result<()> {
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        let reader = stream.try_clone()?;
        let control = self.clone();
        let session = {
            let mut clients = self.lock();
            clients.streams.retain(|stream| !hung_up(stream));
            if clients.streams.len() >= MOST {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            if let Some(last) = &clients.last {
                send_line(&stream, last, &[])?;
            }
            clients.streams.push(stream);
            clients.session
        };
        std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
            let mut screens = Connection::new(reader);
            loop {
                match screens.receive::<Command>() {
                    Ok(command) => {
                        // Commands may lie in the socket when it is hung up.
                        if control.lock().session != session || !hear(command) {
                            return;
                        }
                    }
                    // One that is not understood comes from a mixed image; the next may be.
                    Err(Error::NotUnderstood(_)) => {}
                    Err(_) => {
                        let _ = screens.stream().shutdown(std::net::Shutdown::Both);
                        return;
                    }
                }
                std::thread::sleep(PACE);
            }
        })?;
        Ok(())
    }

    /// Sends the state to everyone, also to those who connect later.
    pub fn publish(&self, state: &State) {
        let Ok(line) = encode(state) else { return };
        let mut clients = self.lock();
        // Whoever does not read for a second is gone or stuck; it may connect again.
        clients.streams.retain(|stream| {
            let sent = send_line(stream, &line, &[]).is_ok();
            if !sent {
                // Its commands are not waited for either.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            sent
        });
        clients.last = Some(line);
    }

    /// Ends all connections: their commands belong to a session that is over.
    pub fn disconnect(&self) {
        let mut clients = self.lock();
        clients.session += 1;
        for stream in clients.streams.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the other side has closed the connection.
fn hung_up(stream: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut ends = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let _ = poll(&mut ends, PollTimeout::ZERO);
    ends[0].revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parcel::wire::session::Phase;
    use std::sync::mpsc::channel;

    fn state(doing: &str) -> State {
        State {
            kiosk: "A".into(),
            phase: Phase::Login,
            doing: doing.into(),
            progress: None,
            network: None,
            network_detail: String::new(),
            login: None,
            parcel: None,
            parcel_id: None,
            proof: None,
            locked: false,
            failures: 0,
            presses: 0,
            notice: None,
            wishes_missed: vec![],
            clock_behind: false,
            image: String::new(),
            waiting: None,
            report: None,
            keyboard: None,
            health: parcel::wire::health::Health::default(),
            console: false,
            timeline: vec![],
        }
    }

    fn serve(peers: Peers) -> (tempfile::TempDir, Control, std::sync::mpsc::Receiver<Command>) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(names::INIT)).unwrap();
        let (tx, rx) = channel();
        let control = Control::default();
        control.accept(listener, peers, move |command| tx.send(command).is_ok()).unwrap();
        (folder, control, rx)
    }

    #[test]
    fn a_late_client_knows_all_and_is_heard() {
        let own = nix::unistd::getuid().as_raw();
        let (folder, control, heard) = serve(Peers::only([own]));
        control.publish(&state("before"));
        let mut client = Connection::connect(&folder.path().join(names::INIT)).unwrap();
        assert_eq!(client.receive::<State>().unwrap().doing, "before");
        control.publish(&state("after"));
        assert_eq!(client.receive::<State>().unwrap().doing, "after");
        client.send(&"nonsense").unwrap();
        client.send(&Command::Suspend).unwrap();
        assert_eq!(heard.recv().unwrap(), Command::Suspend);
        control.disconnect();
        assert!(client.receive::<State>().is_err());
    }

    #[test]
    fn no_more_connections_than_screens_need() {
        let own = nix::unistd::getuid().as_raw();
        let (folder, control, heard) = serve(Peers::only([own]));
        control.publish(&state("now"));
        let connect = || Connection::connect(&folder.path().join(names::INIT)).unwrap();
        let mut clients: Vec<Connection> = (0..MOST).map(|_| connect()).collect();
        for client in &mut clients {
            assert_eq!(client.receive::<State>().unwrap().doing, "now");
        }
        assert!(connect().receive::<State>().is_err(), "one too many is not served");
        // Those that hung up leave room, without a state that is published meanwhile.
        clients.clear();
        let mut client = connect();
        assert_eq!(client.receive::<State>().unwrap().doing, "now");
        client.send(&Command::Suspend).unwrap();
        assert_eq!(heard.recv().unwrap(), Command::Suspend);
    }

    #[test]
    fn strangers_are_not_heard() {
        let (folder, control, heard) = serve(Peers::only([4242]));
        control.publish(&state("secret"));
        let mut client = Connection::connect(&folder.path().join(names::INIT)).unwrap();
        let _ = client.send(&Command::PowerOff);
        assert!(client.receive::<State>().is_err());
        assert!(heard.try_recv().is_err());
    }
}
