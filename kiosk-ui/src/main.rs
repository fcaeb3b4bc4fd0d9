//! `kiosk-ui --config /etc/waystation/kiosk.json --run-dir /run/waystation`, on the terminal that is its standard input
//! and output.

use anyhow::Context as _;
use clap::Parser;
use parcel::wire::kiosk;
use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// The kiosk's screens, on the terminal that is the standard input and output. `init` starts them.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  kiosk-ui --config /etc/waystation/kiosk.json --run-dir /run/waystation"
)]
struct Args {
    /// The kiosk's configuration.
    #[arg(long, default_value = kiosk::PATH)]
    config: PathBuf,
    /// Folder of the local sockets.
    #[arg(long, default_value = kiosk::RUN)]
    run_dir: PathBuf,
    /// Certificate of the CA that the parcel server's is from.
    #[arg(long, default_value = kiosk::CA_PATH)]
    ca: PathBuf,
    /// Certificate of the CA that the KDCs' are from, where the site uses FAST.
    #[arg(long, default_value = kiosk::KDC_CA_PATH)]
    kdc_ca: PathBuf,
    /// What is logged to standard error, when that is not the terminal.
    #[arg(long, default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    match show(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kiosk-ui: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(args: &Args) -> anyhow::Result<()> {
    cache::harden::process().context("hardening the process")?;
    if !std::io::stderr().is_terminal() {
        let filter = EnvFilter::try_new(&args.log).context("--log")?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
    // Into the log, never across the screen.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a fault of the program")));
    let config = kiosk_ui::run::read_config(&args.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(kiosk_ui::run::run(&config, &args.run_dir, &args.ca, &args.kdc_ca));
    // The keyboard thread and a log-in that nobody waits for any more may still block.
    runtime.shutdown_background();
    result
}
