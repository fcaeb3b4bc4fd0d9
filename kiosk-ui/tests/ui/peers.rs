//! The other ends of the kiosk's sockets.

use parcel::wire::{
    daemon::{Reply, Request},
    session::{Command, State},
};
use sockets::{Error, blocking::Connection, names};
use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

/// Nothing that these tests wait for takes so long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

fn listen(dir: &Path, name: &str) -> (UnixListener, PathBuf) {
    let path = dir.join(name);
    drop(std::fs::remove_file(&path));
    (UnixListener::bind(&path).expect("a socket"), path)
}

/// `init`: one connection.
pub struct Init {
    states: Option<mpsc::Sender<State>>,
    commands: mpsc::Receiver<Command>,
    path: PathBuf,
    done: Option<thread::JoinHandle<()>>,
}

impl Init {
    pub fn listen(dir: &Path) -> Self {
        let (listener, path) = listen(dir, names::INIT);
        let (states, to_say) = mpsc::channel::<State>();
        let (heard, commands) = mpsc::channel();
        let done = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the kiosk connects");
            let saying = Connection::new(stream.try_clone().expect("a second handle"));
            thread::spawn(move || {
                let mut screens = Connection::new(stream);
                loop {
                    let command = match screens.receive() {
                        Err(Error::NotUnderstood(why)) => panic!("no command: {why}"),
                        Err(_) => break,
                        Ok(command) => command,
                    };
                    if heard.send(command).is_err() {
                        break;
                    }
                }
            });
            for state in to_say {
                if saying.send(&state).is_err() {
                    break;
                }
            }
            drop(saying.stream().shutdown(std::net::Shutdown::Both));
        });
        Self { states: Some(states), commands, path, done: Some(done) }
    }

    pub fn say(&self, state: State) {
        self.states.as_ref().expect("not dropped").send(state).expect("init talks");
    }

    pub fn next(&self) -> Command {
        self.commands.recv_timeout(PATIENCE).expect("a command comes")
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.states = None;
        // Whoever never came is let in, so that the thread ends.
        drop(UnixStream::connect(&self.path));
        if let Some(done) = self.done.take() {
            drop(done.join());
        }
        drop(std::fs::remove_file(&self.path));
    }
}

/// `cached`: as many connections as are made.
pub struct Cached {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Cached {
    pub fn listen(dir: &Path, answer: fn(&Request) -> Reply) -> Self {
        let (listener, _) = listen(dir, names::CACHED);
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let heard = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&heard);
                thread::spawn(move || converse(stream, answer, &heard));
            }
        });
        Self { requests }
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn converse(stream: UnixStream, answer: fn(&Request) -> Reply, heard: &Mutex<Vec<Request>>) {
    let mut screens = Connection::new(stream);
    loop {
        let request: Request = match screens.receive() {
            Err(Error::NotUnderstood(why)) => panic!("no request: {why}"),
            Err(_) => break,
            Ok(request) => request,
        };
        let reply = answer(&request);
        heard.lock().expect("no panic").push(request);
        if screens.send(&reply).is_err() {
            break;
        }
    }
}

/// The guest's console: one connection.
pub struct Console {
    say: mpsc::Sender<Vec<u8>>,
    heard: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Console {
    pub fn listen(dir: &Path) -> Self {
        let (listener, _) = listen(dir, names::CONSOLE);
        let (say, to_say) = mpsc::channel::<Vec<u8>>();
        let heard: Arc<(Mutex<Vec<u8>>, Condvar)> = Arc::default();
        let hearing = Arc::clone(&heard);
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the kiosk connects");
            let mut write = stream.try_clone().expect("a second handle");
            thread::spawn(move || {
                let mut piece = [0; 256];
                while let Ok(n @ 1..) = stream.read(&mut piece) {
                    hearing.0.lock().expect("no panic").extend(&piece[..n]);
                    hearing.1.notify_all();
                }
            });
            for bytes in to_say {
                if write.write_all(&bytes).is_err() {
                    break;
                }
            }
        });
        Self { say, heard }
    }

    pub fn say(&self, bytes: &[u8]) {
        self.say.send(bytes.to_vec()).expect("the guest talks");
    }

    pub fn wait_for(&self, bytes: &[u8]) {
        let (heard, changed) = &*self.heard;
        let heard = heard.lock().expect("no panic");
        let (heard, late) =
            changed.wait_timeout_while(heard, PATIENCE, |heard| heard.len() < bytes.len()).expect("no panic");
        assert!(!late.timed_out() && *heard == bytes, "the guest was sent {heard:?}");
    }
}
