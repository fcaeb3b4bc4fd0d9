//! The parcel server. Entry point: see [`parcel_server::cli`].

fn main() -> std::process::ExitCode {
    parcel_server::cli::main()
}
