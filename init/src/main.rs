//! `/init`: PID 1 of the kiosk, its session manager (`/init manager`), the hook of its DHCP client, and the probe
//! (`/init probe`), which asks the network what the manager must not ask itself.

use parcel::wire::kiosk::DHCP_HOOK;
use std::path::Path;
use waystation_init::{
    alloc::Forgetful,
    manager,
    net::{dhcp, probe},
    pid1,
};

#[global_allocator]
static HEAP: Forgetful = Forgetful;

fn main() {
    // Before anything else: what the kernel's command line has beyond its own words are arguments of PID 1.
    if std::process::id() == 1 {
        pid1::run();
    }
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let first = args.next().unwrap_or_default();
    if Path::new(&name).file_name() == Path::new(DHCP_HOOK).file_name() {
        std::process::exit(i32::from(dhcp::hook(&first.to_string_lossy()).is_err()));
    }
    if first == probe::WORD {
        if let Err(error) = probe::child() {
            eprintln!("the probe cannot work: {error}");
            std::process::exit(1);
        }
        return;
    }
    if first == "manager" {
        let status = manager::run().unwrap_or_else(|error| {
            eprintln!("the session manager cannot work: {error:#}");
            1
        });
        std::process::exit(status);
    }
    eprintln!("init is the first process of a kiosk's image and is not started by hand; see docs/kiosk.md");
    std::process::exit(2);
}
