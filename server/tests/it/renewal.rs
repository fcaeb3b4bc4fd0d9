//! An import that takes longer than its log-in: the real command, KDC and server. A new token key ends every token.

use crate::{
    desk::{Desk, Ended, MIB, ended},
    discard::{assert_same, everything},
    loopback::free_port,
    realm::{PASSWORD, principal, realm},
    server::Server,
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{OpenptyResult, openpty},
    sys::{
        signal::{Signal, kill},
        stat::Mode,
        termios::{LocalFlags, tcgetattr},
    },
    unistd::{Pid, mkfifo},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Long enough to be met in the middle.
const LONG: [&str; 2] = ["--zstd-level", "15"];

fn desk() -> (Desk, Server) {
    let desk = Desk::new(32 * MIB);
    // It stays the server's while that is down.
    desk.setup.edit("127.0.0.1:0", &format!("127.0.0.1:{}", free_port()));
    let server = desk.setup.start();
    (desk, server)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// An import in its middle, and stopped there, so that it does not come to its end before it is to go on.
fn halted(desk: &Desk, server: &Server) -> Child {
    let child = desk.started(server, &desk.import(&LONG));
    signal(&child, Signal::SIGSTOP);
    child
}

/// Ends every token: the server has another token key. Then the import goes on.
fn restarted(desk: &Desk, server: Server, child: &Child) -> Server {
    server.kill();
    let parcels = fs::read_dir(desk.path("store/parcels")).unwrap();
    let unfinished = parcels.filter(|parcel| parcel.as_ref().unwrap().path().join("new").is_dir());
    assert_eq!(unfinished.count(), 1, "the import was done before the log-in ended");
    fs::remove_file(desk.path("store.token-key")).unwrap();
    let server = desk.setup.start();
    signal(child, Signal::SIGCONT);
    server
}

/// Kills a command that does not end, so that whoever reads what it says is not kept for ever.
struct Limit(#[expect(dead_code, reason = "its drop is what counts")] mpsc::Sender<()>);

impl Limit {
    fn of(child: &Child) -> Self {
        let (alive, dropped) = mpsc::channel();
        let pid = Pid::from_raw(child.id() as i32);
        thread::spawn(move || {
            if dropped.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        Self(alive)
    }
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
    let mut child = halted(desk, &server);
    let _limit = Limit::of(&child);
    fs::rename(past, desk.path("ticket")).unwrap();
    let server = restarted(desk, server, &child);
    let (line, err) = said(child.stderr.take().unwrap(), part);
    assert_eq!(child.try_wait().unwrap(), None);
    (child, line, err, server)
}

/// How it ended; all of its standard error is read from `err`.
fn rest(mut child: Child, mut err: impl Read) -> Ended {
    let _limit = Limit::of(&child);
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
    let child = halted(&desk, &server);
    let server = restarted(&desk, server, &child);
    let done = ended(child);
    assert!(!done.err.contains("kinit"), "{done:?}");
    assert_imported(&desk, &server, &done);
}

/// A key file whose second reading waits for a writer: by then, all is sent and the version is still to be committed.
fn key_in_a_pipe(desk: &Desk) -> impl Fn() -> fs::File {
    let path = desk.path("golden.key");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    move || fs::File::options().write(true).open(&path).unwrap()
}

#[test]
fn a_server_that_is_away_when_all_is_sent_is_waited_for() {
    let (desk, server) = desk();
    let read = key_in_a_pipe(&desk);
    let key = format!("{}\n", "5a".repeat(32));
    let child = desk.command(&server, &desk.import(&[])).spawn().unwrap();
    let _limit = Limit::of(&child);
    read().write_all(key.as_bytes()).unwrap();
    let mut child = desk.sending(child);
    let mut all_sent = read();
    server.kill();
    all_sent.write_all(key.as_bytes()).unwrap();
    drop(all_sent);
    let (_, err) = said(child.stderr.take().unwrap(), "waiting: ");
    let server = desk.setup.start();
    assert_imported(&desk, &server, &rest(child, err));
}

#[test]
fn the_ticket_is_found_in_a_collection_whose_primary_one_is_of_somebody_else() {
    let (desk, server) = desk();
    fs::create_dir(desk.path("tickets")).unwrap();
    let collection = format!("DIR:{}", desk.path("tickets").display());
    let kinit = |user: &str| {
        let mut kinit = Command::new("kinit");
        kinit.arg(principal(user)).env("KRB5CCNAME", &collection).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut kinit = kinit.spawn().unwrap();
        kinit.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
        assert!(kinit.wait().unwrap().success());
    };
    let primary = || fs::read_to_string(desk.path("tickets/primary")).unwrap();
    kinit("it");
    let first = primary();
    let mut import = desk.command(&server, &desk.import(&LONG));
    let child = desk.sending(import.env("KRB5CCNAME", &collection).spawn().unwrap());
    signal(&child, Signal::SIGSTOP);
    let _limit = Limit::of(&child);
    kinit("shanta");
    let second = primary();
    assert_ne!(first, second);
    let server = restarted(&desk, server, &child);
    let done = ended(child);
    assert!(!done.err.contains("kinit"), "{done:?}");
    assert_imported(&desk, &server, &done);
    assert_eq!(primary(), second);
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
    let child = halted(&desk, &server);
    let server = restarted(&desk, server, &child);
    assert_imported(&desk, &server, &ended(child));
    assert_ne!(since(), first);
}

#[test]
fn an_import_whose_ticket_has_ended_waits_for_kinit() {
    let (desk, server) = desk();
    let (child, line, err, server) = waiting(&desk, server, "the log-in");
    let _limit = Limit::of(&child);
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
    signal(&child, Signal::SIGINT);
    let stopped = rest(child, err);
    assert_eq!(stopped.code, 130, "{stopped:?}");
    let why = "interrupted; what was begun of the parcel \"golden\" could not be taken off the server (there is no valid";
    assert!(stopped.err.contains(why), "{stopped:?}");
    realm().kinit("it", &desk.path("ticket"));
    assert_eq!(desk.run(&server, &["discard", "golden"]).code, 0);
    assert!(desk.parcels(&server).is_empty());
}

#[test]
fn nothing_is_taken_back_with_the_ticket_of_somebody_else_who_cannot_see_it() {
    let (desk, server) = desk();
    let (child, _, err, server) = waiting(&desk, server, "run kinit it@WAYSTATION.TEST");
    realm().kinit("shanta", &desk.path("ticket"));
    signal(&child, Signal::SIGINT);
    let stopped = rest(child, err);
    assert_eq!(stopped.code, 130, "{stopped:?}");
    let why = "could not be taken off the server (the ticket is now of shanta@WAYSTATION.TEST), so run waystation discard";
    assert!(stopped.err.contains(why), "{stopped:?}");
    // It may still open something.
    assert!(desk.path("golden.key").exists());
    realm().kinit("it", &desk.path("ticket"));
    assert_eq!(desk.parcels(&server).len(), 1);
}

#[test]
fn a_command_whom_nobody_hears_takes_back_what_it_began() {
    let (desk, server) = desk();
    let before = everything(&desk.path("store"));
    let mut child = halted(&desk, &server);
    drop(child.stderr.take());
    signal(&child, Signal::SIGINT);
    signal(&child, Signal::SIGCONT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_same(&desk.path("store"), &before);
}

/// An import on a terminal whose ticket and token end in the middle.
fn on_a_terminal(desk: &Desk, server: Server) -> (Child, fs::File, Server) {
    let past = ended_ticket(desk);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let program = desk.command(&server, &desk.import(&LONG));
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(desk.path("")).stdin(slave.try_clone().unwrap()).stderr(slave);
    let child = desk.sending(command.stdout(Stdio::piped()).spawn().unwrap());
    signal(&child, Signal::SIGSTOP);
    drop(command);
    fs::rename(past, desk.path("ticket")).unwrap();
    let server = restarted(desk, server, &child);
    (child, fs::File::from(master), server)
}

/// Reads what is shown on the terminal until its end, and lets `answer` type an answer to each question for the password.
fn typed(
    child: &Child,
    mut terminal: &fs::File,
    mut answer: impl FnMut(u32) -> Option<String>,
) -> (u32, String) {
    let _limit = Limit::of(child);
    let mut shown = Vec::new();
    let mut typed = 0;
    let mut part = [0; 4096];
    // The end of a terminal that nobody has open any more is an error.
    while let Ok(bytes @ 1..) = terminal.read(&mut part) {
        shown.extend_from_slice(&part[..bytes]);
        let asked = String::from_utf8_lossy(&shown).matches("Password for it@WAYSTATION.TEST: ").count();
        if asked > typed as usize {
            typed += 1;
            if let Some(answer) = answer(typed) {
                terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
        }
    }
    (typed, String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn on_a_terminal_an_import_whose_ticket_has_ended_asks_for_the_password() {
    let (desk, server) = desk();
    let (child, terminal, server) = on_a_terminal(&desk, server);
    // However often it is mistyped.
    let answer = |typed| Some(if typed <= 4 { "wrong" } else { PASSWORD }.to_owned());
    let (typed, shown) = typed(&child, &terminal, answer);
    assert!(!shown.contains("wrong") && !shown.contains(PASSWORD), "what is typed is shown: {shown}");
    assert_eq!(typed, 5, "{shown}");
    assert_imported(&desk, &server, &rest(child, shown.as_bytes()));
}

#[test]
fn who_types_a_password_is_not_interrupted_by_a_ticket_from_elsewhere() {
    let (desk, server) = desk();
    let (child, terminal, server) = on_a_terminal(&desk, server);
    let answer = |_| {
        realm().kinit("it", &desk.path("ticket"));
        // Longer than the first pauses between two tries.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(desk.parcels(&server)[0].version.0, 0, "the question is gone");
        Some("wrong".to_owned())
    };
    let (typed, shown) = typed(&child, &terminal, answer);
    assert_eq!(typed, 1, "{shown}");
    assert!(!shown.contains("wrong"), "what is typed is shown: {shown}");
    assert_imported(&desk, &server, &rest(child, shown.as_bytes()));
}

#[test]
fn an_import_that_is_stopped_while_kinit_asks_leaves_the_terminal_as_it_was() {
    let (desk, server) = desk();
    let (child, terminal, _server) = on_a_terminal(&desk, server);
    let echo = || tcgetattr(&terminal).unwrap().local_flags.contains(LocalFlags::ECHO);
    let (_, shown) = typed(&child, &terminal, |_| {
        assert!(!echo());
        signal(&child, Signal::SIGTERM);
        None
    });
    assert!(shown.contains("could not be taken off the server (there is no valid"), "{shown}");
    assert!(echo());
    assert_eq!(rest(child, shown.as_bytes()).code, 130);
}
