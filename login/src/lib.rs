//! Kerberos: from a password or a ticket to the parcel server's bearer token.
//!
//! Only `kiosk-ui` and `waystation` link it, so that passwords never reach `cached`. libkrb5 makes and reads the messages
//! ([`Network`] carries them), and libgssapi makes the token for the parcel server.

mod dns;
mod error;
mod kerberos;
mod krb5;
mod network;
mod reply;
mod site;
mod spnego;
mod sys;

pub use dns::Servers;
pub use error::LoginError;
pub use kerberos::{Credential, from_default_cache, from_default_cache_of, with_password};
pub use network::{Network, Trying};
