//! The command line of `demo`.

use crate::{
    ending, paths,
    walk::{self, Kiosks},
    world::World,
};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd,
};
use std::{
    fs,
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

#[derive(Parser)]
#[command(
    version,
    about = "Shows the whole path on this machine: realm, server, kiosks, three sessions of one traveller."
)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Walks through everything; on a terminal, then offers to leave it running.
    Run,
    /// Ends what was left running.
    Down,
    /// Measures; results go to target/bench as JSON.
    Bench,
    /// The walk itself, in a process that can be left behind; used by `run`.
    #[command(hide = true)]
    Walk,
}

/// Parses the command line and runs.
pub fn main() -> ExitCode {
    let done = match Args::parse().action {
        Action::Run => run(),
        Action::Down => down(),
        Action::Bench => crate::bench::run(),
        Action::Walk => walk_and_hold(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn out() -> PathBuf {
    paths::target().join("demo")
}

/// Everything runs in a child process, so that it can go on when this one has given the terminal back. Until then this
/// process ends it, whatever ends this process.
fn run() -> Result<()> {
    down()?;
    end_on_signals()?;
    // What an earlier walk left must not be taken for this one's.
    let _ = fs::remove_dir_all(out());
    let mut walk = Command::new(std::env::current_exe()?);
    let mut child = ending::mark(walk.arg("walk").stdin(Stdio::piped()), &out()).spawn()?;
    let mut orders = child.stdin.take().context("the walk takes no orders")?;
    if std::io::stdin().is_terminal() && has_made(&mut child, &out().join("done"))? {
        print!("\nLeave kiosk A, the realm and the server running, to try it yourself? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            writeln!(orders, "stay")?;
            // Only once the child no longer dies with this process may this one end.
            anyhow::ensure!(has_made(&mut child, &out().join("stays"))?, "kiosk A did not stay");
            println!("{}", invitation());
            return Ok(());
        }
    }
    drop(orders);
    let status = child.wait()?;
    ending::end(&out())?;
    anyhow::ensure!(status.success(), "the walk ended with {status}");
    Ok(())
}

/// On Ctrl-C, a closed terminal or a `kill`, ends the walk and everything that it started before this process ends.
fn end_on_signals() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        if let Err(error) = ending::end(&out()) {
            eprintln!("demo: {error:#}");
        }
        std::process::exit(128 + signal as i32);
    });
    Ok(())
}

/// Waits until the walk has made `file`; `false` if it ended before.
fn has_made(child: &mut Child, file: &Path) -> Result<bool> {
    loop {
        if file.exists() {
            return Ok(true);
        }
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn invitation() -> String {
    let line = out().join("world/kiosk-A/ttyS0.sock");
    format!(
        "Kiosk A waits at its login screen. Sit down at it with\n\n    socat -,raw,echo=0,escape=0x1c UNIX-CONNECT:{}\n\n\
         (press Ctrl-L to see the screen, Ctrl-\\ to leave it). Users: shanta, password {:?}; ravi, password {:?}.\n\
         In a session, Ctrl-] opens the menu. `make demo-down` ends everything.",
        line.display(),
        crate::realm::USERS[0].1,
        crate::realm::USERS[1].1
    )
}

fn walk_and_hold() -> Result<()> {
    // So that a terminal's signals reach the parent alone, which then ends this process. It fails where a shell has made this
    // process the leader of its group; the shell then sends the signals.
    let _ = unistd::setsid();
    SigSet::all().thread_unblock()?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let out = out();
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    let start = Instant::now();
    let mut say = |step: &str| println!("[{:6.1} s] {step}", start.elapsed().as_secs_f64());
    let world = World::start(&out.join("world"), &mut say)?;
    let (Kiosks { a, b }, outcome) = walk::walk(&world, Some(&out), &mut say)?;
    drop(b);
    println!("\n{}", walk::write_timeline(&outcome, &out, start)?);
    println!("The timeline is in {}, the screens beside it.", out.join("timeline.jsonl").display());
    fs::write(out.join("done"), "")?;
    let mut order = String::new();
    std::io::stdin().lock().read_line(&mut order)?;
    if order.trim() == "stay" {
        a.machine.screen.release();
        prctl::set_pdeathsig(None)?;
        fs::write(out.join("stays"), "")?;
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
    Ok(())
}

/// Ends a demo that was left running, with everything that it started.
fn down() -> Result<()> {
    if ending::end(&out())? > 0 {
        println!("The demo that was left running is ended.");
    }
    Ok(())
}
