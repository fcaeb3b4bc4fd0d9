//! Peers that keep no rule. Nothing that they send stays open in this process.

use sockets::{
    Broken, Error, MAX_LINE, asynchronous,
    blocking::{self, send_line},
    listen::{Access, Peers, bind},
    transfer::{self, MOST_AT_ONCE},
};
use std::{
    ffi::CString,
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    path::Path,
};

/// A file whose descriptors can be told from all others of this process.
struct Marked {
    file: File,
    link: String,
}

impl Marked {
    fn new(name: &str) -> Self {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let file = nix::sys::memfd::memfd_create(CString::new(name).unwrap().as_c_str(), flags).unwrap();
        Self { file: file.into(), link: format!("/memfd:{name} (deleted)") }
    }

    /// How many descriptors of it this process has.
    fn open(&self) -> usize {
        let links = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| entry.ok()?.path().read_link().ok());
        links.filter(|link| link == Path::new(&self.link)).count()
    }

    fn times(&self, count: usize) -> Vec<BorrowedFd<'_>> {
        vec![self.file.as_fd(); count]
    }
}

fn broken(error: Error) -> Broken {
    match error {
        Error::Broken(why) => why,
        other => panic!("{other:?}"),
    }
}

/// What a peer does with its end, and how the connection ends.
type Case = (&'static str, fn(&UnixStream, &Marked), fn(&Error) -> bool);

const CASES: &[Case] = &[
    (
        "five descriptors",
        |peer, marked| drop(transfer::send(peer, b"1\n", &marked.times(5))),
        |error| matches!(error, Error::Broken(Broken::TooManyDescriptors(4))),
    ),
    (
        "as many as the kernel passes",
        |peer, marked| drop(transfer::send(peer, b"1\n", &marked.times(MOST_AT_ONCE))),
        |error| matches!(error, Error::Broken(Broken::TooManyDescriptors(4))),
    ),
    (
        "three and three with one line",
        |peer, marked| {
            transfer::send(peer, b"1", &marked.times(3)).unwrap();
            transfer::send(peer, b"2\n", &marked.times(3)).unwrap();
        },
        |error| matches!(error, Error::Broken(Broken::TooManyDescriptors(4))),
    ),
    (
        "descriptors with a line that is no message",
        |peer, marked| drop(transfer::send(peer, b"{\"x\":\n", &marked.times(4))),
        |error| matches!(error, Error::NotUnderstood(_)),
    ),
    (
        "descriptors with half a line",
        |peer, marked| drop(transfer::send(peer, b"12", &marked.times(4))),
        |error| matches!(error, Error::Broken(Broken::Unfinished)),
    ),
    (
        "descriptors with a line that is too long",
        |peer, marked| {
            let line = vec![b'x'; MAX_LINE + 10];
            drop(send_line(peer, &line, &marked.times(4)));
        },
        |error| matches!(error, Error::Broken(Broken::LineTooLong)),
    ),
];

#[test]
fn descriptors_of_a_hostile_peer_are_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (what, act, ends) in CASES {
        let marked = Marked::new(&format!("hostile {what}"));
        std::thread::scope(|scope| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let acting = scope.spawn(|| {
                let peer = theirs;
                act(&peer, &marked);
            });
            let mut connection = blocking::Connection::with_descriptors(ours);
            let error = connection.receive::<u32>().unwrap_err();
            assert!(ends(&error), "{what}: {error:?}");
            assert_eq!(marked.open(), 1, "{what}: before the connection ends");
            drop(connection);
            acting.join().unwrap();
        });
        std::thread::scope(|scope| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let acting = scope.spawn(|| {
                let peer = theirs;
                act(&peer, &marked);
            });
            ours.set_nonblocking(true).unwrap();
            let _inside = runtime.enter();
            let stream = tokio::net::UnixStream::from_std(ours).unwrap();
            let mut connection = asynchronous::Connection::with_descriptors(stream);
            let error = runtime.block_on(connection.receive::<u32>()).unwrap_err();
            assert!(ends(&error), "{what}: {error:?}");
            assert_eq!(marked.open(), 1, "{what}: before the connection ends");
            drop(connection);
            acting.join().unwrap();
        });
    }
}

#[test]
fn who_takes_no_descriptors_is_given_none() {
    let marked = Marked::new("unwanted");
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_line(&theirs, b"1\n", &[]).unwrap();
    send_line(&theirs, b"2\n", &marked.times(1)).unwrap();
    let mut connection = blocking::Connection::new(ours);
    assert_eq!(connection.receive::<u32>().unwrap(), 1, "what came before is heard");
    assert_eq!(broken(connection.receive::<u32>().unwrap_err()), Broken::TooManyDescriptors(0));
    assert_eq!(marked.open(), 1);
}

#[test]
fn a_line_that_is_no_message_is_not_the_end() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send_line(&theirs, b"nonsense\n\n\xff\n7\n", &[]).unwrap();
    let mut connection = blocking::Connection::new(ours);
    for _ in 0..3 {
        assert!(matches!(connection.receive::<u32>(), Err(Error::NotUnderstood(_))));
    }
    assert_eq!(connection.receive::<u32>().unwrap(), 7);
    drop(theirs);
    assert!(matches!(connection.receive::<u32>(), Err(Error::Closed)));
}

#[test]
fn who_polls_keeps_a_bounded_number_of_lines() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let flood = std::thread::spawn(move || {
        let lines = b"1\n".repeat(MAX_LINE);
        drop(send_line(&theirs, &lines, &[]));
    });
    let mut connection = blocking::Connection::new(ours);
    let mut filled = 0;
    let why = loop {
        match connection.fill() {
            Ok(()) => filled += 1,
            Err(why) => break why,
        }
    };
    assert_eq!(broken(why), Broken::Flood);
    assert!(filled * 4096 <= MAX_LINE + 8192, "{filled}");
    assert_eq!(connection.take::<u32>().unwrap(), Some(1));
    drop(connection);
    flood.join().unwrap();
}

#[test]
fn only_peers_connect() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let own = nix::unistd::geteuid().as_raw();
    // A socket that an earlier process left is in nobody's way.
    drop(bind(&path, Access::Group).unwrap());
    let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o660);
    let listener = bind(&path, Access::User).unwrap();
    assert_eq!(mode(), 0o600);
    let _client = UnixStream::connect(&path).unwrap();
    let (stream, _) = listener.accept().unwrap();
    assert!(Peers::new([]).admit(&stream) && Peers::only([own]).admit(&stream));
    assert!(!Peers::only([4242]).admit(&stream));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (peers, expected) in [(Peers::only([4242]), false), (Peers::new([4242]), true)] {
            let listener = asynchronous::Listener::bind(&path, peers).unwrap();
            let accepting = tokio::spawn(async move { drop(listener.accept().await) });
            let mut client = asynchronous::Connection::connect(&path).await.unwrap();
            // Let in or turned away, it is closed.
            assert!(client.receive::<u32>().await.is_err());
            tokio::task::yield_now().await;
            assert_eq!(accepting.is_finished(), expected);
            accepting.abort();
        }
    });
}
