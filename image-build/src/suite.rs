//! The Debian release that the image is made of. Its packages come by a source list, lists and an apt state of their
//! own, below the package cache: what the building machine runs, and where its own packages come from, never matters,
//! so packages of two releases cannot meet in one image.

use crate::error::BuildError;
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The release's name in the archive, in sentences, and its archives unless kiosk.toml names others.
pub const NAME: &str = "trixie";
/// As people call it.
pub const TITLE: &str = "Debian 13";
/// Debian's archive.
pub const MIRROR: &str = "http://deb.debian.org/debian";
/// Debian's archive of security updates.
pub const SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// Where every package of the image can come from. Firmware packages are in the second.
const COMPONENTS: &str = "main non-free-firmware";
/// Debian's own keys; Debian 12's package has the keys of Debian 13, too.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
/// A snapshot's lists are as old as the snapshot, which is its purpose.
const SNAPSHOTS: &str = "snapshot.debian.org";
/// Lists younger than this are not asked for again.
const FRESH: Duration = Duration::from_secs(3600);
/// Lists up to this age are enough when the archive cannot be asked: a week bridges an outage, and nobody should build an
/// image that lacks the security updates of more than a week without knowing it.
pub const USABLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The archives that packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// Debian's archive or a mirror of it.
    pub main: String,
    /// The archive of security updates or a mirror of it.
    pub security: String,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self { main: MIRROR.to_owned(), security: SECURITY_MIRROR.to_owned() }
    }
}

/// How old the lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// There are none that are whole.
    Absent,
    /// They were fetched so long ago.
    Since(Duration),
    /// By the clock of this machine they are yet to be fetched: it was set back, or was wrong then.
    Ahead,
}

/// apt, with nothing of the building machine's but its way to the network (`Acquire::` options, such as a proxy).
#[derive(Debug)]
pub struct Suite {
    folder: PathBuf,
    /// Two builds may share a cache, and apt's lists must not change while one reads them.
    _alone: Flock<fs::File>,
}

impl Suite {
    /// Makes the folders and the source list. Waits while another build uses them.
    ///
    /// # Errors
    /// The folder cannot be written, or this machine lacks Debian's keys.
    pub fn open(cache: &Path, mirrors: &Mirrors) -> Result<Self, BuildError> {
        let keyring =
            KEYRINGS.into_iter().find(|path| Path::new(path).exists()).ok_or(BuildError::Keyring)?;
        // Lists of one archive mean nothing for another.
        let folder = cache.join(format!("{NAME}-{}", tag(mirrors)));
        for part in ["lists/partial", "cache/archives/partial", "state"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(BuildError::io(&part, "making the package cache"))?;
        }
        let alone = lock(&folder).map_err(BuildError::io(&folder, "locking the package lists"))?;
        let suite = Self { folder, _alone: alone };
        suite.put("debian.sources", &sources(mirrors, keyring))?;
        // Programs that the building machine runs after an update, and its choices of versions, are not ours.
        suite.put(
            "apt.conf",
            "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n#clear APT::Default-Release;\n#clear APT::Architectures;\n\
             #clear DPkg::Post-Invoke;\n",
        )?;
        Ok(suite)
    }

    fn put(&self, name: &str, text: &str) -> Result<(), BuildError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(BuildError::io(&path, "writing"))
    }

    /// A program of apt's that sees this suite only, and no package as installed.
    pub fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").env_remove("APT_CONFIG").arg("-c").arg(self.folder.join("apt.conf"));
        for (key, value) in [
            ("Dir::Etc::sourcelist", at("debian.sources")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::State", at("state")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Cache", at("cache")),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures::", "amd64".to_owned()),
            ("APT::Install-Recommends", "0".to_owned()),
            // As root, apt would fetch as the user _apt, who may not write here.
            ("APT::Sandbox::User", "root".to_owned()),
            // Builds lock the whole folder.
            ("Debug::NoLocking", "1".to_owned()),
            ("APT::Get::AllowUnauthenticated", "0".to_owned()),
            ("Acquire::Retries", "5".to_owned()),
            ("Acquire::AllowInsecureRepositories", "0".to_owned()),
            ("Acquire::AllowDowngradeToInsecureRepositories", "0".to_owned()),
        ] {
            command.arg(format!("-o{key}={value}"));
        }
        command
    }

    /// Whether the lists are too old, or not there.
    pub fn is_stale(&self) -> bool {
        !matches!(self.age(), Age::Since(age) if age <= FRESH)
    }

    /// How long ago the lists were fetched whole.
    pub fn age(&self) -> Age {
        let updated = fs::metadata(self.folder.join("updated")).and_then(|metadata| metadata.modified());
        let Ok(updated) = updated else { return Age::Absent };
        SystemTime::now().duration_since(updated).map_or(Age::Ahead, Age::Since)
    }

    /// The lists are whole and new.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn mark_updated(&self) -> Result<(), BuildError> {
        self.put("updated", "")
    }
}

