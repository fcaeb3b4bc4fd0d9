//! Hostile bytes at every entry from outside: a guest's registers and rings, a saved state, a kernel, and whatever the
//! peers on the local sockets say.

mod entries;
mod smoke;
