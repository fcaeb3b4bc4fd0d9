//! The machine: built from parts ([`build`]), served by a thread ([`service`]), saved and restored ([`state`],
//! [`snapshot`], [`clock`], [`model`]), and steered ([`manager`]).

pub mod build;
pub mod clock;
pub mod manager;
pub mod model;
pub mod service;
pub mod snapshot;
pub mod state;
