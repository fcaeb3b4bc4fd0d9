//! PID 1 of the kiosk: boot, supervision, the session sequence and the wipe.
//!
//! Crash-only: [`pid1`] is tiny and only spawns the manager, reaps, and when the manager ends for whatever reason
//! kills everything and spawns it again. The manager ([`manager`]) always begins with an idempotent wipe, so a
//! failure anywhere ends in a clean login screen. `docs/kiosk.md` tells the whole story.

pub mod alloc;
pub mod backoff;
pub mod calls;
pub mod child;
pub mod client;
pub mod clock;
pub mod cmdline;
pub mod config;
pub mod control;
pub mod diagnosis;
pub mod disks;
pub mod folder;
pub mod helper;
pub mod identity;
pub mod keyboard;
pub mod keys;
pub mod kmsg;
pub mod lockdown;
pub mod log;
pub mod machine;
pub mod manager;
pub mod media;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod pid1;
pub mod power;
pub mod procs;
pub mod service;
pub mod session;
pub mod switches;
pub mod system;
pub mod tty;
pub mod uevent;
pub mod usb;
pub mod wall;
pub mod wipe;
