//! Kerberos: from a password or a ticket to the parcel server's bearer token.
//!
//! Only `kiosk-ui` and `waystation` link it, so that passwords never reach `cached`.

mod kerberos;

pub use kerberos::{Credential, LoginError, from_default_cache, login_with_password};
