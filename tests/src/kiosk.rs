//! A kiosk as a person uses it: reading its screen and typing.

use crate::{
    guest::PROMPT,
    machine::{Machine, Spec, qemu_log},
    process,
    realm::password_of,
    timeline,
};
use anyhow::{Context, Result};
use parcel::wire::session::PhaseRecord;
use std::{path::Path, time::Duration};

/// What is read on the screens.
pub mod words {
    /// On the log-in form.
    pub const LOGIN: &str = "Realm";
    /// On the session menu.
    pub const MENU: &str = "Suspend: save it";
    /// On the report of a wipe that was verified.
    pub const WIPED: &str = "the wipe is verified";
    /// Under the list of parcels, where one can be resumed.
    pub const RESUME: &str = "Enter resumes it";
    /// Likewise, where one can be started from its disk.
    pub const START: &str = "Enter starts it";
    /// Likewise, where another kiosk holds the lock.
    pub const BREAK: &str = "Enter offers to break";
}

/// How long things take at most, emulated on a busy machine.
pub mod limits {
    use std::time::Duration;

    /// From power-on to the login screen.
    pub const BOOT: Duration = Duration::from_secs(240);
    /// A screen that needs nothing but the kiosk.
    pub const SCREEN: Duration = Duration::from_secs(60);
    /// From the choice of a parcel to its console, and from the suspend to the report.
    pub const MOVE: Duration = Duration::from_secs(300);
    /// A command in the guest, doubly emulated.
    pub const SHELL: Duration = Duration::from_secs(120);
}

use limits::{BOOT, MOVE, SCREEN, SHELL};

/// A kiosk with a person in front of it.
#[derive(Debug)]
pub struct Kiosk {
    /// The PC.
    pub machine: Machine,
    commands: u64,
}

impl Kiosk {
    /// Switches a PC on and waits for the login screen.
    pub fn boot(spec: Spec, dir: &Path) -> Result<Self> {
        let machine = Machine::start(spec, dir)?;
        let kiosk = Self { machine, commands: 0 };
        kiosk.expect(words::LOGIN, BOOT)?;
        Ok(kiosk)
    }

    /// Waits for text on the screen; an error holds the screen and the end of the kiosk's log.
    pub fn expect(&self, text: &str, timeout: Duration) -> Result<()> {
        self.expect_any(&[text], timeout).map(drop)
    }

    /// Waits for one of several texts; tells which.
    pub fn expect_any(&self, texts: &[&str], timeout: Duration) -> Result<usize> {
        self.machine.screen.expect_any(texts, timeout).with_context(|| self.told())
    }

    /// Waits until text has left the screen.
    pub fn expect_gone(&self, text: &str, timeout: Duration) -> Result<()> {
        let what = format!("the end of {text:?}");
        let gone = self.machine.screen.until(timeout, &what, |screen| (!screen.contains(text)).then_some(()));
        gone.with_context(|| self.told())
    }

    /// For errors: who it is, and what it logged last.
    fn told(&self) -> String {
        format!(
            "kiosk {}; its log ends:\n{}{}",
            self.machine.spec().name,
            process::tail(&self.machine.log(), 4000),
            qemu_log(&self.machine)
        )
    }

    /// Types text as it is.
    pub fn keys(&mut self, text: &str) -> Result<()> {
        self.machine.screen.send(text)
    }

    /// Types a user's name and password into the log-in form.
    pub fn type_login(&mut self, user: &str, password: &str) -> Result<()> {
        self.expect(words::LOGIN, SCREEN)?;
        self.keys(&format!("{user}\r"))?;
        self.keys(&format!("{password}\r"))
    }

    /// Empties the log-in form.
    pub fn clear_form(&mut self) -> Result<()> {
        self.keys("\x1b")?;
        // An Esc that is followed at once by a letter is that letter with Alt.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// Logs a user of the rig in and waits for the list of parcels, with its cursor on the first.
    pub fn log_in(&mut self, user: &str) -> Result<()> {
        self.type_login(user, password_of(user)?)?;
        self.expect_any(&[words::RESUME, words::START, words::BREAK], SCREEN).map(drop)
    }

    /// Chooses the first parcel and waits for the guest's prompt or, where a program of the guest has the console, for
    /// `text`.
    pub fn resume(&mut self, text: &str) -> Result<()> {
        self.keys("\r")?;
        self.expect(text, MOVE)
    }

    /// Runs a shell command in the guest and gives what it printed.
    pub fn shell(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        let n = self.commands;
        // What is typed holds the sum, what is printed its result: the echo is never taken for the end.
        let (begin, end) = (format!("<{}>", 7000 + n), format!("<{}>", 8000 + n));
        self.keys(&format!("clear; echo \"<$((7000+{n}))>\"; {command}; echo \"<$((8000+{n}))>\"\r"))?;
        let name = self.machine.spec().name.clone();
        self.machine
            .screen
            .until(SHELL, &format!("the end of {command:?}"), |screen| {
                let (_, rest) = screen.split_once(&begin)?;
                let (printed, _) = rest.split_once(&end)?;
                Some(printed.trim().to_owned())
            })
            .with_context(|| format!("kiosk {name}"))
    }

    /// Waits until a running session has refused what was typed for its password, and takes the next try.
    pub fn wrong_password(&self) -> Result<()> {
        self.expect("That is not the password", MOVE)?;
        self.machine.screen.settled();
        self.expect_gone("The next try is in", SCREEN)
    }

    /// Opens the session menu, suspends, and waits for the report of a verified wipe.
    pub fn suspend(&mut self) -> Result<String> {
        self.begin_suspend()?;
        self.report()
    }

    /// Opens the session menu and suspends.
    pub fn begin_suspend(&mut self) -> Result<()> {
        self.keys("\x1d")?;
        self.expect(words::MENU, SCREEN)?;
        self.keys("s")
    }

    /// Waits for the report of a verified wipe.
    pub fn report(&self) -> Result<String> {
        self.expect(words::WIPED, MOVE)?;
        Ok(self.machine.screen.settled())
    }

    /// Leaves a report or notice behind and waits for the login screen.
    pub fn dismiss(&mut self) -> Result<()> {
        self.keys("\r")?;
        self.expect(words::LOGIN, SCREEN)
    }

    /// Waits for the guest's prompt.
    pub fn prompt(&self) -> Result<()> {
        self.expect(PROMPT, SHELL)
    }

    /// The phases that the kiosk's log tells of, since it was switched on.
    pub fn phases(&self) -> Vec<PhaseRecord> {
        timeline::phases(&self.machine.log_text())
    }
}
