//! What people are told on the standard error and asked on the terminal. Whether anybody can hear it never decides what becomes
//! of their work, as it would with `eprintln!`, which panics.

use cache::status::lock;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::{
    fmt::Display,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    sync::Mutex,
};
use zeroize::Zeroizing;

/// Says a line.
pub(super) fn say(line: impl Display) {
    show(format_args!("{line}\n"));
}

/// Shows text that is not a line.
pub(super) fn show(text: impl Display) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{text}").and_then(|()| err.flush());
}

/// What begins a line in place of one that may be written over.
pub(super) fn afresh() -> &'static str {
    if io::stderr().is_terminal() { "\r\x1b[K" } else { "" }
}

/// How the terminal was before a password was asked for.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// While another program asks for a password on the terminal.
pub(super) struct Typing(());

impl Typing {
    /// `None` where nobody can be asked: there is no terminal, or this command is in its background.
    pub fn begin() -> Option<Self> {
        let input = io::stdin();
        if !input.is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        if nix::unistd::tcgetpgrp(&input).ok()? != nix::unistd::getpgrp() {
            return None;
        }
        *lock(&BEFORE) = Some(tcgetattr(&input).ok()?);
        Some(Self(()))
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal show again what is typed, if a question for a password was interrupted.
pub(super) fn restore() {
    if let Some(before) = lock(&BEFORE).take() {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &before);
        say("");
    }
}

/// Reads a line without showing it.
pub(super) fn question(prompt: &str) -> io::Result<Zeroizing<String>> {
    let input = io::stdin();
    if input.is_terminal() {
        show(prompt);
        let before = tcgetattr(&input)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        *lock(&BEFORE) = Some(before);
        tcsetattr(&input, SetArg::TCSAFLUSH, &silent)?;
    }
    let mut line = Zeroizing::new(String::new());
    let read = input.lock().read_line(&mut line);
    restore();
    read.map(|_| line)
}
