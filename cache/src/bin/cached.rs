//! `cached`: the client engine of a kiosk, one process a session.

use anyhow::Context as _;
use cache::{
    daemon::{self, Daemon, Settings},
    harden,
    status::Board,
};
use clap::Parser;
use client::{api::Api, traffic::Traffic};
use parcel::wire::kiosk;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Fetches a parcel's pieces, serves a guest's disk and memory, and commits what changed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder of the sockets.
    #[arg(long, default_value = kiosk::RUN)]
    run_dir: PathBuf,
    /// Folder of the local store.
    #[arg(long, default_value = kiosk::CACHE)]
    cache_dir: PathBuf,
    /// Address of the parcel server, https://…
    #[arg(long, env = "WAYSTATION_SERVER")]
    server: String,
    /// PEM file with the certificate of the server's CA.
    #[arg(long, env = "WAYSTATION_CA", default_value = kiosk::CA_PATH)]
    ca: PathBuf,
    /// zstd level of what is sealed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    zstd_level: i32,
    /// What is logged to the standard error, such as info or cache=debug.
    #[arg(long, default_value = "info")]
    log: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log).context("--log")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let image = kiosk::image_version(&std::fs::read_to_string(kiosk::OS_RELEASE).unwrap_or_default());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), image, "cached begins");
    harden::process().context("the process cannot be protected")?;
    // Sealing and opening keep a compressor for each blocking thread: few threads that live long.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(60))
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let traffic = Arc::new(Traffic::default());
        let api = Api::new(&arguments.server, &arguments.ca, traffic.clone())?;
        let settings = Settings::sized(arguments.run_dir, arguments.cache_dir, arguments.zstd_level);
        let folder = settings.cache_dir.display().to_string();
        let daemon = Daemon::new(settings, api, Board::new(traffic))
            .with_context(|| format!("cache folder {folder}"))?;
        daemon::run(daemon).await.context("control socket")
    });
    // Blocked fetches must not hold the process: there is nothing left to save.
    runtime.shutdown_background();
    result
}
