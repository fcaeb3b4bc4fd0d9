//! Tests of the client engine through its public interface.

mod commit;
mod daemon;
mod disk;
mod front;
mod http;
mod medium;
mod memory;
mod room;
mod session;
mod support;
mod vhost;
