//! Builds the kiosk appliance from a `kiosk.toml`: Debian packages and the release binaries become one initrd, and
//! that becomes a UKI, a USB image and netboot files. Needs neither root nor loop devices.

mod apt;
pub mod build;
pub mod cmdline;
pub mod config;
pub mod cpio;
mod deb;
pub mod elf;
pub mod error;
pub mod keymaps;
mod krb5;
pub mod manifest;
pub mod modules;
pub mod output;
pub mod progress;
pub mod rootfs;
pub mod scratch;
pub mod suite;
pub mod tree;
