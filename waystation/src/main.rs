//! `waystation`: parcels on an administrator's machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    waystation::main()
}
