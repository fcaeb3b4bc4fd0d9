//! Tests of the client engine through its public interface.

mod daemon;
mod disk;
mod memory;
mod support;
mod vhost;
