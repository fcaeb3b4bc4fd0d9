//! The server as a program, with a real KDC, over real TLS.

mod auth;
mod client;
mod command;
mod commands;
mod commit;
mod crash;
mod desk;
mod discard;
mod limits;
mod locks;
mod machine;
mod parcels;
mod program;
mod realm;
mod server;
