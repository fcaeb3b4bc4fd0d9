//! Local sockets: lines of JSON with descriptors riding along ([`mod@line`]), the conversation with `cached`
//! ([`guest`]), and `vmm.sock` ([`control`]).

pub mod control;
pub mod guest;
pub mod line;
