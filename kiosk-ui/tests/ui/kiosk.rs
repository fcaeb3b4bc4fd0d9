//! The program in its pseudo-terminal, and the terminal emulator that reads it.

use crate::{
    peers::PATIENCE,
    realm::{self, REALM},
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, poll},
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What the program wrote, and what that looks like.
struct Seen {
    parser: vt100::Parser,
    all: Vec<u8>,
}

/// The program in its pseudo-terminal.
pub struct Kiosk {
    child: Child,
    master: Option<File>,
    slave: Option<OwnedFd>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    stop: Arc<AtomicBool>,
}

/// What the program is told of the world beyond its sockets.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Port of the KDC on the loopback address.
    pub kdc: u16,
    /// Port of the parcel server there.
    pub server: u16,
    /// PEM of the CA that it trusts; a fresh one when there is none.
    pub ca: Option<&'a str>,
}

/// Nobody listens there.
pub const NOWHERE: World = World { kdc: 1, server: 1, ca: None };

impl Kiosk {
    /// Starts it with the sockets of `dir`. Without a size, as on a serial line.
    pub fn start(dir: &Path, world: World, size: Option<(u16, u16)>) -> Self {
        Self::start_in(dir, world, &serde_json::json!({}), size)
    }

    /// The same at a site whose configuration has these keys of the realm besides.
    pub fn start_in(dir: &Path, world: World, site: &serde_json::Value, size: Option<(u16, u16)>) -> Self {
        let (config, ca, krb5) = (dir.join("kiosk.json"), dir.join("ca.pem"), dir.join("krb5.conf"));
        let World { kdc, server, .. } = world;
        let mut told = serde_json::json!({
            "name": null, "title": "Waystation", "hosts": {}, "console": "tty1", "log": null,
            "realm": {"name": REALM, "kdc": [format!("127.0.0.1:{kdc}")], "kpasswd": null},
            "server_url": format!("https://localhost:{server}"),
            "cache": {"kind": "memory", "size_mib": 0, "zstd_level": 3},
            "wipe": {"discard": true, "power_off_on_failure": false},
        });
        for (key, value) in site.as_object().expect("keys of the realm") {
            told["realm"][key] = value.clone();
        }
        std::fs::write(&config, told.to_string()).expect("the configuration");
        std::fs::write(&krb5, realm::client_config(kdc)).expect("the realm's configuration");
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a CA").cert.pem();
        std::fs::write(&ca, world.ca.unwrap_or(&own)).expect("the CA");

        let (cols, rows) = size.unwrap_or((0, 0));
        let size_of_pty = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size_of_pty, None).expect("a pseudo-terminal");
        // The program must not hold the other side of its own terminal.
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("close on exec");
        let stdio = || Stdio::from(slave.try_clone().expect("a second handle"));
        let child = Command::new(env!("CARGO_BIN_EXE_kiosk-ui"))
            .arg("--config")
            .arg(&config)
            .arg("--ca")
            .arg(&ca)
            .arg("--kdc-ca")
            .arg(dir.join("kdc-ca.pem"))
            .arg("--run-dir")
            .arg(dir)
            .env("KRB5_CONFIG", &krb5)
            .env("KRB5_TRACE", dir.join("krb5.trace"))
            .stdin(stdio())
            .stdout(stdio())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let (cols, rows) = size.unwrap_or((80, 24));
        let side = |n: u16| n.try_into().expect("a terminal has cells");
        let seen = Seen { parser: vt100::Parser::new(side(rows), side(cols), 0), all: Vec::new() };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let master = File::from(master);
        let stop = Arc::new(AtomicBool::new(false));
        watch(master.try_clone().expect("a second handle"), Arc::clone(&seen), Arc::clone(&stop));
        Self { child, master: Some(master), slave: Some(slave), seen, stop }
    }

    pub fn keys(&self, keys: &str) {
        self.master
            .as_ref()
            .expect("not hung up")
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Everything that was ever written.
    pub fn everything(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().expect("no panic").all).into_owned()
    }

    pub fn wait_for(&self, words: &str) {
        self.wait_until(words, |text| text.contains(words));
    }

    /// Waits for words that may be broken over lines of a box.
    pub fn wait_for_words(&self, words: &str) {
        self.wait_until(words, |text| {
            let flat: Vec<_> =
                text.split(|c: char| c.is_whitespace() || c == '│').filter(|w| !w.is_empty()).collect();
            flat.join(" ").contains(words)
        });
    }

    /// Puts another terminal in the place of the one that saw everything so far.
    pub fn plug_in_another(&self) {
        let mut seen = self.seen.0.lock().expect("no panic");
        let (rows, cols) = seen.parser.screen().size();
        seen.parser = vt100::Parser::new(rows, cols, 0);
    }

    /// Waits until nothing is on the screen.
    pub fn wait_for_blank(&self) {
        self.wait_until("blank screen", |text| text.trim().is_empty());
    }

    pub fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let (seen, changed) = &*self.seen;
        let seen = seen.lock().expect("no panic");
        let (seen, late) = changed
            .wait_timeout_while(seen, PATIENCE, |seen| !holds(&seen.parser.screen().contents()))
            .expect("no panic");
        assert!(!late.timed_out(), "no {what:?} on the screen:\n{}", seen.parser.screen().contents());
    }

    /// `true` while the terminal is in raw mode.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.slave.as_ref().expect("not hung up")).expect("modes");
        !modes.local_flags.contains(LocalFlags::ICANON)
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).expect("it can be told");
        assert!(self.ends().success());
    }

    /// Takes the terminal away, and waits.
    pub fn hang_up(mut self) {
        self.slave = None;
        self.master = None;
        // The reader's handle is the last one.
        self.stop.store(true, Ordering::Relaxed);
        // With or without success: a picture may have been on its way.
        self.ends();
    }

    fn ends(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Kiosk {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn watch(mut master: File, seen: Arc<(Mutex<Seen>, Condvar)>, stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, 50u8).expect("poll") == 0 {
                continue;
            }
            let Ok(n @ 1..) = master.read(&mut piece) else { break };
            let mut now = seen.0.lock().expect("no panic");
            now.all.extend(&piece[..n]);
            now.parser.process(&piece[..n]);
            seen.1.notify_all();
        }
    });
}
