//! `make demo` as a person at a terminal has it: the walk, the offer to leave it running, a try, and its end.

use anyhow::{Context, Result, ensure};
use rig::{
    kiosk::{limits, words},
    paths,
    process::{self, Daemon},
    realm::password_of,
    screen::Screen,
};
use std::{fs, os::unix::net::UnixStream, path::Path, process::Command, time::Duration};

/// The whole walk, on busy cores.
const WALK: Duration = Duration::from_secs(1200);
/// To tell the offer's end from the terminal's.
const DOWN: Duration = Duration::from_secs(30);

/// Runs it on a pseudo-terminal, takes the offer, logs in at the kiosk that was left, and ends everything.
pub fn on_a_terminal(dir: &Path) -> Result<()> {
    let demo = paths::binary("demo")?;
    let out = paths::target().join("demo");
    let socket = dir.join("demo.sock");
    let mut terminal = Command::new("socat");
    terminal.arg(format!("UNIX-LISTEN:{}", socket.display()));
    terminal.arg(format!("EXEC:{} run,pty,setsid,ctty,stderr", demo.display()));
    let mut terminal = Daemon::spawn(terminal, &dir.join("demo.log"))?;
    terminal.until(limits::SCREEN, || socket.exists())?;
    let mut screen = Screen::attach(&socket, &dir.join("demo-terminal.log"))?;
    screen.expect("[y/N]", WALK)?;
    let timeline = fs::read_to_string(out.join("timeline.jsonl"))?;
    check_timeline(&timeline).with_context(|| format!("the timeline is\n{timeline}"))?;
    screen.send("y\r")?;
    screen.expect("make demo-down", limits::SCREEN)?;
    let ended = terminal.wait(DOWN)?;
    ensure!(ended.success(), "the demo ended with {ended}");

    // The terminal is gone; the kiosk is not.
    let line = out.join("world/kiosk-A/ttyS0.sock");
    let mut kiosk = Screen::attach(&line, &dir.join("demo-kiosk.log"))?;
    kiosk.send("\x0c")?;
    kiosk.expect(words::LOGIN, limits::SCREEN)?;
    kiosk.send(&format!("ravi\r{}\r", password_of("ravi")?))?;
    kiosk.expect(words::START, limits::SCREEN)?;

    process::run(Command::new(&demo).arg("down"))?;
    ensure!(UnixStream::connect(&line).is_err(), "kiosk A outlived the demo");
    let left = processes_about(&out)?;
    ensure!(left.is_empty(), "after its end the demo left {left:?}");
    Ok(())
}

/// The lines that the timeline promises: three sessions' phases, and what was shown.
fn check_timeline(text: &str) -> Result<()> {
    let mut lines = Vec::new();
    for line in text.lines() {
        lines.push(serde_json::from_str::<serde_json::Value>(line)?);
    }
    let last = lines.pop().context("it is empty")?;
    let shown = serde_json::json!({
        "demo": "ok", "nonce_preserved": true, "unsaved_text_preserved": true, "wipe_verified": true
    });
    ensure!(last == shown, "its last line is {last}");
    let suspends: Vec<_> = lines.iter().filter(|line| line["phase"] == "commit").collect();
    let kiosks: Vec<_> = suspends.iter().filter_map(|line| line["kiosk"].as_str()).collect();
    ensure!(kiosks == ["A", "B", "A"], "it has commits on {kiosks:?}");
    for line in &lines {
        let whole = line["seconds"].is_number()
            && line["bytes_in"].is_u64()
            && line["bytes_out"].is_u64()
            && line["ok"] == true;
        ensure!(whole, "it has the line {line}");
    }
    ensure!(suspends.iter().all(|line| line["bytes_out"].as_u64() > Some(0)), "a commit sent nothing");
    Ok(())
}

/// Command lines that name a folder.
fn processes_about(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.display().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")? {
        let line = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&folder) {
            found.push(line);
        }
    }
    Ok(found)
}
