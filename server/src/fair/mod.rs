//! Fairness: what one client may hold of this process, so that others are served meanwhile.
//!
//! There is no limit by address, since a hotel is one address. Connections on which nobody has logged in yet compete
//! among themselves ([`connections`]); whoever is logged in has a share of connections, requests and bytes by principal
//! ([`shares`]), from whatever address. Time is bounded for both: a connection that only answers PINGs ends, and so does
//! one that takes no more of an answer. The figures are in `docs/server.md`.

pub mod connections;
pub mod descriptors;
pub mod shares;
mod stream;

pub use stream::Gate;
