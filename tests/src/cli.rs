//! The command line of `demo`.

use crate::{
    paths,
    walk::{self, Kiosks},
    world::World,
};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
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

/// Everything runs in a child process, so that it can go on when this one has given the terminal back.
fn run() -> Result<()> {
    down()?;
    // What an earlier walk left must not be taken for this one's.
    let _ = fs::remove_dir_all(out());
    let mut child = Command::new(std::env::current_exe()?).arg("walk").stdin(Stdio::piped()).spawn()?;
    let mut orders = child.stdin.take().context("the walk takes no orders")?;
    if std::io::stdin().is_terminal() && walk_is_over(&mut child)? {
        print!("\nLeave kiosk A, the realm and the server running, to try it yourself? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if answer.trim().eq_ignore_ascii_case("y") {
            writeln!(orders, "stay")?;
            println!("{}", invitation());
            return Ok(());
        }
    }
    drop(orders);
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "the walk ended with {status}");
    Ok(())
}

/// Waits until the walk is done and waits for orders; `false` if it failed and ended.
fn walk_is_over(child: &mut Child) -> Result<bool> {
    loop {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if out().join("done").exists() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn invitation() -> String {
    let line = out().join("world/kiosk-A/ttyS0.sock");
    format!(
        "Kiosk A waits at its login screen. Sit down at it with\n\n    socat -,raw,echo=0,escape=0x1c UNIX-CONNECT:{}\n\n\
         (leave it with Ctrl-\\; press Tab to see the screen). Users: shanta, password {:?}; ravi, password {:?}.\n\
         In a session, Ctrl-] opens the menu. `make demo-down` ends everything.",
        line.display(),
        crate::realm::USERS[0].1,
        crate::realm::USERS[1].1
    )
}

fn walk_and_hold() -> Result<()> {
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
        // The terminal's Ctrl-C no longer means us. Where we lead a group already, it does not either.
        let _ = nix::unistd::setsid();
        a.machine.screen.release();
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
    let ours = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"/demo")) && words.next() == Some(b"walk")
    });
    if ours {
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("the demo cannot be ended")?;
        println!("The demo that was left running is ended.");
    }
    fs::remove_file(pid_file())?;
    Ok(())
}
