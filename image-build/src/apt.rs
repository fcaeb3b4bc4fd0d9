//! Debian packages, resolved and fetched by the building machine's apt from the image's own suite; apt checks Debian's
//! signatures. Nothing is installed: apt is told that no package is, and that its folders are ours, so root is not
//! needed.

use crate::error::BuildError;
use crate::progress::Progress;
use crate::scratch::Scratch;
use crate::suite::{Age, Mirrors, Suite, USABLE};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A package at a version, in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of the package file, as Debian's signed index has it.
    pub sha256: String,
    /// The package file.
    pub path: PathBuf,
}

/// What apt's index says of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: String,
    version: String,
    section: String,
    file: String,
    size: u64,
    sha256: String,
}

/// Resolves packages with what they depend on and fetches what the cache lacks. Of the dependencies only libraries and
/// the kernel are kept: the rest (debconf, adduser, udev, …) serves scripts that never run here.
///
/// # Errors
/// When apt does not know or cannot fetch a package.
pub fn fetch(
    cache: &Path,
    mirrors: &Mirrors,
    wanted: &[&str],
    progress: &Progress,
) -> Result<Vec<Package>, BuildError> {
    let apt = Apt { cache, suite: Suite::open(cache, mirrors)? };
    if apt.suite.is_stale() {
        progress.step("Asking the Debian archive what is new", || apt.update(progress))?;
    }
    let records =
        progress.step("Asking apt what is needed", || apt.records(&apt.resolve(wanted)?, wanted))?;
    let missing: Vec<&Record> = progress.step("Checking the packages that are kept", || {
        records.iter().filter(|record| !is_cached(cache, record)).collect()
    });
    if !missing.is_empty() {
        apt.download(&missing, progress)?;
    }
    Ok(records
        .into_iter()
        .map(|record| Package {
            path: cache.join(&record.file),
            name: record.name,
            version: record.version,
            sha256: record.sha256,
        })
        .collect())
}

fn is_cached(cache: &Path, record: &Record) -> bool {
    let path = cache.join(&record.file);
    let right_size = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == record.size);
    right_size && digest(&path).is_some_and(|found| found == record.sha256)
}

fn digest(path: &Path) -> Option<String> {
    Some(hex::encode(Sha256::digest(fs::read(path).ok()?)))
}

struct Apt<'a> {
    cache: &'a Path,
    suite: Suite,
}

impl Apt<'_> {
    fn command(&self, program: &'static str) -> Command {
        self.suite.command(program)
    }

    /// Fetches the lists. An archive that is away is no obstacle while there are lists that are not too old.
    fn update(&self, progress: &Progress) -> Result<(), BuildError> {
        let mut command = self.command("apt-get");
        // Without this, apt-get takes an archive that it cannot reach for a warning.
        command.args(["-oAPT::Update::Error-Mode=any", "update", "--quiet"]);
        match (self.run("apt-get", &mut command), self.suite.age()) {
            (Ok(_), _) => self.suite.mark_updated(),
            (Err(BuildError::Apt { output, remedy }), Age::Since(age)) => {
                progress.note(&without_archive(output, remedy, age)?);
                Ok(())
            }
            (Err(BuildError::Apt { output, remedy }), Age::Ahead) => {
                let output = format!(
                    "{output}; the package lists of the last build are not used, because by this machine's clock they are \
                     from the future: set the clock if it is wrong"
                );
                Err(BuildError::Apt { output, remedy })
            }
            (Err(error), _) => Err(error),
        }
    }

    fn run(&self, program: &'static str, command: &mut Command) -> Result<String, BuildError> {
        let output = command.output().map_err(|source| BuildError::tool(program, "apt", source))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(complaint(&output))
    }

    /// `name=version` of everything to fetch.
    fn resolve(&self, wanted: &[&str]) -> Result<Vec<String>, BuildError> {
        let plan = self.run(
            "apt-get",
            self.command("apt-get").args(["install", "--simulate", "--assume-yes", "--quiet"]).args(wanted),
        )?;
        Ok(planned(&plan))
    }

    /// What the index says of the packages that the image can use.
    fn records(&self, plan: &[String], wanted: &[&str]) -> Result<Vec<Record>, BuildError> {
        let index = self.run("apt-cache", self.command("apt-cache").arg("show").args(plan))?;
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        for record in index.split("\n\n").filter_map(parse_record) {
            records.insert(format!("{}={}", record.name, record.version), record);
        }
        let mut kept = Vec::new();
        for name in plan {
            let record = records.remove(name).ok_or_else(|| BuildError::Apt {
                output: format!("its index has no checksum for {name}"),
                remedy: AGAIN,
            })?;
            if is_useful(&record, wanted) {
                kept.push(record);
            }
        }
        Ok(kept)
    }

    /// Fetches into a folder beside the cache's files and moves what is whole, so that builds may share a cache.
    fn download(&self, missing: &[&Record], progress: &Progress) -> Result<(), BuildError> {
        let total = missing.iter().map(|record| record.size).sum();
        let doing = format!("Fetching {} Debian packages", missing.len());
        let folder =
            Scratch::new_in(self.cache, ".fetch-").map_err(BuildError::io(self.cache, "making a folder"))?;
        let watched = folder.path().to_owned();
        let bytes = move || {
            let entries = fs::read_dir(&watched).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
        };
        progress.watch(&doing, total, bytes, || {
            let names = missing.iter().map(|record| format!("{}={}", record.name, record.version));
            let mut command = self.command("apt-get");
            command.args(["download", "--quiet"]).args(names).current_dir(folder.path());
            self.run("apt-get", &mut command)
        })?;
        let mut fetched: BTreeMap<String, PathBuf> = BTreeMap::new();
        for entry in fs::read_dir(folder.path()).map_err(BuildError::io(folder.path(), "reading"))?.flatten()
        {
            if let Some(digest) = digest(&entry.path()) {
                fetched.insert(digest, entry.path());
            }
        }
        for record in missing {
            let Some(path) = fetched.get(&record.sha256) else {
                return Err(BuildError::Apt {
                    output: format!("it fetched {} but not with the checksum of its index", record.file),
                    remedy: AGAIN,
                });
            };
            let place = self.cache.join(&record.file);
            fs::rename(path, &place).map_err(BuildError::io(&place, "keeping a package"))?;
        }
        Ok(())
    }
}

