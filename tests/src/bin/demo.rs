//! `make demo`, `make demo-down`, `make bench`.

fn main() -> std::process::ExitCode {
    rig::cli::main()
}
