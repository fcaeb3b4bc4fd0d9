//! The kiosk's own terminal: a virtual console, a serial line, or whatever else stands behind the standard streams.

use crate::{
    event::Event,
    glyph::Glyphs,
    input::{Decoder, Input},
};
use crossterm::{
    cursor::Show,
    execute, queue,
    style::{Print, ResetColor},
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        window_size,
    },
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{FlowArg, tcflow},
};
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};
use std::{
    io::{self, BufWriter, Stdin, Stdout, Write},
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};
use tokio::sync::mpsc;

/// What a terminal has that does not say its size.
const UNKNOWN_SIZE: (u16, u16) = (80, 24);
/// Nobody's screen is larger, columns and rows.
const LARGEST: (u16, u16) = (500, 200);
/// How long the rest of an escape sequence may take. At 9600 bit/s a byte takes one millisecond.
const ESCAPE_WAIT: Duration = Duration::from_millis(100);
/// A whole screen goes out as one write.
const OUTPUT: usize = 64 << 10;

/// A serial line does not know what stands at its end: the terminal may. If it answers, it is resized.
const SIZE_QUESTION: &str = "\x1b7\x1b[999;999H\x1b[6n\x1b8";

/// What is drawn on.
pub type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// The terminal in the state that screens need; as it was when this is dropped.
pub struct Tty {
    /// What is drawn on.
    pub screen: Screen,
    asked: bool,
}

impl Tty {
    /// Takes the terminal over.
    pub fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let size = measure().unwrap_or(UNKNOWN_SIZE);
        let mut out = io::stdout();
        execute!(out, EnterAlternateScreen, ResetColor, Clear(ClearType::All))?;
        let asked = !is_virtual_console();
        if asked {
            execute!(out, Print(SIZE_QUESTION))?;
        } else {
            // A kiosk's screen does not go dark by itself (console_codes(4)).
            execute!(out, Print("\x1b[9;0]"))?;
        }
        let backend = CrosstermBackend::new(BufWriter::with_capacity(OUTPUT, io::stdout()));
        let viewport = Viewport::Fixed(Rect::new(0, 0, size.0, size.1));
        let screen = Terminal::with_options(backend, TerminalOptions { viewport })?;
        Ok(Self { screen, asked })
    }

    /// Columns and rows.
    pub fn size(&mut self) -> (u16, u16) {
        let area = self.screen.get_frame().area();
        (area.width, area.height)
    }

    /// Takes a new size.
    pub fn resize(&mut self, cols: u16, rows: u16) -> io::Result<()> {
        self.screen.resize(Rect::new(0, 0, cols, rows))
    }

    /// Has everything drawn again, for a terminal that may be another one.
    pub fn repaint(&mut self) -> io::Result<()> {
        if self.asked {
            execute!(io::stdout(), Print(SIZE_QUESTION))?;
        }
        // Not `clear`, which asks for the cursor's place and takes the answer from the keyboard's thread.
        let (cols, rows) = self.size();
        self.resize(cols, rows)
    }

    /// `true` when the terminal was asked for its size.
    pub fn asked(&self) -> bool {
        self.asked
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // The scrollback, too: what a guest showed is nobody else's.
        let mut out = io::stdout();
        let left = queue!(
            out,
            ResetColor,
            Clear(ClearType::All),
            Clear(ClearType::Purge),
            LeaveAlternateScreen,
            Clear(ClearType::All),
            Show
        );
        drop(left.and_then(|()| out.flush()));
        drop(disable_raw_mode());
    }
}

/// The terminal's size as the kernel knows it.
pub fn measure() -> Option<(u16, u16)> {
    let size = window_size().ok().filter(|size| size.columns > 0 && size.rows > 0)?;
    Some(clamp(size.columns, size.rows))
}

fn clamp(cols: u16, rows: u16) -> (u16, u16) {
    (cols.clamp(1, LARGEST.0), rows.clamp(1, LARGEST.1))
}

