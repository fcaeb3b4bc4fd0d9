//! A process whose table of open files is full loses some of the descriptors that it is sent, and keeps none of the rest.
//! The limit is the whole process's, so that this is a program of its own.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sockets::{Broken, Error, blocking::Connection, transfer};
use std::{
    fs::File,
    os::{fd::AsFd, unix::net::UnixStream},
};

fn open() -> usize {
    // Without the one by which the folder is read.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

#[test]
fn descriptors_that_found_no_room_leave_none_behind() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let file = tempfile::tempfile().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::with_descriptors(ours);
    let before = open();
    transfer::send(&theirs, b"1\n", &[file.as_fd(); 4]).unwrap();
    let mut filler: Vec<File> = std::iter::from_fn(|| file.try_clone().ok()).collect();
    // Room for two of the four.
    filler.truncate(filler.len() - 2);
    let error = connection.receive::<u32>().unwrap_err();
    assert!(matches!(error, Error::Broken(Broken::DescriptorsLost)), "{error:?}");
    drop(filler);
    assert_eq!(open(), before);
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
}
