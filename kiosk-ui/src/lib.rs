//! The ratatui screens of the kiosk.
//!
//! | module | what is there |
//! |---|---|
//! | [`app`] | what the screens know and how it changes: pure, events in, [`effects::Effects`] out |
//! | [`screens`] | the picture of it |
//! | [`effects`] | sockets, Kerberos, key slots |
//! | [`event`] | everything that can happen, one channel |
//! | [`guest`] | the guest's terminal |
//! | [`input`] | keys, from the terminal and to the guest |
//! | [`terminal`] | the kiosk's own terminal |
//! | [`run`] | the loop that joins them |
//!
//! The screens are drawn and their keys listed in `docs/screens.md`.

pub mod app;
pub mod effects;
pub mod event;
pub mod glyph;
pub mod guest;
pub mod input;
pub mod password;
pub mod run;
pub mod screens;
pub mod terminal;
pub mod text;
pub mod trouble;
