//! The server as a program, with a real KDC, over real TLS.

mod attacker;
mod auth;
mod certificates;
mod client;
mod command;
mod commands;
mod commit;
mod crash;
mod desk;
mod discard;
mod fairness;
#[path = "../../../cache/tests/it/front.rs"]
mod front;
mod full;
mod kept;
mod limits;
mod locks;
mod log;
#[path = "../../../login/tests/loopback/mod.rs"]
mod loopback;
mod lost_answers;
mod machine;
mod parcels;
mod program;
mod quota;
mod realm;
mod renewal;
mod rescue;
mod server;
mod tenure;
