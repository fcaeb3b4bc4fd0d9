//! `server.toml`: read, checked, and every mistake said in one sentence with file, place and remedy.

mod checks;

use crate::{auth::names::Realms, quota::Quotas};
use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::Spanned;

/// An example, shown by `--help` and checked by the tests.
pub const EXAMPLE: &str = r#"# Address and port of HTTPS. Port 0: any free one, see ready_file.
listen = "0.0.0.0:8443"
# Kerberos service that tickets must be for, and its keys (mode 600).
service = "HTTP/parcels.example.org"
keytab = "/etc/waystation/http.keytab"
# Directory of the parcels; made once by parcel-server --config FILE init-store.
store = "/var/lib/waystation/store"
# Who may make parcels for others.
admins = ["it@EXAMPLE.ORG"]
# Realms in which capital letters make no difference in names (Active Directory). May be left out.
case_insensitive_realms = []

[tls]
# Certificate chain and key (not readable by others), PEM.
cert = "/etc/waystation/server.pem"
key = "/etc/waystation/server.key"
# What kiosks trust, so that --check verifies as they do. May be left out.
ca = "/etc/waystation/ca.pem"

# Everything below may be left out.
# Who may own parcels, how many, and whether they may make them; the first that fits counts; an owner whom none fits
# may have no parcels. Without any [[quota]]: everybody, 16 each.
[[quota]]
owners = ["*@EXAMPLE.ORG"]
parcels = 16
create = true

[limits]
# Longest life of a log-in, however long the ticket lives.
token_lifetime_s = 36000
# Largest chunk, keyring leaf or version record.
max_object_bytes = 1048576
# A client that sends or takes nothing for this long is disconnected.
idle_timeout_s = 30
# How long requests under way may take to end when the server is told to.
shutdown_s = 10
# Connections: of all together (a quarter for those who are not logged in yet), and of one user.
connections = 4096
connections_per_principal = 64
# Memory for requests and answers of all together; one user may hold a sixteenth.
memory_mib = 256
"#;

/// A checked configuration. Paths are absolute or relative to the working directory.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Where to listen; port 0 means any free one.
    pub listen: SocketAddr,
    /// Kerberos service, `HTTP/host` or `HTTP/host@REALM`.
    pub service: String,
    /// Its keys.
    pub keytab: PathBuf,
    /// Directory of the store.
    pub store: PathBuf,
    /// Principals who may make parcels for others.
    pub admins: Vec<String>,
    /// Which names are the same person's.
    pub realms: Realms,
    /// Who may own how many parcels.
    pub quotas: Quotas,
    /// TLS certificate chain, PEM.
    pub tls_cert: PathBuf,
    /// TLS key, PEM.
    pub tls_key: PathBuf,
    /// The CA that clients trust, PEM.
    pub tls_ca: Option<PathBuf>,
    /// Secret that signs tokens; made when missing. Default: the store's path with `.token-key` at its end.
    pub token_key_file: PathBuf,
    /// Tickets seen. Default: the store's path with `.replay-cache` at its end.
    pub replay_cache: PathBuf,
    /// What remembers the store outside of it. Default: the store's path with `.witness` at its end.
    pub witness: PathBuf,
    /// Written once the server listens: the address, such as `127.0.0.1:43217`, and a line feed.
    pub ready_file: Option<PathBuf>,
    /// What one client and all of them together may use.
    pub limits: Limits,
}

/// What the server bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest life of a token.
    pub token_lifetime: Duration,
    /// Largest object, in bytes.
    pub max_object_bytes: usize,
    /// Longest pause of a client within a request.
    pub idle_timeout: Duration,
    /// Grace at shutdown.
    pub shutdown: Duration,
    /// Connections of all together.
    pub connections: usize,
    /// Connections of one principal.
    pub connections_per_principal: usize,
    /// What requests and answers of all together may hold, in bytes.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            token_lifetime: Duration::from_secs(10 * 3600),
            max_object_bytes: parcel::MAX_OBJECT,
            idle_timeout: Duration::from_secs(30),
            shutdown: Duration::from_secs(10),
            connections: 4096,
            connections_per_principal: 64,
            memory_bytes: 256 << 20,
        }
    }
}

