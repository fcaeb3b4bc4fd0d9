//! The command line.

use crate::{
    config::{Config, EXAMPLE},
    serve,
    store::local,
};
use clap::{Parser, Subcommand};
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
         A store is made once, with parcel-server --config FILE init-store. An empty or foreign directory is never served.\n\n\
         Once it listens it prints a line \"listening on https://ADDRESS:PORT\". Logs go to standard error.\n\n\
         An example of server.toml (relative paths start at its folder):\n\n{EXAMPLE}"
    )
)]
struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and the files it names, print the first mistake, and exit.
    #[arg(long)]
    check: bool,
    /// What to log: error, warn, info, debug, or by module as in "info,access=warn".
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: EnvFilter,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is done instead of serving.
#[derive(Subcommand)]
enum Command {
    /// Makes an empty store in the directory that the configuration names, once.
    #[command(after_help = "Run it as the user that runs the server.\n\n\
        Example:\n  parcel-server --config /etc/waystation/server.toml init-store")]
    InitStore,
    /// Marks the store as restored from a backup or moved from another machine: it begins a new generation.
    #[command(after_help = "Run it as the user that runs the server, which must be stopped. Sessions then \
        learn that the store is an earlier one; those whose work does not fit it wait.\n\n\
        Example:\n  parcel-server --config /etc/waystation/server.toml restored")]
    Restored,
}

/// Parses the command line and runs.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let read = match args.command {
        None => Config::load(&args.config),
        Some(_) => Config::read(&args.config),
    };
    let config = match read {
        Ok(config) => config,
        Err(mistake) => {
            eprintln!("parcel-server: {mistake}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if let Some(command) = args.command {
        return match store(&config, &command) {
            Ok(said) => {
                println!("{said}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("parcel-server: {error}");
                ExitCode::from(EXIT_FAILED)
            }
        };
    }
    if args.check {
        if let Err(mistake) = config.check_time() {
            eprintln!("parcel-server: {mistake}");
            return ExitCode::from(EXIT_CONFIG);
        }
        println!("{}: nothing wrong", args.config.display());
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_env_filter(quiet(args.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("parcel-server: {e:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Without what the HTTP library says of a client's mistakes: any stranger could have it written without end. Who wants to hear it
/// names it.
fn quiet(filter: EnvFilter) -> EnvFilter {
    let named = filter.to_string().contains("h2");
    if named { filter } else { filter.add_directive("h2=off".parse().expect("it is a directive")) }
}

/// Makes or marks the store.
fn store(config: &Config, command: &Command) -> Result<String, local::OpenError> {
    let root = config.store.display();
    Ok(match command {
        Command::InitStore => {
            let identity = local::init(&config.store, &config.witness)?;
            format!("made the empty store {root}, {identity}")
        }
        Command::Restored => {
            let identity = local::restored(&config.store, &config.witness)?;
            format!("the store {root} begins a new generation, {identity}; start the server")
        }
    })
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
