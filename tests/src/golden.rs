//! The `waystation` command as IT and users type it: the golden guest goes in, clones of it come out.

use crate::{
    guest::{CMDLINE, Guest, MEMORY_MIB},
    paths, process,
    realm::{REALM, Realm, SERVER_HOST, USERS},
    server::Server,
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
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

    /// Runs one command as `user`, who has a ticket.
    pub fn run(&self, user: &str, args: &[&str]) -> Result<String> {
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
        process::run(&mut command)
    }

    /// Imports the golden guest and clones it for both travellers.
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
        )
        .context("the golden guest was not imported")?;
        for (user, password) in &USERS[..2] {
            let owner = format!("{user}@{REALM}");
            let password_file = self.dir.join(format!("{user}.password"));
            fs::write(&password_file, password)?;
            let recovery = self.dir.join(format!("{user}.recovery"));
            self.run(
                "it",
                &[
                    "clone",
                    GOLDEN,
                    "--key-file",
                    &key,
                    "--name",
                    WORK,
                    "--owner",
                    &owner,
                    "--password-file",
                    &password_file.to_string_lossy(),
                    "--recovery-out",
                    &recovery.to_string_lossy(),
                ],
            )
            .with_context(|| format!("the golden guest was not cloned for {user}"))?;
        }
        Ok(())
    }
}
