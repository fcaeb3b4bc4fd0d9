//! The `waystation` command, beside the server's programs: the server's tests run both against each other.

use std::process::ExitCode;

fn main() -> ExitCode {
    waystation::main()
}
