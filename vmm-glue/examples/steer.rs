//! Steers a VMM by hand: `steer SOCKET '{"cmd":"status"}'` sends requests, `steer --console SOCKET SECONDS [TEXT…]` shows
//! the guest's console for so long after typing each TEXT as a line.

use anyhow::{Context, Result};
use sockets::blocking::{Connection, send_line};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "--console") {
        return console(&arguments[1..]);
    }
    let mut socket = Connection::connect(Path::new(&arguments.remove(0)))?;
    for request in arguments {
        let start = Instant::now();
        send_line(socket.stream(), format!("{request}\n").as_bytes(), &[])?;
        let reply: serde_json::Value = socket.receive()?;
        println!("{request} -> {reply} ({:.2?})", start.elapsed());
    }
    Ok(())
}

fn console(arguments: &[String]) -> Result<()> {
    let [path, seconds, texts @ ..] = arguments else { anyhow::bail!("--console SOCKET SECONDS [TEXT…]") };
    let mut socket = UnixStream::connect(path)?;
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse().context("SECONDS")?);
    for text in texts {
        writeln!(socket, "{text}")?;
    }
    let mut piece = [0; 4096];
    while Instant::now() < end {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                std::io::stdout().write_all(&piece[..count])?;
                std::io::stdout().flush()?;
            }
            Err(_) => {}
        }
    }
    Ok(())
}
