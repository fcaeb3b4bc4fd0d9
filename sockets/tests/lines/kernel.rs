//! Both front ends over the kernel's own sockets, which decide what is read at once.

use proptest::prelude::*;
use sockets::{MAX_DESCRIPTORS, asynchronous, blocking, transfer};
use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
};

/// A message, its files by number, and how its line is cut when it is sent: pieces, each with some of the files.
#[derive(Debug, Clone)]
struct Sent {
    text: String,
    files: Vec<usize>,
    cuts: Vec<prop::sample::Index>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = prop_oneof![4 => 0..30usize, 1 => 3000..9000usize, 1 => 40_000..90_000usize];
    (
        text,
        prop::collection::vec(0..6usize, 0..=MAX_DESCRIPTORS),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )
        .prop_map(|(len, files, cuts)| Sent { text: "x".repeat(len), files, cuts })
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

fn say(stream: &UnixStream, messages: &[Sent], files: &[File]) {
    for message in messages {
        let line = sockets::codec::encode(&message.text).unwrap();
        let mut cuts: Vec<usize> = message.cuts.iter().map(|cut| cut.index(line.len())).collect();
        cuts.extend([0, line.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut left: &[usize] = &message.files;
        for (index, cut) in cuts.windows(2).enumerate() {
            // Some with each piece, the rest with the last.
            let (now, later) =
                left.split_at(if index + 2 == cuts.len() { left.len() } else { left.len() / 2 });
            left = later;
            let fds: Vec<BorrowedFd> = now.iter().map(|file| files[*file].as_fd()).collect();
            blocking::send_line(stream, &line[cut[0]..cut[1]], &fds).unwrap();
        }
    }
}

fn inodes(descriptors: Vec<OwnedFd>) -> Vec<u64> {
    descriptors.into_iter().map(|descriptor| inode(&File::from(descriptor))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn descriptors_stay_with_their_line(messages in prop::collection::vec(sent(), 1..12)) {
        let files: Vec<File> = (0..6).map(|_| tempfile::tempfile().unwrap()).collect();
        let expected: Vec<(String, Vec<u64>)> = messages
            .iter()
            .map(|sent| (sent.text.clone(), sent.files.iter().map(|file| inode(&files[*file])).collect()))
            .collect();
        let heard = |receive: &mut dyn FnMut() -> Result<(String, Vec<OwnedFd>), sockets::Error>| {
            let mut heard = Vec::new();
            loop {
                match receive() {
                    Ok((text, descriptors)) => heard.push((text, inodes(descriptors))),
                    Err(sockets::Error::Closed) => return heard,
                    Err(other) => panic!("{other}"),
                }
            }
        };
        std::thread::scope(|scope| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            scope.spawn(|| { let theirs = theirs; say(&theirs, &messages, &files) });
            let mut connection = blocking::Connection::with_descriptors(ours);
            assert_eq!(heard(&mut || connection.receive_with()), expected);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::scope(|scope| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            scope.spawn(|| { let theirs = theirs; say(&theirs, &messages, &files) });
            ours.set_nonblocking(true).unwrap();
            let _inside = runtime.enter();
            let stream = tokio::net::UnixStream::from_std(ours).unwrap();
            let mut connection = asynchronous::Connection::with_descriptors(stream);
            assert_eq!(heard(&mut || runtime.block_on(connection.receive_with())), expected);
        });
    }
}

#[test]
fn what_is_received_is_closed_on_exec() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    transfer::send(&theirs, b"1\n", &[file.as_fd()]).unwrap();
    let (_, descriptors) = blocking::Connection::with_descriptors(ours).receive_with::<u32>().unwrap();
    let flags = nix::fcntl::fcntl(&descriptors[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, nix::fcntl::FdFlag::FD_CLOEXEC.bits());
}

#[test]
fn a_future_that_is_dropped_loses_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut connection = asynchronous::Connection::with_descriptors(ours);
        let file = tempfile::tempfile().unwrap();
        transfer::send(&theirs, b"\"ha", &[file.as_fd()]).unwrap();
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = connection.receive_with::<String>() => panic!("half a line"),
                () = tokio::task::yield_now() => {}
            }
        }
        transfer::send(&theirs, b"lf\"\n1\n", &[]).unwrap();
        // The other side is watched, and what it sent is kept.
        tokio::select! {
            biased;
            () = connection.gone() => panic!("it is there"),
            () = tokio::task::yield_now() => {}
        }
        let (text, descriptors) = connection.receive_with::<String>().await.unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("half", 1));
        drop(theirs);
        connection.gone().await;
        assert_eq!(connection.receive::<u32>().await.unwrap(), 1);
        assert!(matches!(connection.receive::<u32>().await, Err(sockets::Error::Closed)));
    });
}
