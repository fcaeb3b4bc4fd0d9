//! The command line.

use crate::{
    config::{Config, EXAMPLE},
    serve,
};
use clap::Parser;
use std::{io::Write, path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Exit status: the configuration, or the command line, has a mistake.
pub const EXIT_CONFIG: u8 = 2;
/// Exit status: the server could not start, or failed while it ran.
pub const EXIT_FAILED: u8 = 1;

#[derive(Parser)]
#[command(
    version,
    about = "Keeps suspended machines (parcels) and hands them to their owners, by Kerberos, over HTTPS.",
    after_help = format!(
        "Exit status: 0 after SIGTERM or SIGINT, or when --check finds nothing wrong; {EXIT_FAILED} when the server cannot start or \
         fails; {EXIT_CONFIG} for a mistake in the configuration or on this command line.\n\n\
         Once it listens it prints a line \"listening on https://ADDRESS:PORT\". Logs go to standard error.\n\n\
         An example of server.toml (relative paths start at its folder):\n\n{EXAMPLE}"
    )
)]
struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration and the files it names; say the first mistake, if there is one.
    #[arg(long)]
    check: bool,
    /// What is logged: error, warn, info, debug, or by module as in "info,access=warn".
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: EnvFilter,
}

/// Parses the command line and runs.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(mistake) => {
            eprintln!("parcel-server: {mistake}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.check {
        if let Err(mistake) = config.check_time() {
            eprintln!("parcel-server: {mistake}");
            return ExitCode::from(EXIT_CONFIG);
        }
        println!("{}: nothing wrong", args.config.display());
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt().with_env_filter(args.log).with_writer(std::io::stderr).with_ansi(false).init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("parcel-server: {e:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let running = serve::start(config).await?;
        // A reader that has gone away is no reason not to serve.
        let _ = writeln!(std::io::stdout(), "listening on https://{}", running.addr());
        running.until_signal().await
    })
}
