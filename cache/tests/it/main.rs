//! Tests of the client engine through its public interface.

mod daemon;
mod disk;
mod http;
mod memory;
mod support;
mod vhost;
