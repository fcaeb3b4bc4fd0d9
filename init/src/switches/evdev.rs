//! Power buttons and lid switches: the kernel's input devices.

use crate::system::Sign;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

/// Size of `struct input_event` on a 64-bit machine: two words of time, type, code and value.
pub const EVENT: usize = 24;

// Of `linux/input-event-codes.h`.
const EV_KEY: u16 = 1;
const EV_SW: u16 = 5;
const KEY_POWER: u16 = 116;
const KEY_A: u16 = 30;
const SW_LID: u16 = 0;

/// What an event means here: the press of a power button, not its release, or a lid that closes.
pub fn sign(event: &[u8; EVENT]) -> Option<Sign> {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    match (u16::from_ne_bytes([t0, t1]), u16::from_ne_bytes([c0, c1]), i32::from_ne_bytes([v0, v1, v2, v3])) {
        (EV_KEY, KEY_POWER, 1) => Some(Sign::Button),
        (EV_SW, SW_LID, 1) => Some(Sign::Lid),
        _ => None,
    }
}

/// Whether a bit is set in the kernel's text of a bitmap: words in hexadecimal, the highest first.
fn has(bitmap: &str, bit: u16) -> bool {
    let word = bitmap.split_ascii_whitespace().rev().nth(usize::from(bit / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// Whether the input device in this folder of `/sys` is one to listen to. A keyboard is none, even with a power key: what
/// is typed on it is nobody's business here.
fn is_switch(device: &Path) -> bool {
    let bitmap = |name: &str| fs::read_to_string(device.join("capabilities").join(name)).unwrap_or_default();
    let keys = bitmap("key");
    has(&bitmap("sw"), SW_LID) || (has(&keys, KEY_POWER) && !has(&keys, KEY_A))
}

/// The machine's power buttons and lid switches.
#[derive(Debug, Default)]
pub struct Inputs {
    open: BTreeMap<String, File>,
    /// Devices that are none, so that they are not looked at every time.
    others: BTreeSet<String>,
}

impl Inputs {
    /// Opens what has come, and forgets what has gone. Gives the devices that it now listens to in addition.
    pub fn look(&mut self, sys: &Path, dev: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(sys.join("class/input")).into_iter().flatten().filter_map(Result::ok);
        let present: BTreeSet<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("event"))
            .collect();
        self.open.retain(|name, _| present.contains(name));
        self.others.retain(|name| present.contains(name));
        let mut new = Vec::new();
        for name in present {
            if self.open.contains_key(&name) || self.others.contains(&name) {
                continue;
            }
            if !is_switch(&sys.join("class/input").join(&name).join("device")) {
                self.others.insert(name);
                continue;
            }
            let node = dev.join("input").join(&name);
            // Its node may come a moment after it: then the next look finds it.
            if let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&node) {
                self.open.insert(name, file);
                new.push(node);
            }
        }
        new
    }

    /// What to wait for.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.open.values().map(AsFd::as_fd).collect()
    }

    /// Everything that was pressed since the last call.
    pub fn read(&mut self) -> Vec<Sign> {
        let mut signs = Vec::new();
        self.open.retain(|_, file| {
            loop {
                let mut event = [0; EVENT];
                match file.read(&mut event) {
                    Ok(EVENT) => signs.extend(sign(&event)),
                    // The device went; its number may come again.
                    Ok(_) => return false,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
            }
        });
        signs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_are_read_as_the_kernel_writes_them() {
        assert!(has("10000000000000 0\n", KEY_POWER), "an ACPI power button");
        assert!(has("1\n", SW_LID), "a lid");
        assert!(!has("0\n", SW_LID) && !has("", KEY_POWER) && !has("1", KEY_POWER) && !has("x 0", KEY_POWER));
        let keyboard = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe\n";
        assert!(has(keyboard, KEY_A) && has(keyboard, KEY_POWER));
    }
}
