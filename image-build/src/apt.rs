//! Debian packages, resolved and fetched by the building machine's apt, which checks Debian's signatures. Nothing is
//! installed: apt is told that no package is, and that its cache is a folder of ours, so root is not needed.

use crate::error::BuildError;
use crate::progress::Progress;
use crate::scratch::Scratch;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    file: String,
    size: u64,
    sha256: String,
}

/// Resolves packages with what they depend on and fetches what the cache lacks. Of the dependencies only libraries and
/// the kernel are kept: the rest (debconf, adduser, udev, …) serves scripts that never run here.
///
/// # Errors
/// When apt does not know or cannot fetch a package.
pub fn fetch(cache: &Path, wanted: &[&str], progress: &Progress) -> Result<Vec<Package>, BuildError> {
    let apt = Apt { cache };
    let state = cache.join("apt");
    fs::create_dir_all(&state).map_err(BuildError::io(&state, "making the package cache"))?;
    let records = progress.step("Asking apt what is needed", || apt.records(&apt.resolve(wanted)?))?;
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
}

impl Apt<'_> {
    fn command(&self, program: &'static str) -> Command {
        let mut command = Command::new(program);
        command
            .env("LC_ALL", "C")
            .env_remove("APT_CONFIG")
            .arg(format!("-oDir::Cache={}", self.cache.join("apt").display()))
            .arg("-oDebug::NoLocking=1")
            .arg("-oDir::State::status=/dev/null")
            .arg("-oAPT::Architecture=amd64")
            .arg("-oAPT::Install-Recommends=0")
            // As root, apt would fetch as the user _apt, who may not write here.
            .arg("-oAPT::Sandbox::User=root");
        command
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
        Ok(kept(&plan, wanted))
    }

    fn records(&self, names: &[String]) -> Result<Vec<Record>, BuildError> {
        let index = self.run("apt-cache", self.command("apt-cache").arg("show").args(names))?;
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        for record in index.split("\n\n").filter_map(parse_record) {
            records.insert(format!("{}={}", record.name, record.version), record);
        }
        names
            .iter()
            .map(|name| {
                records.remove(name).ok_or_else(|| BuildError::Apt {
                    output: format!("its index has no checksum for {name}"),
                    remedy: "run `apt-get update` as root, and build again",
                })
            })
            .collect()
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
                    remedy: "run `apt-get update` as root, and build again; a proxy may also have changed it",
                });
            };
            let place = self.cache.join(&record.file);
            fs::rename(path, &place).map_err(BuildError::io(&place, "keeping a package"))?;
        }
        Ok(())
    }
}

/// Names and versions of a simulated install that the image can use.
fn kept(plan: &str, wanted: &[&str]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for line in plan.lines() {
        // Inst libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])
        let mut words = line.split_whitespace();
        if words.next() != Some("Inst") {
            continue;
        }
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let name = name.split(':').next().unwrap_or(name);
        let library = name.starts_with("lib") && !name.ends_with("-common") && !name.ends_with("-bin");
        let kernel = name
            .strip_prefix("linux-image-")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if library || kernel || wanted.contains(&name) {
            names.insert(format!("{name}={}", version.trim_start_matches('(')));
        }
    }
    names.into_iter().collect()
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
        "see that this machine reaches its Debian mirror, and build again"
    } else {
        "run `apt-get update` as root, and see that the sources hold Debian 12: bookworm, its updates and security"
    };
    let output = if errors.is_empty() { output.status.to_string() } else { errors.join("; ") };
    BuildError::Apt { output, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_keep_what_was_asked_for_libraries_and_the_kernel() {
        let plan = "NOTE: This is only a simulation!\n\
            Inst libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])\n\
            Inst debconf (1.5.82 Debian:12.14/oldstable [all])\n\
            Inst libsemanage-common (3.4-1 Debian:12.14/oldstable [all])\n\
            Inst kmod (30+20221128-1 Debian:12.14/oldstable [amd64]) [linux-image-6.1.0-56-amd64:amd64 ]\n\
            Inst linux-image-6.1.0-56-amd64 (6.1.192-2 Debian-Security:12/oldstable-security [amd64])\n\
            Conf libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])\n";
        assert_eq!(
            kept(plan, &["kmod"]),
            ["kmod=30+20221128-1", "libc6=2.36-9+deb12u14", "linux-image-6.1.0-56-amd64=6.1.192-2"]
        );
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
            "Could not resolve 'a'): see that this machine reaches its Debian mirror, and build again"
        ));
        let gone = said("E: Failed to fetch http://a/b.deb  404  Not Found\n").to_string();
        assert!(gone.contains("404  Not Found): run `apt-get update` as root"), "{gone}");
        assert!(said("").to_string().contains("(exit status: 100): run"));
    }

    #[test]
    fn records_never_leave_the_cache_folder() {
        let stanza = "Package: x\nVersion: 1\nFilename: pool/../../etc/passwd\nSize: 3\nSHA256: 00\n";
        assert_eq!(parse_record(stanza).unwrap().file, "passwd");
        assert_eq!(parse_record("Package: x\nVersion: 1\n"), None);
    }
}
