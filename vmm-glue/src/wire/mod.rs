//! Local sockets: the conversation with `cached` ([`guest`]), and `vmm.sock` ([`control`]).

pub mod control;
pub mod guest;