fn lock(folder: &Path) -> io::Result<Flock<fs::File>> {
    let file = fs::File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// A short word for a pair of archives, as part of a folder's name.
fn tag(mirrors: &Mirrors) -> String {
    let text = format!("{}\n{}", mirrors.main, mirrors.security);
    crate::manifest::sha256(text.as_bytes()).chars().take(8).collect()
}

fn sources(mirrors: &Mirrors, keyring: &str) -> String {
    let stanza = |uri: &str, suites: &str| {
        let host = uri.split("//").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let old = if host == SNAPSHOTS { "Check-Valid-Until: no\n" } else { "" };
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {COMPONENTS}\nArchitectures: amd64\n\
             Targets: Packages\nSigned-By: {keyring}\n{old}"
        )
    };
    format!(
        "{}\n{}",
        stanza(&mirrors.main, &format!("{NAME} {NAME}-updates")),
        stanza(&mirrors.security, &format!("{NAME}-security"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_suite_and_its_updates_are_sources() {
        let text = sources(&Mirrors::default(), "/k");
        let suites: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Suites: ")).collect();
        assert_eq!(suites, ["trixie trixie-updates", "trixie-security"]);
        assert_eq!(text.matches("Signed-By: /k\n").count(), 2);
        assert!(!text.contains("Valid-Until"), "old lists are refused: {text}");
    }

    #[test]
    fn a_snapshots_lists_may_be_old_and_nobody_elses() {
        let mirrors = Mirrors {
            main: "https://snapshot.debian.org/archive/debian/20261101T000000Z".to_owned(),
            security: "http://snapshot.debian.org.example.org/debian-security".to_owned(),
        };
        let text = sources(&mirrors, "/k");
        let (main, security) = text.split_once("\n\n").unwrap();
        assert!(main.contains("Check-Valid-Until: no") && !security.contains("Valid-Until"), "{text}");
    }

    /// What this machine's own apt is set to must not reach the image.
    #[test]
    fn the_machines_own_sources_and_choices_do_not_count() {
        let cache = tempfile::tempdir().unwrap();
        let suite = Suite::open(cache.path(), &Mirrors::default()).unwrap();
        let output = suite.command("apt-config").arg("dump").output().unwrap();
        let dump = String::from_utf8(output.stdout).unwrap();
        let value = |key: &str| {
            let values = dump.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(" \""));
            values.map(|rest| rest.trim_end_matches("\";").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(value("Dir::Etc::sourceparts"), ["/dev/null"]);
        assert_eq!(value("APT::Architectures::"), ["amd64"], "{dump}");
        assert!(value("Dir::Etc::sourcelist")[0].starts_with(&cache.path().display().to_string()));
        // The lists stay, empty.
        let hooks =
            dump.lines().filter(|line| line.contains("-Invoke::") || line.contains("-Invoke-Success::"));
        assert_eq!(hooks.filter(|line| line.starts_with("APT::Update")).count(), 0, "{dump}");
        assert!(value("APT::Default-Release").iter().all(String::is_empty), "{dump}");
        let asked = suite.command("apt-get").args(["update", "--print-uris"]).output().unwrap();
        let asked = String::from_utf8(asked.stdout).unwrap();
        let asked: Vec<&str> = asked.lines().filter_map(|line| line.split('\'').nth(1)).collect();
        let ours = [
            "http://deb.debian.org/debian/dists/trixie",
            "http://deb.debian.org/debian-security/dists/trixie-",
        ];
        assert!(asked.iter().all(|uri| ours.iter().any(|ours| uri.starts_with(ours))), "{asked:?}");
        let asked: Vec<&str> = asked.into_iter().filter(|uri| uri.ends_with("/InRelease")).collect();
        assert_eq!(
            asked,
            [
                "http://deb.debian.org/debian/dists/trixie/InRelease",
                "http://deb.debian.org/debian/dists/trixie-updates/InRelease",
                "http://deb.debian.org/debian-security/dists/trixie-security/InRelease",
            ]
        );
    }
}
