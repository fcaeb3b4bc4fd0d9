//! Terminals: the kiosk's screen and its log line, and making them forget.

use nix::sys::termios::{self, BaudRate, InputFlags, SetArg};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
};

/// `VT_LOCKSWITCH` of `linux/vt.h`: no switching to another virtual console.
const VT_LOCKSWITCH: libc::c_ulong = 0x560B;
/// `TIOCVHANGUP` of `asm-generic/ioctls.h`: hangs the terminal up, which drops its queues and line discipline.
const TIOCVHANGUP: libc::c_ulong = 0x5437;
/// `KDSETMODE`/`KD_TEXT` of `linux/kd.h`.
const KDSETMODE: libc::c_ulong = 0x4B3A;
const KD_TEXT: libc::c_ulong = 0;

/// Full reset, then clear the screen and everything scrolled off it.
pub const CLEAR: &[u8] = b"\x1bc\x1b[?25h\x1b[0m\x1b[H\x1b[2J\x1b[3J";

fn open(name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(format!("/dev/{name}"))
}

/// Whether this is a virtual console (`tty1`) and not a serial line.
pub fn is_virtual(name: &str) -> bool {
    name.strip_prefix("tty").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// `TERM` for programs on it.
pub fn term(name: &str) -> &'static str {
    if is_virtual(name) { "linux" } else { "xterm" }
}

/// Opens the terminal for the screens: blocking, sane, UTF-8, with a size.
///
/// # Errors
/// There is no such terminal, or it is no terminal.
pub fn open_console(name: &str) -> io::Result<File> {
    let tty = open(name)?;
    let mut settings = termios::tcgetattr(&tty)?;
    sane(&mut settings);
    if !is_virtual(name) {
        termios::cfsetspeed(&mut settings, BaudRate::B115200)?;
    }
    termios::tcsetattr(&tty, SetArg::TCSANOW, &settings)?;
    blocking(&tty)?;
    set_size_if_none(&tty)?;
    close_at_once(&tty);
    Ok(tty)
}

/// Opens a virtual console to set its keyboard.
///
/// # Errors
/// There is no such terminal.
pub fn open_keyboard(name: &str) -> io::Result<File> {
    open(name)
}

/// Opens the terminal for the log: raw, 115,200 baud, blocking.
///
/// # Errors
/// There is no such terminal, or it is no terminal.
pub fn open_log(name: &str) -> io::Result<File> {
    let tty = open(name)?;
    let mut settings = termios::tcgetattr(&tty)?;
    termios::cfmakeraw(&mut settings);
    termios::cfsetspeed(&mut settings, BaudRate::B115200)?;
    termios::tcsetattr(&tty, SetArg::TCSANOW, &settings)?;
    blocking(&tty)?;
    Ok(tty)
}

fn sane(settings: &mut termios::Termios) {
    use termios::{ControlFlags as C, LocalFlags as L, OutputFlags as O, SpecialCharacterIndices as S};
    settings.input_flags = InputFlags::ICRNL | InputFlags::IUTF8;
    settings.output_flags = O::OPOST | O::ONLCR;
    settings.local_flags = L::ISIG | L::ICANON | L::ECHO | L::ECHOE | L::ECHOK | L::IEXTEN;
    settings.control_flags |= C::CS8 | C::CREAD | C::CLOCAL | C::HUPCL;
    settings.control_flags &= !(C::PARENB | C::CRTSCTS);
    settings.control_chars[S::VMIN as usize] = 1;
    settings.control_chars[S::VTIME as usize] = 0;
}

fn blocking(tty: &File) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_truncate(fcntl(tty, FcntlArg::F_GETFL)?);
    fcntl(tty, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A serial line has no size of its own: 80 by 25 then.
fn set_size_if_none(tty: &File) -> io::Result<()> {
    // SAFETY: an all-zero `winsize` is a valid value of that plain struct.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `size` is a live `winsize`, which is what TIOCGWINSZ fills.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, &mut size) })?;
    if size.ws_row == 0 || size.ws_col == 0 {
        (size.ws_row, size.ws_col) = (25, 80);
        // SAFETY: as above; TIOCSWINSZ only reads the struct.
        check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &size) })?;
    }
    Ok(())
}

/// `struct serial_struct` of `linux/serial.h`; only `closing_wait` is changed.
#[repr(C)]
struct Serial {
    kind_to_baud_base: [libc::c_int; 8],
    close_delay: u16,
    io_type: [u8; 2],
    hub6: libc::c_int,
    closing_wait: u16,
    closing_wait2: u16,
    iomem_base: usize,
    iomem_reg_shift: u16,
    port_high: libc::c_uint,
    iomap_base: libc::c_ulong,
}

/// A serial line that nobody reads would hold its last user, even a killed one, for half a minute while it drains.
/// Best effort: other terminals have no such wait.
fn close_at_once(tty: &File) {
    /// Hundredths of a second.
    const WAIT: u16 = 50;
    // SAFETY: an all-zero `Serial` is a valid value of that plain struct.
    let mut serial: Serial = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGSERIAL fills a `serial_struct`, whose layout `Serial` has; it lives through the call.
    if unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGSERIAL, &mut serial) } == 0 {
        serial.closing_wait = WAIT;
        // SAFETY: TIOCSSERIAL reads what TIOCGSERIAL has just filled.
        unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSSERIAL, &serial) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the terminal the calling process's controlling one, stealing it if need be. For use between fork and exec.
///
/// # Errors
/// The kernel refuses, for one because the caller leads no session.
pub fn take_control(tty: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer argument; the descriptor is open for as long as the borrow.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 1) })
}

/// Forbids switching virtual consoles: there is nothing behind the login screen.
///
/// # Errors
/// No virtual console here.
pub fn lock_switching() -> io::Result<()> {
    let tty = open("tty0")?;
    // SAFETY: VT_LOCKSWITCH takes no argument.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), VT_LOCKSWITCH, 0) })
}

/// Writes `text` on the screen, plainly.
///
/// # Errors
/// There is no such terminal.
pub fn show(name: &str, text: &str) -> io::Result<()> {
    let mut tty = open(name)?;
    tty.write_all(CLEAR)?;
    tty.write_all(text.as_bytes())
}

/// Makes the terminal forget what was typed and shown.
///
/// Typed characters lie in the line discipline's buffer, which a raw-mode reader never overwrites: hanging up frees
/// it, and the kernel zeroes what is freed. What was shown lies in a virtual console's screen buffer, which is
/// cleared in place, or in a serial port's transmit page, which hanging up frees too.
///
/// # Errors
/// There is no such terminal, or it cannot be hung up.
pub fn forget(name: &str) -> io::Result<()> {
    let mut tty = open(name)?;
    if is_virtual(name) {
        // SAFETY: KDSETMODE takes an integer; text mode is what a killed graphics program may have left.
        unsafe { libc::ioctl(tty.as_raw_fd(), KDSETMODE, KD_TEXT) };
    }
    let _ = termios::tcflow(&tty, termios::FlowArg::TCOON);
    let _ = termios::tcflush(&tty, termios::FlushArg::TCIOFLUSH);
    let _ = tty.write_all(CLEAR);
    // SAFETY: TIOCVHANGUP takes no argument.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), TIOCVHANGUP, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_terminals() {
        assert!(is_virtual("tty1") && is_virtual("tty12"));
        assert!(!is_virtual("ttyS0") && !is_virtual("tty") && !is_virtual("hvc0"));
    }
}