/// A mistake in the configuration: one sentence that names file, place and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Spanned<String>,
    service: Spanned<String>,
    keytab: Spanned<PathBuf>,
    store: Spanned<PathBuf>,
    #[serde(default)]
    admins: Vec<Spanned<String>>,
    #[serde(default)]
    case_insensitive_realms: Vec<Spanned<String>>,
    #[serde(default)]
    quota: Vec<RawQuota>,
    token_key_file: Option<Spanned<PathBuf>>,
    replay_cache: Option<Spanned<PathBuf>>,
    witness: Option<Spanned<PathBuf>>,
    ready_file: Option<Spanned<PathBuf>>,
    tls: RawTls,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuota {
    owners: Vec<Spanned<String>>,
    parcels: Spanned<u64>,
    create: Option<bool>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    cert: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
    ca: Option<Spanned<PathBuf>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    token_lifetime_s: Option<Spanned<u64>>,
    max_object_bytes: Option<Spanned<u64>>,
    idle_timeout_s: Option<Spanned<u64>>,
    shutdown_s: Option<Spanned<u64>>,
    connections: Option<Spanned<u64>>,
    connections_per_principal: Option<Spanned<u64>>,
    memory_mib: Option<Spanned<u64>>,
}

impl Config {
    /// Reads and checks a configuration file, and the files it names as far as that needs no network and changes
    /// nothing. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// The first mistake.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = text(file)?;
        let config = Self::parse(file, &text)?;
        checks::files(&config, &Place { file, text: &text })?;
        Ok(config)
    }

    /// Checks that the certificate holds now. A server starts without that: clients go by their own clocks.
    ///
    /// # Errors
    /// Since when, or from when on, it does not.
    pub fn check_time(&self) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let place = Place { file: &self.file, text: &text };
        checks::certificate(self, &place, true)
    }

    /// Reads a configuration file, and looks at none of the files it names.
    ///
    /// # Errors
    /// The first mistake.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &text(file)?)
    }

    /// Checks a configuration's text, but none of the files it names.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = Place { file, text };
        let raw: Raw = toml::from_str(text).map_err(|e| place.syntax(&e))?;
        checks::values(&raw, &place)
    }
}

fn text(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|e| {
        ConfigError(format!("{}: {e}; give the path of a readable text file with --config.", file.display()))
    })
}

/// Where in which file a mistake is.
struct Place<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
    }

    /// A mistake in a value.
    fn mistake<T>(
        &self,
        key: &str,
        value: &Spanned<T>,
        what: impl fmt::Display,
        remedy: &str,
    ) -> ConfigError {
        let line = self.line(value.span().start);
        ConfigError(format!("{}, line {line}, {key}: {what}; {remedy}.", self.file.display()))
    }

    /// A mistake in a file that a key names; its line is found again by the key.
    fn in_file(&self, key: &str, what: impl fmt::Display, remedy: &str) -> ConfigError {
        let last = key.rsplit('.').next().unwrap_or(key);
        let line = self.text.lines().position(|line| {
            line.trim_start().strip_prefix(last).is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        let line = line.map(|n| format!(", line {}", n + 1)).unwrap_or_default();
        ConfigError(format!("{}{line}, {key}: {what}; {remedy}.", self.file.display()))
    }

    fn syntax(&self, e: &toml::de::Error) -> ConfigError {
        let message = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let remedy = if message.starts_with("missing field") {
            "add it"
        } else if message.starts_with("unknown field") {
            "remove it or correct its spelling"
        } else if message.starts_with("invalid type") || message.starts_with("invalid value") {
            "write the value as in the example of parcel-server --help"
        } else {
            "correct the line to TOML such as the example of parcel-server --help"
        };
        let line = e.span().map(|span| format!(", line {}", self.line(span.start))).unwrap_or_default();
        ConfigError(format!("{}{line}: {message}; {remedy}.", self.file.display()))
    }
}

#[cfg(test)]
mod tests;