fn is_virtual_console() -> bool {
    let Ok(path) = nix::unistd::ttyname(io::stdout()) else { return false };
    let digits = path.to_str().and_then(|path| path.strip_prefix("/dev/tty"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

mod ioctl {
    nix::ioctl_read_bad!(
        /// Which of a virtual console's locks are on (`linux/kd.h`).
        kdgkbled,
        0x4b64,
        u8
    );
}

/// The locks that are on, as bits; none where the terminal does not know, as a line does not.
fn locks() -> u8 {
    let mut locks = 0;
    // SAFETY: KDGKBLED writes one byte to where its argument points, which is a byte that lives here; any terminal
    // that is no virtual console refuses it.
    let known = unsafe { ioctl::kdgkbled(io::stdin().as_raw_fd(), &mut locks) };
    known.map_or(0, |_| locks)
}

/// `true` when Caps Lock is on, as far as the terminal knows.
pub fn caps_lock() -> bool {
    const K_CAPSLOCK: u8 = 0x04;
    locks() & K_CAPSLOCK != 0
}

/// Lets a virtual console's output go on that Scroll Lock has stopped: a traveller who strikes that key takes the kiosk
/// for dead. Not to be called where the screen is drawn, which is what waits.
pub fn release_scroll_lock() {
    const K_SCROLLLOCK: u8 = 0x01;
    if locks() & K_SCROLLLOCK != 0 {
        // What the key stopped is started only by what the same call has stopped (tty_ioctl(4)).
        let again = tcflow(io::stdout(), FlowArg::TCOOFF).and_then(|()| tcflow(io::stdout(), FlowArg::TCOON));
        if let Err(error) = again {
            tracing::debug!(%error, "Scroll Lock could not be released");
        }
    }
}

/// What the terminal can show.
pub fn glyphs() -> Glyphs {
    if is_virtual_console() { Glyphs::Font } else { Glyphs::Unicode }
}

/// Reads the keyboard on a thread of its own until the terminal is gone. `asked`: the terminal was asked for its size.
pub fn read_keys(events: mpsc::Sender<Event>, asked: bool) -> io::Result<()> {
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        if let Err(error) = keys(&events, asked) {
            tracing::info!(%error, "the terminal is gone");
        }
        drop(events.blocking_send(Event::Quit));
    })?;
    Ok(())
}

fn keys(events: &mpsc::Sender<Event>, asked: bool) -> io::Result<()> {
    let stdin = io::stdin();
    let mut decoder = Decoder::new();
    let mut piece = [0; 256];
    let mut inputs = Vec::new();
    loop {
        if wait(&stdin, decoder.pending())? {
            // Past the standard library's buffer, which would keep what was typed.
            let n = nix::unistd::read(stdin.as_fd(), &mut piece)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // One at a time, so that no more than the last key stays behind in a buffer.
            for byte in &mut piece[..n] {
                decoder.feed(&[std::mem::take(byte)], &mut inputs);
                if !send(&mut inputs, events, asked) {
                    return Ok(());
                }
            }
        } else {
            decoder.flush(&mut inputs);
            if !send(&mut inputs, events, asked) {
                return Ok(());
            }
        }
    }
}

/// `false` when nobody listens any more.
fn send(inputs: &mut Vec<Input>, events: &mpsc::Sender<Event>, asked: bool) -> bool {
    inputs.drain(..).all(|input| {
        let event = match input {
            Input::Key(key) => Event::Key(key),
            Input::Cursor { row, col } if asked => {
                let (cols, rows) = clamp(col, row);
                Event::Resize(cols, rows)
            }
            Input::Cursor { .. } => return true,
        };
        events.blocking_send(event).is_ok()
    })
}

/// Waits for bytes; `false` when a held-back escape sequence has waited long enough.
fn wait(stdin: &Stdin, pending: bool) -> io::Result<bool> {
    let limit = if pending {
        PollTimeout::try_from(ESCAPE_WAIT).unwrap_or(PollTimeout::ZERO)
    } else {
        PollTimeout::NONE
    };
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, limit) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
