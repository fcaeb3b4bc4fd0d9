//! The parcel server's client: HTTPS pinned to the site's CA, the bearer token, the KDC proxy, name look-ups that cannot hang a session,
//! and the count of bytes moved.

pub mod api;
pub mod proxy;
mod resolve;
pub mod traffic;
