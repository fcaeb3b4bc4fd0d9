//! `image-build`: builds the kiosk appliance from a kiosk.toml.

use clap::{Parser, Subcommand};
use image_build::build::{self, Job};
use image_build::error::BuildError;
use image_build::keymaps::SHIPPED;
use image_build::progress::Progress;
use image_build::{config, scratch};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds the Waystation kiosk appliance from a kiosk.toml.
///
/// Exit codes: 0 done, 1 failed, 2 a mistake in the kiosk.toml or in this command line, 130 interrupted.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  image-build check --config kiosk.toml\n  \
        image-build build --config kiosk.toml --out kiosk\n  \
        sudo dd if=kiosk/kiosk.img of=/dev/sdX bs=4M conv=fsync status=progress"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds kiosk.efi, kiosk.img and netboot/ from Debian packages and the release binaries.
    #[command(after_help = "Example:\n  image-build build --config kiosk.toml --out kiosk\n\n\
        The output folder is replaced in one step when the build is complete; a build that fails leaves it as it was.")]
    Build {
        /// The kiosk's configuration.
        #[arg(long)]
        config: PathBuf,
        /// Folder for the result; it is made if it does not exist, and an earlier build in it is replaced.
        #[arg(long)]
        out: PathBuf,
        /// Folder of the release binaries [default: where image-build is].
        #[arg(long)]
        binaries: Option<PathBuf>,
        /// Folder where Debian packages are kept [default: waystation/packages in the user's cache folder].
        #[arg(long)]
        cache: Option<PathBuf>,
        /// Print the manifest as JSON on standard output, and nothing on standard error but errors.
        #[arg(long)]
        json: bool,
    },
    /// Lists the keyboard layouts that an image carries, for console.keymap.
    #[command(after_help = "Example:\n  image-build keymaps")]
    Keymaps,
    /// Checks a kiosk.toml, and prints each mistake.
    #[command(after_help = "Example:\n  image-build check --config kiosk.toml --json")]
    Check {
        /// The kiosk's configuration.
        #[arg(long)]
        config: PathBuf,
        /// Print {"ok":…,"mistakes":[…],"ca":[…]} as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build { config, out, binaries, cache, json } => {
            let binaries = binaries.unwrap_or_else(beside);
            run_build(config, out, binaries, cache.unwrap_or_else(user_cache), json)
        }
        Command::Keymaps => {
            SHIPPED.iter().for_each(|shipped| println!("{:<20} {}", shipped.name, shipped.title));
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { config, json } => run_check(config, json),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            // Mistakes in what was given are 2, as for the command line; what went wrong on the way is 1.
            ExitCode::from(if matches!(error, BuildError::Config(_)) { 2 } else { 1 })
        }
    }
}

fn run_build(
    config: PathBuf,
    out: PathBuf,
    binaries: PathBuf,
    cache: PathBuf,
    json: bool,
) -> Result<ExitCode, BuildError> {
    scratch::vanish_on_signals().map_err(|source| BuildError::Io {
        path: PathBuf::from("signals"),
        doing: "blocking",
        source,
    })?;
    let progress = Progress::new(json);
    let job = Job { config: config::load(&config)?, out, binaries, cache };
    let manifest = build::build(&job, &progress)?;
    if json {
        println!("{}", serde_json::to_string(&manifest).unwrap_or_default());
    } else {
        println!("Built in {:.0} s, kernel {}:", progress.seconds(), manifest.kernel);
        for (name, file) in &manifest.files {
            println!("  {:<32} {:>7.1} MB", job.out.join(name).display(), file.bytes as f64 / 1e6);
        }
        if !manifest.firmware_absent.is_empty() {
            let modules: Vec<&str> = manifest.firmware_absent.keys().map(String::as_str).collect();
            println!(
                "Some devices of these drivers need firmware that is not in the image: {}.\n\
                 manifest.json names the files; name the packages that have them in hardware.firmware of kiosk.toml.",
                modules.join(", ")
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_check(path: PathBuf, json: bool) -> Result<ExitCode, BuildError> {
    let result = config::load(&path);
    if json {
        let (mistakes, ca) = match &result {
            Ok(config) => (Vec::new(), config.ca.subjects.as_slice()),
            Err(mistakes) => (mistakes.0.iter().map(ToString::to_string).collect(), [].as_slice()),
        };
        println!("{}", serde_json::json!({ "ok": mistakes.is_empty(), "mistakes": mistakes, "ca": ca }));
        return Ok(ExitCode::from(if mistakes.is_empty() { 0 } else { 2 }));
    }
    let config = result?;
    if config.kiosk.realm.weak_preauth {
        println!(
            "{}: realm.weak_preauth is true: anyone on the path to the KDC can guess the password from what a log-in \
             sends, at the speed of their own machines, and the password opens the user's parcels. Better: SPAKE or anonymous PKINIT (pkinit_anchors) on the KDC, or a KDC proxy (kdc_proxy)",
            path.display()
        );
    }
    println!("{}: no mistakes", path.display());
    println!("server.ca holds the certificates of {} CAs:", config.ca.subjects.len());
    for subject in &config.ca.subjects {
        println!("  {subject}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder that this program is in: `target/release` on a machine that builds, `/usr/bin` on one that installed.
fn beside() -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|path| path.parent().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("."))
}

fn user_cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("waystation/packages")
}
