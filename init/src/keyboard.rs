//! The keyboard layout of the virtual console: the image's file of layouts, and handing one to the kernel.

use crate::{log::Log, tty};
use parcel::{
    keymap::{self, COMPOSITIONS, Layout},
    wire::session,
};
use std::{collections::BTreeSet, fs::File, io, os::fd::AsRawFd, path::Path};

// Of `linux/kd.h`.
const KDSKBMODE: libc::c_ulong = 0x4B45;
const KDSKBENT: libc::c_ulong = 0x4B47;
const KDSKBDIACRUC: libc::c_ulong = 0x4BFB;
const K_UNICODE: libc::c_ulong = 3;
/// `K_NOSUCHMAP` of `linux/keyboard.h`: the table is taken away.
const NO_TABLE: u16 = 0x027f;

/// `struct kbentry`.
#[repr(C)]
struct Entry {
    table: u8,
    index: u8,
    value: u16,
}

/// `struct kbdiacruc`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Mark {
    mark: u32,
    base: u32,
    result: u32,
}

/// Room for compositions in `kbdiacrsuc`; the kernel refuses a full one.
const ROOM: usize = COMPOSITIONS + 1;

/// `struct kbdiacrsuc`.
#[repr(C)]
struct Marks {
    count: u32,
    marks: [Mark; ROOM],
}

/// The keyboard of the screen's terminal.
pub struct Keyboard {
    console: String,
    layouts: Vec<Layout>,
    /// The site's choice.
    usual: String,
    current: String,
}

impl Keyboard {
    /// For the terminal `console`; `None` where that is no virtual console and so has no keyboard of this machine's.
    pub fn of(console: &str, usual: &str, file: &Path, log: &Log) -> Option<Self> {
        if !tty::is_virtual(console) {
            return None;
        }
        let layouts = std::fs::read(file).and_then(|bytes| keymap::read(&bytes).map_err(io::Error::other));
        let layouts = layouts.unwrap_or_else(|error| {
            log.line("keyboard", &format!("{} cannot be read: {error}", file.display()));
            Vec::new()
        });
        Some(Self { console: console.to_owned(), layouts, usual: usual.to_owned(), current: String::new() })
    }

    /// Uses a layout, or the site's own. One that is not there, or that the kernel does not take, leaves the one before.
    pub fn choose(&mut self, name: Option<&str>, log: &Log) {
        let name = name.unwrap_or(&self.usual);
        let applied = self
            .layouts
            .iter()
            .find(|layout| layout.name == name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the image has no such layout"))
            .and_then(|layout| apply(&tty::open_keyboard(&self.console)?, layout));
        match applied {
            Ok(()) => {
                log.line("keyboard", &format!("layout {name}"));
                self.current = name.to_owned();
            }
            Err(error) => log.line("keyboard", &format!("layout {name:?} cannot be used: {error}")),
        }
    }

    /// For the screens.
    pub fn state(&self) -> session::Keyboard {
        let listed = |layout: &Layout| session::KeyboardLayout {
            name: layout.name.clone(),
            title: layout.title.clone(),
        };
        session::Keyboard { layout: self.current.clone(), layouts: self.layouts.iter().map(listed).collect() }
    }
}

/// Hands a layout to the kernel, for every virtual console. Tables that it does not have are taken away: in those of the
/// kernel's own, keys switch consoles and show its memory.
fn apply(tty: &File, layout: &Layout) -> io::Result<()> {
    // SAFETY: KDSKBMODE takes an integer; without Unicode mode the kernel refuses Unicode values.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), KDSKBMODE, K_UNICODE) })?;
    let kept: BTreeSet<u8> = layout.tables.iter().map(|table| table.modifiers).collect();
    for table in (1..=u8::MAX).filter(|table| !kept.contains(table)) {
        set(tty, table, 0, NO_TABLE)?;
    }
    for table in &layout.tables {
        for (index, value) in (0..).zip(table.keys) {
            set(tty, table.modifiers, index, value)?;
        }
    }
    let mut marks = Marks { count: 0, marks: [Mark::default(); ROOM] };
    for (to, from) in marks.marks.iter_mut().zip(&layout.compositions) {
        *to = Mark { mark: from.mark.into(), base: from.base.into(), result: from.result.into() };
        marks.count += 1;
    }
    // SAFETY: KDSKBDIACRUC reads one `kbdiacrsuc`, whose layout `Marks` has and which lives through the call.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), KDSKBDIACRUC, &raw const marks) })
}

fn set(tty: &File, table: u8, index: u8, value: u16) -> io::Result<()> {
    let entry = Entry { table, index, value };
    // SAFETY: KDSKBENT reads one `kbentry`, whose layout `Entry` has and which lives through the call.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), KDSKBENT, &raw const entry) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!(size_of::<Entry>(), 4);
        assert_eq!(size_of::<Marks>(), 4 + 12 * 256);
    }

    #[test]
    fn a_serial_line_has_no_keyboard_and_a_damaged_file_leaves_the_kernels() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), None);
        let file = folder.path().join("keymaps");
        std::fs::write(&file, "x").unwrap();
        assert!(Keyboard::of("ttyS0", "us", &file, &log).is_none());
        let mut keyboard = Keyboard::of("tty1", "us", &file, &log).unwrap();
        keyboard.choose(None, &log);
        assert_eq!(keyboard.state(), session::Keyboard::default());
    }
}