/// The warning with which lists of this age are used, although the archive cannot be asked.
fn without_archive(output: String, remedy: &'static str, age: Duration) -> Result<String, BuildError> {
    // Rounded up: what is older than the limit reads as older.
    let hours = age.as_secs().div_ceil(3600);
    let old = match hours {
        _ if age < Duration::from_secs(3600) => "less than an hour".to_owned(),
        0..=1 => "1 hour".to_owned(),
        2..48 => format!("{hours} hours"),
        _ => format!("{} days", hours.div_ceil(24)),
    };
    let days = USABLE.as_secs() / (24 * 3600);
    if age > USABLE {
        let output = format!(
            "{output}; the package lists of the last build are {old} old, and without the archive only lists of at most \
             {days} days are used"
        );
        return Err(BuildError::Apt { output, remedy });
    }
    Ok(format!(
        "Warning: the Debian archive could not be asked ({output}). This build uses package lists that are {old} old and \
         lacks the updates since; lists of more than {days} days are not used."
    ))
}

/// What to do when the archive and its lists do not fit together: a mirror is being renewed, or something is between.
const AGAIN: &str =
    "build again in a while; a mirror that is being renewed, or a proxy, may also be the cause";

/// Names and versions of a simulated install: `name=version`.
fn planned(plan: &str) -> Vec<String> {
    let mut names = BTreeSet::new();
    for line in plan.lines() {
        // Inst libc6 (2.41-12+deb13u5 Debian:13.8/stable [amd64])
        let mut words = line.split_whitespace();
        if words.next() != Some("Inst") {
            continue;
        }
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let name = name.split(':').next().unwrap_or(name);
        names.insert(format!("{name}={}", version.trim_start_matches('(')));
    }
    names.into_iter().collect()
}

/// Whether the image can use anything of a package: what was asked for, the libraries it needs, and the kernel behind
/// its metapackage.
fn is_useful(record: &Record, wanted: &[&str]) -> bool {
    let kernel = record
        .name
        .strip_prefix("linux-image-")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    record.section.rsplit('/').next() == Some("libs") || kernel || wanted.contains(&record.name.as_str())
}

fn parse_record(stanza: &str) -> Option<Record> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    // Only the last part: a path out of the cache folder must not come from an index.
    let file = field("Filename")?.rsplit('/').next()?.to_owned();
    Some(Record {
        name: field("Package")?,
        version: field("Version")?,
        section: field("Section").unwrap_or_default(),
        file,
        size: field("Size")?.parse().ok()?,
        sha256: field("SHA256")?,
    })
}

