//! The screens, from the outside: as pictures, as a state machine, under random events, and as the real program in a
//! real terminal.

mod again;
mod desk;
mod diagnosis;
mod engine_dead;
mod flow;
mod kerberos;
mod keyboard;
mod kiosk;
mod lock;
mod longest;
#[path = "../../../login/tests/loopback/mod.rs"]
mod loopback;
mod peers;
mod pressed;
mod pty;
mod random;
mod realm;
mod renewal;
mod rogue;
mod screens;
mod tolerance;
