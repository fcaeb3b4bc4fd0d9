//! The parcel server: Kerberos, locks, versions and chunks over an object store.
//!
//! The program's state lies only in its [`store::Store`]; what a parcel's head may become is decided by the pure
//! [`head::Head`]; [`parcels::Parcels`] joins the two; [`http`] puts them on the wire as `parcel::wire::http` says;
//! [`serve::start`] runs it all, in this process (as tests do) or in the `parcel-server` program.
//!
//! Configuration, storage layout and what is promised at a crash: `docs/server.md`. Codes of refusals:
//! `docs/errors.md`.

pub mod auth;
pub mod cli;
mod commit;
pub mod config;
pub mod fair;
pub mod head;
pub mod http;
pub mod parcels;
pub mod quota;
pub mod refusal;
pub mod serve;
pub mod store;
pub mod told;
