//! The parcel server as its operators run it: HTTPS with a small CA, Kerberos keytab, a directory as its store.

use crate::{
    paths,
    process::{self, Daemon},
    realm::{REALM, Realm, SERVER_HOST},
};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use parcel::{id::ParcelId, secret::ParcelKey, slot::Slots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A parcel server; ends when dropped.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    port: u16,
    environment: Vec<(&'static str, PathBuf)>,
    daemon: Option<Daemon>,
    ahead_days: i64,
}

impl Server {
    /// Makes CA, certificate and configuration in `dir` and starts the server.
    pub fn start(dir: &Path, realm: &Realm) -> Result<Self> {
        fs::create_dir_all(dir)?;
        write_certificates(dir)?;
        let port = process::free_port()?;
        fs::write(
            dir.join("server.toml"),
            format!(
                "listen = \"127.0.0.1:{port}\"\nservice = \"HTTP/{SERVER_HOST}@{REALM}\"\nkeytab = {:?}\n\
                 store = \"store\"\nadmins = [\"it@{REALM}\"]\n[tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n",
                realm.keytab()
            ),
        )?;
        let environment = vec![("KRB5_CONFIG", realm.config())];
        let mut server = Self { dir: dir.to_owned(), port, environment, daemon: None, ahead_days: 0 };
        let mut init = std::process::Command::new(paths::binary("parcel-server")?);
        init.arg("--config").arg(dir.join("server.toml")).arg("init-store");
        let done = init.output().context("parcel-server cannot be run")?;
        anyhow::ensure!(done.status.success(), "init-store: {}", String::from_utf8_lossy(&done.stderr));
        server.up()?;
        Ok(server)
    }

    /// Starts it (again), on the same port.
    pub fn up(&mut self) -> Result<()> {
        let mut command = std::process::Command::new(paths::binary("parcel-server")?);
        command.arg("--config").arg(self.dir.join("server.toml"));
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        process::set_ahead(&mut command, self.ahead_days);
        let port = self.port;
        let mut daemon = Daemon::spawn(command, &self.log())?;
        daemon.until(Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// From its next start on, its clock is so many days ahead.
    pub fn set_ahead(&mut self, days: i64) {
        self.ahead_days = days;
    }

    /// Kills it at once, as a crash or a power cut would.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Kills it, and starts it with another key for its tokens: every log-in ends.
    pub fn end_log_ins(&mut self) -> Result<()> {
        self.kill();
        let key = self.dir.join("store.token-key");
        fs::remove_file(&key).with_context(|| format!("cannot remove {}", key.display()))?;
        self.up()
    }

    /// Lets it hang, as an overloaded machine would: connections are taken, and nothing is answered.
    pub fn hang(&self, hanging: bool) -> Result<()> {
        let daemon = self.daemon.as_ref().context("the server is down")?;
        daemon.signal(if hanging { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// `https://…` as clients know it.
    pub fn url(&self) -> String {
        format!("https://{SERVER_HOST}:{}", self.port)
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The directory of its objects, for looking and for damage.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// What the store says of a parcel now, without asking the server.
    pub fn head(&self, parcel: &ParcelId) -> Result<serde_json::Value> {
        let file = self.store().join("parcels").join(parcel.to_string()).join("head");
        Ok(serde_json::from_slice(
            &fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?,
        )?)
    }

    /// Opens a parcel's key as its owner would, from the slots in the store.
    pub fn key(&self, parcel: &ParcelId, password: &str) -> Result<ParcelKey> {
        let file = self.store().join("parcels").join(parcel.to_string()).join("slots");
        let slots =
            Slots::from_json(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?)?;
        Ok(slots.open_password(password.as_bytes(), parcel)?)
    }

    /// Flips one bit in every stored chunk; a second time repairs them all.
    pub fn damage_chunks(&self) -> Result<usize> {
        let mut damaged = 0;
        for folder in fs::read_dir(self.store().join("chunks"))? {
            for file in fs::read_dir(folder?.path())? {
                let path = file?.path();
                let mut bytes = fs::read(&path)?;
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
                fs::write(&path, bytes)?;
                damaged += 1;
            }
        }
        Ok(damaged)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }
}

fn write_certificates(dir: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Waystation rig CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![SERVER_HOST.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, SERVER_HOST);
    let certificate = params.signed_by(&key, &ca)?;
    fs::write(dir.join("ca.pem"), ca.pem())?;
    fs::write(dir.join("server.pem"), certificate.pem())?;
    let key_file = dir.join("server.key");
    fs::write(&key_file, key.serialize_pem())?;
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", key_file.display()))?;
    Ok(())
}