fn complaint(output: &Output) -> BuildError {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    let unknown = |line: &&str| {
        let quoted = || line.strip_prefix("Package '")?.strip_suffix("' has no installation candidate");
        line.strip_prefix("Unable to locate package ").or_else(quoted).map(str::to_owned)
    };
    if let Some(name) = errors.iter().find_map(unknown) {
        return BuildError::NoPackage(name);
    }
    let far =
        ["Could not resolve", "Could not connect", "Unable to connect", "Temporary failure", "timed out"];
    let unreachable = errors.iter().any(|line| far.iter().any(|words| line.contains(words)));
    let remedy = if unreachable {
        "see that this machine reaches the Debian archive, or name a mirror that it reaches under image.mirror and \
         image.security_mirror"
    } else {
        AGAIN
    };
    let output = if errors.is_empty() { output.status.to_string() } else { errors.join("; ") };
    BuildError::Apt { output, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read() {
        let plan = "NOTE: This is only a simulation!\n\
            Inst libc6 (2.41-12+deb13u5 Debian:13.8/stable [amd64]) []\n\
            Inst kmod (34.2-2 Debian:13.8/stable [amd64]) [linux-image-6.12.118+deb13-amd64:amd64 ]\n\
            Inst zlib1g:amd64 (1:1.3.1-1 Debian:13.8/stable, Debian-Security:13/stable-security [amd64])\n\
            Conf libc6 (2.41-12+deb13u5 Debian:13.8/stable [amd64])\n";
        assert_eq!(planned(plan), ["kmod=34.2-2", "libc6=2.41-12+deb13u5", "zlib1g=1:1.3.1-1"]);
    }

    #[test]
    fn libraries_the_kernel_and_what_was_asked_for_are_kept() {
        let kept = |name: &str, section: &str| {
            let stanza =
                format!("Package: {name}\nVersion: 1\nSection: {section}\nFilename: x\nSize: 1\nSHA256: 0\n");
            is_useful(&parse_record(&stanza).unwrap(), &["kmod"])
        };
        assert!(kept("zlib1g", "libs") && kept("libssl3t64", "libs") && kept("x", "non-free-firmware/libs"));
        assert!(kept("linux-image-6.12.118+deb13-amd64", "kernel") && kept("kmod", "admin"));
        for (name, section) in
            [("debconf", "admin"), ("linux-image-extra", "kernel"), ("libpam-modules", "admin")]
        {
            assert!(!kept(name, section), "{name}");
        }
    }

    #[test]
    fn complaints_say_what_to_do() {
        use std::os::unix::process::ExitStatusExt as _;
        let said = |stderr: &str| {
            let status = std::process::ExitStatus::from_raw(100 << 8);
            complaint(&Output { status, stdout: Vec::new(), stderr: stderr.into() })
        };
        for line in ["E: Unable to locate package x", "E: Package 'x' has no installation candidate"] {
            assert!(matches!(said(line), BuildError::NoPackage(name) if name == "x"), "{line}");
        }
        let away = said("W: x\nE: Failed to fetch http://a/b.deb  Could not resolve 'a'\n").to_string();
        assert!(away.ends_with(
            "Could not resolve 'a'): see that this machine reaches the Debian archive, or name a mirror that it \
             reaches under image.mirror and image.security_mirror"
        ));
        let gone = said("E: Failed to fetch http://a/b.deb  404  Not Found\n").to_string();
        assert!(gone.contains("404  Not Found): build again in a while"), "{gone}");
        assert!(said("").to_string().contains("(exit status: 100): build again"));
    }

    #[test]
    fn without_the_archive_lists_of_a_week_are_used_and_older_ones_end_the_build() {
        const HOUR: Duration = Duration::from_secs(3600);
        let cache = tempfile::tempdir().unwrap();
        let away = Mirrors { main: "file:///absent".to_owned(), security: "file:///absent".to_owned() };
        let apt = Apt { cache: cache.path(), suite: Suite::open(cache.path(), &away).unwrap() };
        let update = || apt.update(&Progress::new(true)).map_err(|error| error.to_string());
        assert!(update().unwrap_err().contains("absent"), "there are no lists");
        apt.suite.mark_updated().unwrap();
        let folder = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
        let marker = fs::File::options().write(true).open(folder.join("updated")).unwrap();
        let fetched = |age: Duration| marker.set_modified(std::time::SystemTime::now() - age).unwrap();
        fetched(USABLE - HOUR);
        assert_eq!(update(), Ok(()));
        fetched(USABLE + HOUR);
        let said = update().unwrap_err();
        assert!(said.contains("are 8 days old") && said.contains("at most 7 days are used): "), "{said}");
        // A clock that was set back does not tell their age.
        marker.set_modified(std::time::SystemTime::now() + 24 * HOUR).unwrap();
        let said = update().unwrap_err();
        assert!(
            said.contains("absent") && said.contains("are from the future: set the clock if it is wrong"),
            "{said}"
        );

        let warning = |age| without_archive("it is away".to_owned(), AGAIN, age).unwrap();
        assert!(warning(USABLE).contains("(it is away). This build uses package lists that are 7 days old"));
        for (age, words) in [
            (HOUR / 2, "less than an hour old"),
            (HOUR, " 1 hour old"),
            (47 * HOUR, "47 hours old"),
            (49 * HOUR, " 3 days old"),
        ] {
            assert!(warning(age).contains(words), "{}", warning(age));
        }
    }

    #[test]
    fn records_never_leave_the_cache_folder() {
        let stanza = "Package: x\nVersion: 1\nFilename: pool/../../etc/passwd\nSize: 3\nSHA256: 00\n";
        assert_eq!(parse_record(stanza).unwrap().file, "passwd");
        assert_eq!(parse_record("Package: x\nVersion: 1\n"), None);
    }
}
