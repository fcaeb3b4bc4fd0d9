//! An import that takes longer than its log-in: the real command, KDC and server. A new token key ends every token.

use crate::{
    desk::{Desk, Ended, MIB, ended},
    realm::{PASSWORD, realm},
    server::Server,
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{OpenptyResult, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::Duration,
};

/// Long enough to be met in the middle.
const LONG: [&str; 2] = ["--zstd-level", "19"];

fn desk() -> (Desk, Server) {
    let desk = Desk::new(32 * MIB);
    let server = desk.setup.start();
    desk.setup.edit("127.0.0.1:0", &server.addr.to_string());
    (desk, server)
}

/// The server with another token key.
fn restarted(desk: &Desk, server: Server) -> Server {
    server.kill();
    let parcels = fs::read_dir(desk.path("store/parcels")).unwrap();
    let unfinished = parcels.filter(|parcel| parcel.as_ref().unwrap().path().join("new").is_dir());
    assert_eq!(unfinished.count(), 1, "the import was done before the log-in ended");
    fs::remove_file(desk.path("store.token-key")).unwrap();
    desk.setup.start()
}

/// A ticket that has ended, to be put in place.
fn ended_ticket(desk: &Desk) -> PathBuf {
    let past = desk.path("past");
    realm().kinit_with("it", &past, &["-l", "1s"]);
    while Command::new("klist").args(["-s", "-c"]).arg(&past).status().unwrap().success() {
        thread::sleep(Duration::from_millis(50));
    }
    past
}

/// Reads what a command says until a line has `part`; the line, and the rest to be read.
fn said(err: ChildStderr, part: &str) -> (String, BufReader<ChildStderr>) {
    let mut err = BufReader::new(err);
    let mut line = String::new();
    while !line.contains(part) {
        line.clear();
        assert_ne!(err.read_line(&mut line).unwrap(), 0, "it ends before it says {part}");
    }
    (line, err)
}

/// Starts an import whose ticket and token end in the middle, and lets it wait for a log-in.
fn waiting(desk: &Desk, server: Server, part: &str) -> (Child, String, BufReader<ChildStderr>, Server) {
    let past = ended_ticket(desk);
    let mut child = desk.started(&server, &desk.import(&LONG));
    fs::rename(past, desk.path("ticket")).unwrap();
    let server = restarted(desk, server);
    let (line, err) = said(child.stderr.take().unwrap(), part);
    assert_eq!(child.try_wait().unwrap(), None);
    (child, line, err, server)
}

/// How it ended; all of its standard error is read from `err`.
fn rest(mut child: Child, mut err: impl Read) -> Ended {
    let (mut out, mut told) = (String::new(), String::new());
    err.read_to_string(&mut told).unwrap();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    Ended { code: child.wait().unwrap().code().unwrap(), out, err: told }
}

fn assert_imported(desk: &Desk, server: &Server, done: &Ended) {
    assert_eq!(done.code, 0, "{done:?}");
    let listed = desk.parcels(server);
    assert_eq!((listed.len(), listed[0].version.0, &listed[0].lock), (1, 1, &None), "{done:?}");
}

#[test]
fn an_import_whose_token_ends_goes_on_by_itself_with_its_ticket() {
    let (desk, server) = desk();
    let child = desk.started(&server, &desk.import(&LONG));
    let server = restarted(&desk, server);
    let done = ended(child);
    assert!(!done.err.contains("kinit"), "{done:?}");
    assert_imported(&desk, &server, &done);
}

#[test]
fn a_ticket_that_can_be_renewed_is_renewed_with_the_token() {
    let (desk, server) = desk();
    realm().kinit_with("it", &desk.path("ticket"), &["-l", "2h", "-r", "7d"]);
    let since = || {
        let listed = Command::new("klist").arg("-c").arg(desk.path("ticket")).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        text.lines().find(|line| line.contains("krbtgt/")).unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let first = since();
    // A ticket's times are whole seconds.
    thread::sleep(Duration::from_millis(1100));
    let child = desk.started(&server, &desk.import(&LONG));
    let server = restarted(&desk, server);
    assert_imported(&desk, &server, &ended(child));
    assert_ne!(since(), first);
}

#[test]
fn an_import_whose_ticket_has_ended_waits_for_kinit() {
    let (desk, server) = desk();
    let (child, line, err, server) = waiting(&desk, server, "the log-in");
    assert_eq!(
        line,
        "waiting: the log-in to the parcel server has ended: there is no valid Kerberos ticket; run kinit \
         it@WAYSTATION.TEST, and this command goes on\n"
    );
    // That of another user is of no use, and is not tried.
    realm().kinit("shanta", &desk.path("ticket"));
    let (line, err) = said(err.into_inner(), "the log-in");
    assert!(
        line.contains("the ticket is now of shanta@WAYSTATION.TEST; run kinit it@WAYSTATION.TEST,"),
        "{line}"
    );
    realm().kinit("it", &desk.path("ticket"));
    assert_imported(&desk, &server, &rest(child, err));
}

#[test]
fn an_import_that_waits_for_kinit_can_be_stopped() {
    let (desk, server) = desk();
    let (child, _, err, server) = waiting(&desk, server, "run kinit it@WAYSTATION.TEST");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let stopped = rest(child, err);
    assert_eq!(stopped.code, 130, "{stopped:?}");
    let why = "interrupted; what was begun of the parcel \"golden\" could not be taken off the server (there is no valid";
    assert!(stopped.err.contains(why), "{stopped:?}");
    realm().kinit("it", &desk.path("ticket"));
    assert_eq!(desk.run(&server, &["discard", "golden"]).code, 0);
    assert!(desk.parcels(&server).is_empty());
}

#[test]
fn on_a_terminal_an_import_whose_ticket_has_ended_asks_for_the_password() {
    let (desk, server) = desk();
    let past = ended_ticket(&desk);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let program = desk.command(&server, &desk.import(&LONG));
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(desk.path("")).stdin(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(command);
    while crate::desk::sent(&desk.path("store")) == 0 {
        assert_eq!(child.try_wait().unwrap(), None);
        thread::sleep(Duration::from_millis(10));
    }
    fs::rename(past, desk.path("ticket")).unwrap();
    let server = restarted(&desk, server);

    let mut terminal = fs::File::from(master);
    let mut shown = Vec::new();
    let mut typed = 0;
    let mut part = [0; 4096];
    // The end of a terminal that nobody has open any more is an error.
    while let Ok(bytes @ 1..) = terminal.read(&mut part) {
        shown.extend_from_slice(&part[..bytes]);
        let asked = String::from_utf8_lossy(&shown).matches("Password for it@WAYSTATION.TEST: ").count();
        if asked > typed {
            typed += 1;
            // The first time, it is mistyped.
            let password = if typed == 1 { "wrong" } else { PASSWORD };
            terminal.write_all(format!("{password}\n").as_bytes()).unwrap();
        }
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(!shown.contains("wrong") && !shown.contains(PASSWORD), "what is typed is shown: {shown}");
    assert_eq!(typed, 2, "{shown}");
    assert_imported(&desk, &server, &rest(child, shown.as_bytes()));
}
