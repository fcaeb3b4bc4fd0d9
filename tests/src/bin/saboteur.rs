//! Stands in for the kiosk's VMM in the test that kills it: runs the real one beside it and kills that as soon as a
//! USB device is plugged in.

use rig::saboteur;

fn main() -> std::process::ExitCode {
    saboteur::main()
}
