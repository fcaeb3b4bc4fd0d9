//! `vmm`: parses the command line and runs.

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// The kiosk's virtual machine monitor.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  vmm inventory")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the machine that cached describes.
    #[command(after_help = "Example:\n  vmm run --guest-socket /run/waystation/guest.sock --control-socket \
                            /run/waystation/vmm.sock \\\n    --console-socket /run/waystation/console.sock --tap tap0\n\n\
                            Ends with 0 after init said quit, with 1 after anything else; the last line on standard \
                            error says why.")]
    Run {
        /// Socket of cached that tells of the machine.
        #[arg(long)]
        guest_socket: PathBuf,
        /// Socket to make, by which init steers.
        #[arg(long)]
        control_socket: PathBuf,
        /// Socket to make, at which the guest's console is.
        #[arg(long)]
        console_socket: PathBuf,
        /// Network tap that belongs to this user; without one the guest's link is down.
        #[arg(long)]
        tap: Option<String>,
        /// Filter of the log, such as `info` or `vmm_glue=debug`.
        #[arg(long, default_value = "info")]
        log: String,
    },
    /// Print what this kiosk has, as one line of JSON.
    Inventory,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Inventory => match serde_json::to_string(&vmm_glue::inventory::measure()) {
            Ok(line) => println!("{line}"),
            Err(e) => return failed(e),
        },
        Command::Run { guest_socket, control_socket, console_socket, tap, log } => {
            let filter = match EnvFilter::try_new(&log) {
                Ok(filter) => filter,
                Err(e) => return failed(format!("--log {log:?} is not a filter: {e}")),
            };
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .init();
            let options = vmm_glue::Options { guest_socket, control_socket, console_socket, tap };
            if let Err(e) = vmm_glue::run(options) {
                return failed(e);
            }
        }
    }
    ExitCode::SUCCESS
}

fn failed(why: impl std::fmt::Display) -> ExitCode {
    eprintln!("vmm: {why}");
    ExitCode::FAILURE
}
