//! The command line: what there is, and how an error is told.

use super::{
    AdminError, Exit, Result,
    begun::{self, Begun, Stops},
    clone,
    connect::Connection,
    discard, import, list, lock, show, tag,
    terminal::{self, say},
};
use cache::harden;
use clap::{Args, Parser, Subcommand};
use parcel::wire::Code;
use serde::Serialize;
use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tokio::task::{JoinError, JoinHandle};

/// Makes, shows, locks and unlocks parcels on a parcel server.
///
/// Uses your Kerberos ticket: run kinit first.
///
/// A command that fails, or that Ctrl-C stops, removes what it began.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 input that cannot be used, 4 log-in failed, 5 server not reachable,
/// 6 refused by the server (or no space there, or away behind its proxy), 130 interrupted.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  kinit it && waystation --server https://parcels.example.org:8443 ls"
)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
pub(super) struct Common {
    /// Address of the parcel server, https://…
    #[arg(long, global = true, env = "WAYSTATION_SERVER", default_value = "", hide_default_value = true)]
    pub server: String,
    /// PEM file with the certificate of the server's CA.
    #[arg(long, global = true, env = "WAYSTATION_CA", default_value = "/etc/waystation/ca.pem")]
    pub ca: PathBuf,
    /// Print the answer as JSON on standard output; errors, too.
    #[arg(long, global = true)]
    pub json: bool,
    /// What is to be taken back when the command does not come to its end.
    #[arg(skip)]
    pub begun: Begun,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a golden parcel from a disk image, a kernel and an initial RAM disk.
    #[command(after_help = import::EXAMPLE)]
    Import(import::Arguments),
    /// Makes a user's parcel from a golden one; unchanged chunks stay shared.
    #[command(after_help = clone::EXAMPLE)]
    Clone(clone::Arguments),
    /// Removes a parcel whose import or clone was not finished.
    #[command(after_help = discard::EXAMPLE)]
    Discard(discard::Arguments),
    /// Lists your parcels, and those whose lock you hold.
    #[command(after_help = list::EXAMPLE)]
    Ls(list::Arguments),
    /// Shows a parcel and its versions.
    #[command(after_help = show::EXAMPLE)]
    Show(show::Arguments),
    /// Shows a parcel's hardware tag, or changes it.
    #[command(after_help = tag::EXAMPLE)]
    Tag(tag::Arguments),
    /// Takes a parcel's lock, so that no kiosk can resume it.
    #[command(after_help = lock::LOCK_EXAMPLE)]
    Lock(lock::LockArguments),
    /// Releases a parcel's lock.
    #[command(after_help = lock::UNLOCK_EXAMPLE)]
    Unlock(lock::UnlockArguments),
}

/// What a command has to say: a structure for programs, lines for people.
pub(super) struct Answer {
    json: serde_json::Value,
    text: String,
    /// It holds what can be had nowhere else later.
    once: bool,
}

impl Answer {
    /// Both forms.
    pub fn new(json: &impl Serialize, text: impl Into<String>) -> Result<Self> {
        let json = serde_json::to_value(json)
            .map_err(|e| AdminError::new(Exit::Failed, Code::InternalError, e.to_string()))?;
        Ok(Self { json, text: text.into(), once: false })
    }

    /// The same, for what can be had nowhere else later: where the standard output fails, people are told otherwise.
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.common.json;
    if let Err(error) = harden::process() {
        say(format_args!("waystation: the process cannot be protected: {error}"));
        return Exit::Failed.into();
    }
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("WAYSTATION_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("waystation: no threads can be started: {error}"));
            return Exit::Failed.into();
        }
    };
    let result = runtime.block_on(supervise(arguments));
    // An upload or a question to the KDC may still be under way on some thread.
    runtime.shutdown_background();
    match result {
        Ok(answer) => match tell(&if json { format!("{:#}\n", answer.json) } else { answer.text.clone() }) {
            Err(error) if answer.once || error.kind() != io::ErrorKind::BrokenPipe => {
                let instead = if answer.once { answer.text.as_str() } else { "" };
                terminal::show(format_args!(
                    "waystation: it is done, but the answer cannot be written: {error}\n{instead}"
                ));
                Exit::Failed.into()
            }
            // A reader that has read enough is no failure.
            _ => ExitCode::SUCCESS,
        },
        Err(AdminError { exit, error }) => {
            if json {
                // The exit code and the sentence below say it, too.
                let _ = tell(&format!("{}\n", serde_json::json!({ "error": error })));
            }
            say(format_args!("waystation: {error}"));
            exit.into()
        }
    }
}

