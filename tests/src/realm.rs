//! A throwaway Kerberos realm: MIT's `krb5kdc` in a scratch folder, on a loopback port, without root.

use crate::{
    kdc_tap, paths,
    process::{self, Daemon},
};
use anyhow::{Context, Result};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

/// Name of the realm.
pub const REALM: &str = "WAYSTATION.TEST";
/// The parcel server's host name inside the rig.
pub const SERVER_HOST: &str = "parcels.waystation.test";
/// The users, with their passwords: two travellers, the one from IT, and one whose keyboard is German.
pub const USERS: [(&str, &str); 4] = [
    ("shanta", "correct horse battery"),
    ("ravi", "staple under monsoon"),
    ("it", "golden guests only"),
    ("yoe", "Größe-café-y"),
];

/// The password of a user of the rig.
pub fn password_of(user: &str) -> Result<&'static str> {
    let found = USERS.iter().find(|(name, _)| *name == user);
    Ok(found.with_context(|| format!("the rig has no user {user}"))?.1)
}

/// A running realm; ends when dropped.
#[derive(Debug)]
pub struct Realm {
    dir: PathBuf,
    kdc_port: u16,
    port: u16,
    kdc: Option<Daemon>,
    ahead_days: i64,
    held: Arc<AtomicBool>,
}

impl Realm {
    /// Makes the database, the users and the service keytab in `dir`, and starts the KDC.
    pub fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let kdc_port = process::free_port()?;
        let held = Arc::default();
        let port = kdc_tap::start(kdc_port, &dir.join("kdc-answers"), &held)?;
        let mut realm = Self { dir: dir.to_owned(), kdc_port, port, kdc: None, ahead_days: 0, held };
        realm.write_configuration()?;
        let mut create = realm.command("/usr/sbin/kdb5_util");
        // The master key protects a database that lives as long as the test.
        process::run(create.args(["-r", REALM, "create", "-s", "-P", "rig"]))?;
        for (user, password) in USERS {
            realm.add_user(user, password)?;
        }
        realm.kadmin(&format!("addprinc -randkey HTTP/{SERVER_HOST}"))?;
        realm.kadmin(&format!("ktadd -k {} HTTP/{SERVER_HOST}", realm.keytab().display()))?;
        realm.up()?;
        Ok(realm)
    }

    /// Starts the KDC (again).
    pub fn up(&mut self) -> Result<()> {
        let mut command = self.command("/usr/sbin/krb5kdc");
        command.arg("-n").arg("-P").arg(self.dir.join("krb5kdc.pid"));
        process::set_ahead(&mut command, self.ahead_days);
        let port = self.kdc_port;
        let mut kdc = Daemon::spawn(command, &self.dir.join("krb5kdc.out"))?;
        kdc.until(Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        self.kdc = Some(kdc);
        Ok(())
    }

    /// From its next start on, the KDC's clock is so many days ahead.
    pub fn set_ahead(&mut self, days: i64) {
        self.ahead_days = days;
    }

    /// Stops the KDC.
    pub fn down(&mut self) {
        self.kdc = None;
    }

    /// Keeps tickets for services from kiosks, which wait for them, or lets them go.
    pub fn hold_service_tickets(&self, hold: bool) {
        self.held.store(hold, SeqCst);
    }

    /// The loopback port where kiosks find the KDC, TCP and UDP; what it answers there is captured.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the KDC answered the kiosks, as [`kdc_tap`] writes it.
    pub fn capture(&self) -> PathBuf {
        self.dir.join("kdc-answers")
    }

    /// The parcel server's keys.
    pub fn keytab(&self) -> PathBuf {
        self.dir.join("server.keytab")
    }

    /// The client configuration; `KRB5_CONFIG` for programs of the realm.
    pub fn config(&self) -> PathBuf {
        self.dir.join("krb5.conf")
    }

    /// The session keys of the tickets that `user` got at a kiosk so far, each with its service's name.
    pub fn session_keys(&self, user: &str) -> Result<Vec<(String, Vec<u8>)>> {
        // The server's keys, and those of the tickets that tickets are got with.
        let keytab = self.dir.join("all.keytab");
        let _ = fs::remove_file(&keytab);
        let file = keytab.display();
        for service in [format!("krbtgt/{REALM}"), format!("HTTP/{SERVER_HOST}")] {
            self.kadmin(&format!("ktadd -k {file} -norandkey {service}"))?;
        }
        // Debian's own Python, which sees Debian's packages.
        let mut tool = Command::new("/usr/bin/python3");
        tool.arg(paths::workspace().join("tests/tools/ticket_keys.py"));
        tool.arg(self.capture()).arg(format!("{user}@{REALM}")).arg(&keytab);
        let text = process::run(&mut tool)?;
        text.lines()
            .map(|line| {
                let ticket: serde_json::Value = serde_json::from_str(line)?;
                let field =
                    |name: &str| ticket[name].as_str().map(str::to_owned).context("a ticket lacks a field");
                Ok((field("service")?, hex::decode(field("key")?)?))
            })
            .collect()
    }

    /// Adds a user.
    pub fn add_user(&self, user: &str, password: &str) -> Result<()> {
        self.kadmin(&format!("addprinc +requires_preauth -pw \"{password}\" {user}")).map(drop)
    }

    /// Asks `kadmin.local`: lock accounts, let passwords expire, and so on.
    pub fn kadmin(&self, query: &str) -> Result<String> {
        process::run(self.command("/usr/sbin/kadmin.local").args(["-r", REALM, "-q", query]))
    }

    /// Gets a ticket for `user` into a credential cache file, as `kinit` does, and names the file.
    pub fn kinit(&self, user: &str) -> Result<PathBuf> {
        use std::io::Write as _;
        let password = password_of(user)?;
        let cache = self.dir.join(format!("cc-{user}"));
        let mut child = self
            .command("kinit")
            .arg("-c")
            .arg(&cache)
            .arg(format!("{user}@{REALM}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kinit")?;
        child.stdin.take().context("kinit has no input")?.write_all(format!("{password}\n").as_bytes())?;
        let output = child.wait_with_output()?;
        anyhow::ensure!(
            output.status.success(),
            "kinit {user} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(cache)
    }

    /// A command that sees this realm and no other.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("KRB5_CONFIG", self.config())
            .env("KRB5_KDC_PROFILE", self.dir.join("kdc.conf"))
            .env("KRB5RCACHEDIR", &self.dir)
            .env("KRB5CCNAME", self.dir.join("cc-none"));
        command
    }

    fn write_configuration(&self) -> Result<()> {
        let dir = self.dir.display();
        let port = self.kdc_port;
        fs::write(
            self.config(),
            format!(
                "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
                 dns_canonicalize_hostname = false\n rdns = false\n \
                 spake_preauth_groups = edwards25519\n\
                 [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n\
                 [logging]\n kdc = FILE:{dir}/krb5kdc.log\n admin_server = FILE:{dir}/kadmin.log\n"
            ),
        )?;
        fs::write(
            self.dir.join("kdc.conf"),
            format!(
                "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
                 [realms]\n {REALM} = {{\n  database_name = {dir}/principal\n  key_stash_file = {dir}/stash\n  \
                 acl_file = {dir}/kadm5.acl\n  max_life = 10h\n  max_renewable_life = 10h\n }}\n"
            ),
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_gives_tickets_until_an_account_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let realm = Realm::start(dir.path()).unwrap();
        assert!(realm.kinit("shanta").unwrap().is_file());
        realm.kadmin("modprinc -allow_tix shanta").unwrap();
        assert!(realm.kinit("shanta").unwrap_err().to_string().contains("kinit shanta failed"));
    }
}
