//! The program `cached` on its control socket, without a server: what it answers, and how it ends.

use cache::control::{AsyncClient, Client, ControlError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parcel::{
    id::ParcelId,
    wire::{
        Code,
        daemon::{Policy, Reply, Request},
    },
};
use sockets::{
    blocking::{Connection, send_line},
    names,
    transfer::{self, MOST_AT_ONCE},
};
use std::{
    os::{
        fd::AsFd as _,
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

struct Cached {
    child: Child,
    folder: tempfile::TempDir,
}

impl Cached {
    fn start() -> Self {
        Self::start_under("true")
    }

    /// Starts it after a command of the shell that sets limits.
    fn start_under(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("{limits}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_cached")])
            .arg("--run-dir")
            .arg(folder.path())
            .arg("--cache-dir")
            .arg(folder.path())
            // Nobody listens on the discard port.
            .args(["--server", "https://127.0.0.1:9", "--log", "warn", "--ca"])
            .arg(folder.path().join("ca.pem"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let cached = Self { child, folder };
        for _ in 0..1000 {
            // Between the name of a socket and its listening there is a moment.
            if Client::connect(&cached.socket()).is_ok() {
                return cached;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("cached does not come up");
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(names::CACHED)
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    /// Its exit code and what it wrote to its log.
    fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut log).unwrap();
        (code, log)
    }
}

fn code(result: Result<Reply, ControlError>) -> String {
    match result {
        Err(ControlError::Refused(error)) => error.code.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => "ok".into(),
    }
}

const PARCEL: ParcelId = ParcelId([1; 16]);
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn every_step_is_answered_in_its_place() {
    let cached = Cached::start();
    let mut client = cached.client();
    assert_eq!(std::fs::metadata(cached.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(code(client.ask(&Request::Session { token: "token-canary".into() })), "ok");
    assert_eq!(code(client.ask(&Request::Parcels)), "server-unreachable");
    assert_eq!(code(client.ask(&Request::Slots { parcel: PARCEL })), "server-unreachable");
    assert_eq!(code(client.ask(&Request::Key { parcel: PARCEL, key: KEY.into() })), "ok");
    assert_eq!(code(client.ask(&Request::Key { parcel: PARCEL, key: "short".into() })), "bad-key");
    let open = Request::Open { parcel: PARCEL, policy: Policy::Demand, cold_boot: false, memory_mib: None };
    assert_eq!(code(client.ask(&open)), "not-locked");
    assert_eq!(code(client.ask(&Request::Commit)), "not-locked");
    assert_eq!(code(client.ask(&Request::Unlock)), "ok");
    let status = client.status().unwrap();
    assert!(status.bytes_out > 0 && status.waiting.is_none());
    assert!(matches!(client.ask(&Request::Quit), Ok(Reply::Ok)));
    let socket = cached.socket();
    let (exit, log) = cached.ended();
    assert_eq!(exit, Some(0), "{log}");
    assert!(!socket.exists());
    assert!(!log.contains("token-canary") && !log.contains(&KEY[..16]), "{log}");
}

#[test]
fn nonsense_is_refused_and_the_connection_goes_on() {
    let cached = Cached::start();
    let mut connection = Connection::connect(&cached.socket()).unwrap();
    for nonsense in ["{\n", "[]\n", "{\"cmd\":\"make_tea\"}\n", "\u{0}\n", "\n"] {
        send_line(connection.stream(), nonsense.as_bytes(), &[]).unwrap();
        let Ok(Reply::Error(error)) = connection.receive() else { panic!("{nonsense:?}") };
        assert_eq!(error.code, Code::CachedProtocol);
    }
    connection.send(&Request::Status).unwrap();
    assert!(matches!(connection.receive(), Ok(Reply::Status(_))));
    // A line without an end is cut off at the most that a line may have.
    let flood = vec![b'x'; sockets::MAX_LINE + 2];
    let _ = send_line(connection.stream(), &flood, &[]);
    assert!(connection.receive::<Reply>().is_err());
    assert!(cached.client().status().is_ok());
    kill(Pid::from_raw(cached.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(cached.ended().0, Some(0));
}

#[test]
fn more_connections_than_descriptors_end_nothing() {
    let cached = Cached::start_under("ulimit -n 32");
    let flood: Vec<_> = (0..40).map(|_| UnixStream::connect(cached.socket()).unwrap()).collect();
    drop(flood);
    assert!(cached.client().status().is_ok());
    kill(Pid::from_raw(cached.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(cached.ended().0, Some(0));
}

#[test]
fn no_descriptor_that_is_sent_to_cached_stays_open() {
    let cached = Cached::start();
    // One end goes to `cached`, as often as the kernel passes it. The other end sees when the last of them is closed.
    let (mut kept, given) = UnixStream::pair().unwrap();
    let peers: Vec<_> = [&b"{\"cmd\":\"status\"}\n"[..], b"{\"cmd\"", b"\n"]
        .into_iter()
        .map(|bytes| {
            let peer = UnixStream::connect(cached.socket()).unwrap();
            transfer::send(&peer, bytes, &vec![given.as_fd(); MOST_AT_ONCE]).unwrap();
            peer
        })
        .collect();
    drop(given);
    // It takes none, and hangs up on whoever sends some.
    for peer in &peers {
        assert!(Connection::new(peer.try_clone().unwrap()).receive::<Reply>().is_err());
    }
    kept.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(std::io::Read::read(&mut kept, &mut [0]).expect("all are closed"), 0);
    assert!(cached.client().status().is_ok());
    kill(Pid::from_raw(cached.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(cached.ended().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_of_changes() {
    let cached = Cached::start();
    let mut watch = AsyncClient::connect(&cached.socket()).await.unwrap();
    let Reply::Status(before) = watch.ask(&Request::Watch).await.unwrap() else { panic!("no status") };
    let mut other = AsyncClient::connect(&cached.socket()).await.unwrap();
    assert!(other.ask(&Request::Parcels).await.is_err());
    let Reply::Status(after) = watch.read().await.unwrap() else { panic!("no status") };
    assert!(after.bytes_out > before.bytes_out);
    kill(Pid::from_raw(cached.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(cached.ended().0, Some(0));
}
