//! The parcel server's client: HTTPS pinned to the site's CA, the bearer token, name look-ups that cannot hang a session,
//! and the count of bytes moved.

pub mod api;
mod resolve;
pub mod traffic;
