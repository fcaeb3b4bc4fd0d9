//! The command line of `demo`.

use crate::{
    paths,
    walk::{self, Kiosks},
    world::World,
};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{self, Pid},
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

fn pid_file() -> PathBuf {
    out().join("demo.pid")
}

/// Everything runs in a child process, so that it can go on when this one has given the terminal back. Until then the
/// child dies with this one.
fn run() -> Result<()> {
    down()?;
    // What an earlier walk left must not be taken for this one's.
    let _ = fs::remove_dir_all(out());
    let mut child = Command::new(std::env::current_exe()?).arg("walk").stdin(Stdio::piped()).spawn()?;
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
    anyhow::ensure!(status.success(), "the walk ended with {status}");
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
    // A terminal that is closed, or a Ctrl-C on it, reaches this process through its parent's end only. It fails where a
    // shell has made this process the leader of its group; the shell then sends the signals.
    let _ = unistd::setsid();
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let out = out();
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    fs::write(pid_file(), std::process::id().to_string())?;
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
    fs::remove_file(pid_file())?;
    Ok(())
}

/// Ends the process that holds a demo; everything that it started dies with it.
fn down() -> Result<()> {
    let Ok(text) = fs::read_to_string(pid_file()) else { return Ok(()) };
    let pid: i32 =
        text.trim().parse().with_context(|| format!("{} holds no process id", pid_file().display()))?;
    // The number may have been given to another process since.
    let ours = || {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let mut words = line.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"/demo")) && words.next() == Some(b"walk")
        })
    };
    if ours() {
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("the demo cannot be ended")?;
        let begin = Instant::now();
        while ours() {
            anyhow::ensure!(
                begin.elapsed() < Duration::from_secs(30),
                "the demo, process {pid}, does not end"
            );
            thread::sleep(Duration::from_millis(50));
        }
        println!("The demo that was left running is ended.");
    }
    fs::remove_file(pid_file())?;
    Ok(())
}
