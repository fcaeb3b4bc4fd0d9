//! The `waystation` command as IT and users type it: the golden guest goes in, clones of it come out.

use crate::{
    guest::{CMDLINE, Guest, MEMORY_MIB},
    paths,
    realm::{REALM, Realm, SERVER_HOST, USERS},
    server::Server,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Name of the golden parcel.
pub const GOLDEN: &str = "golden";
/// Name of each user's parcel.
pub const WORK: &str = "work";

/// Runs `waystation` against the rig's realm and server.
#[derive(Debug)]
pub struct CommandLine<'a> {
    realm: &'a Realm,
    server: &'a Server,
    dir: PathBuf,
}

impl<'a> CommandLine<'a> {
    /// Scratch files go to `dir`.
    pub fn new(realm: &'a Realm, server: &'a Server, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("hosts"), format!("127.0.0.1 {SERVER_HOST}\n"))?;
        Ok(Self { realm, server, dir: dir.to_owned() })
    }

    /// Runs one command as `user`, who has a ticket; `input` is typed into it.
    pub fn run(&self, user: &str, args: &[&str], input: &str) -> Result<String> {
        let ticket = self.realm.kinit(user)?;
        let mut command = self.realm.command(&paths::binary("waystation")?.to_string_lossy());
        command
            .args(args)
            .env("KRB5CCNAME", format!("FILE:{}", ticket.display()))
            .env("WAYSTATION_SERVER", self.server.url())
            .env("WAYSTATION_CA", self.server.ca())
            // The server's name is in no DNS; this is /etc/hosts for one process.
            .env("LD_PRELOAD", "libnss_wrapper.so")
            .env("NSS_WRAPPER_HOSTS", self.dir.join("hosts"));
        feed(command, input)
    }

    /// Imports the golden guest and clones it for both travellers, with the given tag where `tag` is not empty.
    pub fn stock(&self, guest: &Guest) -> Result<()> {
        let key = self.dir.join("golden.key");
        let (key, memory) = (key.to_string_lossy(), MEMORY_MIB.to_string());
        let (disk, kernel, initrd) =
            (guest.disk.to_string_lossy(), guest.kernel.to_string_lossy(), guest.initrd.to_string_lossy());
        self.run(
            "it",
            &[
                "import",
                "--name",
                GOLDEN,
                "--disk",
                &disk,
                "--kernel",
                &kernel,
                "--initrd",
                &initrd,
                "--cmdline",
                CMDLINE,
                "--memory",
                &memory,
                "--vcpus",
                "1",
                "--baseline",
                "x86-64-v2",
                "--key-file",
                &key,
            ],
            "",
        )
        .context("the golden guest was not imported")?;
        for (user, password) in &USERS[..2] {
            let owner = format!("{user}@{REALM}");
            self.run(
                "it",
                &["clone", GOLDEN, "--key-file", &key, "--name", WORK, "--owner", &owner],
                &format!("{password}\n{password}\n"),
            )
            .with_context(|| format!("the golden guest was not cloned for {user}"))?;
        }
        Ok(())
    }
}

fn feed(mut command: Command, input: &str) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    // A command that needs no input may end before it reads any.
    let _ = child.stdin.take().context("no input")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{shown} failed with {}:\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
