//! QEMU's machine protocol: one JSON object a line.

use crate::process;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects and leaves the capability negotiation behind.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = process::connect(socket)
            .with_context(|| format!("cannot connect to QEMU's monitor at {}", socket.display()))?;
        // A dump of the whole memory is the longest command.
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        let mut qmp = Self { reader: BufReader::new(stream.try_clone()?), writer: stream };
        let mut greeting = String::new();
        qmp.reader.read_line(&mut greeting)?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives its return value; events that arrive meanwhile are passed over.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("QEMU closed its monitor during {command}");
            }
            let answer: Value = serde_json::from_str(&line).context("QEMU's monitor sent no JSON")?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
        }
    }

    /// What a person at the screen sees, as a PNG file.
    pub fn screenshot(&mut self, png: &Path) -> Result<()> {
        self.execute("screendump", json!({ "filename": png, "format": "png" })).map(drop)
    }

    /// Writes `bytes` of physical memory from address 0 to a file.
    pub fn dump_memory(&mut self, bytes: u64, file: &Path) -> Result<()> {
        self.execute("pmemsave", json!({ "val": 0, "size": bytes, "filename": file })).map(drop)
    }

    /// Plugs the network cable in or pulls it.
    pub fn set_link(&mut self, device: &str, up: bool) -> Result<()> {
        self.execute("set_link", json!({ "name": device, "up": up })).map(drop)
    }

    /// Limits what is written to a drive, in bytes a second; 0: no limit.
    pub fn limit_writes(&mut self, drive: &str, bytes: u64) -> Result<()> {
        let limits = json!({
            "device": drive, "bps": 0, "bps_rd": 0, "bps_wr": bytes, "iops": 0, "iops_rd": 0, "iops_wr": 0
        });
        self.execute("block_set_io_throttle", limits).map(drop)
    }

    /// Presses keys together, by QEMU's names: `ctrl`, `alt`, `f1`.
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", json!({ "keys": keys })).map(drop)
    }

    /// Presses the power button, as ACPI knows it.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown", json!({})).map(drop)
    }

    /// Stops the machine's clock and processors, as for a dump that is of one moment.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets a stopped machine go on.
    pub fn cont(&mut self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }
}