fn tell(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Runs the command until it ends or is told to stop, and takes back what it has begun unless it has done all of it.
async fn supervise(arguments: Arguments) -> Result<Answer> {
    let begun = arguments.common.begun.clone();
    let mut stops =
        Stops::new().map_err(|e| AdminError::new(Exit::Failed, Code::InternalError, e.to_string()))?;
    // On a task of its own: a question for a password blocks, and Ctrl-C must be heard all the same.
    let mut work = tokio::spawn(run(arguments));
    let result = tokio::select! {
        ended = &mut work => outcome(ended),
        () = stops.next() => stop(work, &begun, &mut stops).await,
    };
    match result {
        Err(error) => Err(begun.take_back(error, &mut stops).await),
        done => done,
    }
}

/// How long work that has begun nothing is waited for.
const ENDING: Duration = Duration::from_millis(200);

/// Stops the command; told so twice, also in a step that should come to its end.
async fn stop(mut work: JoinHandle<Result<Answer>>, begun: &Begun, stops: &mut Stops) -> Result<Answer> {
    begun.stopping().ask();
    let (done, _none_begins) = tokio::select! {
        (done, step) = begun.settle() => (done, Some(step)),
        () = stops.next() => (false, None),
    };
    if !done {
        work.abort();
    }
    let result = match begun.nothing() && !done {
        // A question for a password keeps the task from ending; nothing is begun by then.
        true => {
            let _ = tokio::time::timeout(ENDING, &mut work).await;
            Err(begun::interrupted())
        }
        false => outcome(work.await),
    };
    // Last: kinit may have changed the terminal until the work had ended.
    terminal::restore();
    result
}

fn outcome(ended: std::result::Result<Result<Answer>, JoinError>) -> Result<Answer> {
    ended.unwrap_or_else(|error| {
        Err(match error.is_cancelled() {
            true => begun::interrupted(),
            false => AdminError::new(Exit::Failed, Code::InternalError, error.to_string()),
        })
    })
}

async fn run(arguments: Arguments) -> Result<Answer> {
    let common = arguments.common;
    match arguments.command {
        Command::Import(arguments) => import::run(&common, arguments).await,
        Command::Clone(arguments) => clone::run(&common, arguments).await,
        Command::Discard(arguments) => discard::run(&Connection::open(&common).await?, &arguments).await,
        Command::Ls(arguments) => list::run(&Connection::open(&common).await?, &arguments).await,
        Command::Show(arguments) => show::run(&Connection::open(&common).await?, &arguments).await,
        Command::Tag(arguments) => tag::run(&common, arguments).await,
        Command::Lock(arguments) => lock::lock(&Connection::open(&common).await?, &arguments).await,
        Command::Unlock(arguments) => lock::unlock(&Connection::open(&common).await?, &arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::path::Path;

    #[tokio::test]
    async fn a_step_that_waits_for_somebody_ends_at_the_first_stop() {
        let begun = Begun::default();
        begun.file(Path::new("key"));
        let step = begun.step().await;
        let stopping = begun.stopping().clone();
        let work = tokio::spawn(async move {
            let _step = step;
            stopping.cuts(std::future::pending()).await?
        });
        let mut stops = Stops::new().unwrap();
        let stopped = tokio::time::timeout(Duration::from_secs(60), stop(work, &begun, &mut stops));
        let stopped = stopped.await.expect("it waits for ever").err().unwrap();
        assert_eq!((stopped.exit, stopped.error.message.as_str()), (Exit::Interrupted, "interrupted"));
    }

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("waystation {}", sub.get_name())), "{}: {help:?}", sub.get_name());
        }
    }
}
