//! Certificates, for everybody who reads or judges them: PEM files as people have them ([`pem`]), what a client of the
//! parcel server trusts ([`trust`]), and what the server's own certificate must be for that ([`server`]).
//!
//! Chains judged at a time that the server claims are in [`dated`].
//!
//! No I/O and no clock: callers read files and say what time it is.

pub mod dated;
pub mod pem;
pub mod server;
pub mod trust;
