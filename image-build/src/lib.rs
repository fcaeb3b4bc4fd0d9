//! Builds the kiosk appliance from a `kiosk.toml`: Debian packages and the release binaries become one initrd, and
//! that becomes a UKI, a USB image and netboot files. Needs neither root nor loop devices.

pub mod config;
