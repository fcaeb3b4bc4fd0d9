//! The rig: everything a Waystation needs around it, made real on one machine.
//!
//! A Kerberos realm ([`realm`]), a parcel server ([`server`]), a golden guest from Debian's packages ([`guest`]), a
//! kiosk image built by `image-build` ([`image`]), and PCs that boot it ([`machine`]), which a test drives as a person
//! would: reading the screen and typing ([`screen`], [`kiosk`]). [`world`] puts them together, so that an end-to-end
//! test is a few lines; [`walk`] is the walk that `make demo` shows.

pub mod bench;
pub mod cli;
pub mod ending;
pub mod golden;
pub mod guest;
pub mod image;
pub mod kdc_tap;
pub mod kiosk;
pub mod licences;
pub mod machine;
pub mod paths;
pub mod process;
pub mod qmp;
pub mod realm;
pub mod saboteur;
pub mod screen;
pub mod search;
pub mod server;
pub mod suite;
pub mod timeline;
pub mod walk;
pub mod world;
