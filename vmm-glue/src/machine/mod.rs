//! The machine: built from parts ([`build`]), served by a thread ([`service`]), saved and restored ([`state`],
//! [`snapshot`], [`clock`]), and steered ([`manager`]).

pub mod build;
pub mod clock;
pub mod manager;
pub mod service;
pub mod snapshot;
pub mod state;
