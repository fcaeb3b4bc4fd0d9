//! The kiosk's whole file system: it lives in memory, from the initrd, and is thrown away at power off.

use crate::config::Config;
use crate::elf;
use crate::error::BuildError;
use crate::modules::{self, Index};
use crate::tree::{Kind, Tree};
use parcel::wire::kiosk::{BUILT_PATH, CA_PATH, CACHE, DHCP_HOOK, KDC_CA_PATH, KEYMAPS_PATH, PATH};
use parcel::wire::users::{self, User};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// List of the modules that `init` loads at every boot, one a line.
pub const MODULES_PATH: &str = "/etc/waystation/modules";

/// The release binaries, and where they go.
pub const BINARIES: [(&str, &str); 4] = [
    ("init", "init"),
    ("cached", "usr/bin/cached"),
    ("kiosk-ui", "usr/bin/kiosk-ui"),
    ("vmm", "usr/bin/vmm"),
];

/// Programs from Debian: package, and path in it.
const PROGRAMS: [(&str, &str); 8] = [
    ("busybox-static", "usr/bin/busybox"),
    ("kmod", "usr/bin/kmod"),
    ("kmod", "usr/sbin/modprobe"),
    ("nftables", "usr/sbin/nft"),
    ("dnsmasq-base", "usr/sbin/dnsmasq"),
    ("cryptsetup-bin", "usr/sbin/cryptsetup"),
    ("e2fsprogs", "usr/sbin/mke2fs"),
    ("e2fsprogs", "etc/mke2fs.conf"),
];

/// Libraries that no program is linked with, but that glibc loads by name: to end threads.
const LOADED_BY_NAME: [&str; 1] = ["libgcc_s.so.1"];

/// What libkrb5 loads by name to prove a password: SPAKE; and PKINIT, for FAST.
const PREAUTH: &str = "krb5/plugins/preauth";

/// Users, each with a group of its own.
const USERS: [User; 7] =
    [users::ROOT, users::CACHED, users::KIOSK_UI, users::VMM, users::DHCP, users::PROBE, users::NOBODY];

/// What the file system is made from.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Folder of the release binaries.
    pub binaries: &'a Path,
    /// Everything in the packages.
    pub packages: &'a Tree,
    /// The kernel package's modules.
    pub index: &'a Index,
    /// The file of keyboard layouts.
    pub keymaps: &'a [u8],
    /// When the image counts as built, in seconds since 1970.
    pub built: u64,
    /// Folder for temporary files.
    pub scratch: &'a Path,
}

/// The file system, and what it lacks.
#[derive(Debug)]
pub struct Image {
    /// The file system.
    pub tree: Tree,
    /// Firmware files that carried modules may ask for and that are not in it, by module.
    pub firmware_absent: BTreeMap<String, Vec<String>>,
    /// Stands for everything in it.
    pub build_id: String,
    /// Its `/etc/os-release`.
    pub os_release: String,
}

/// Builds the file system.
///
/// # Errors
/// When something that it needs is missing or does not run on it.
pub fn build(parts: &Parts<'_>) -> Result<Image, BuildError> {
    let mut image = Tree::default();
    folders(&mut image);
    accounts(&mut image);
    for (package, path) in PROGRAMS {
        if !image.copy_resolved(parts.packages, path) {
            return Err(BuildError::Lacks { package: package.to_owned(), file: path.to_owned() });
        }
    }
    image.link("usr/sbin/mkfs.ext4", "mke2fs");
    for (name, path) in BINARIES {
        image.file(path, 0o755, read_binary(&parts.binaries.join(name))?);
    }
    image.link(DHCP_HOOK, "/init");
    for name in LOADED_BY_NAME {
        let path = elf::library(parts.packages, name);
        if !path.is_some_and(|path| image.copy_resolved(parts.packages, &path)) {
            return Err(BuildError::Lacks { package: "libgcc-s1".to_owned(), file: name.to_owned() });
        }
    }
    let pkinit = parts.config.kdc_ca.is_some().then_some(("krb5-pkinit", "pkinit.so"));
    for (package, name) in [("libkrb5-3", "spake.so")].into_iter().chain(pkinit) {
        let path = format!("usr/lib/x86_64-linux-gnu/{PREAUTH}/{name}");
        if !image.copy_resolved(parts.packages, &path) {
            return Err(BuildError::Lacks { package: package.to_owned(), file: path });
        }
    }
    elf::close(&mut image, parts.packages)?;
    let selection = parts.index.select(&parts.config.modules_extra, &parts.config.modules_load)?;
    modules::install(&mut image, parts.packages, parts.index, &selection, parts.scratch)?;
    let firmware_absent = firmware(&mut image, parts.packages, &selection);
    settings(&mut image, parts.config, &selection.load);
    image.file(KEYMAPS_PATH, 0o644, parts.keymaps);
    image.file(BUILT_PATH, 0o644, format!("{}\n", parts.built).into_bytes());
    let build_id = fingerprint(&image);
    let os_release = os_release(&build_id);
    image.file("etc/os-release", 0o644, os_release.clone().into_bytes());
    Ok(Image { tree: image, firmware_absent, build_id, os_release })
}

/// Checks that every binary is there, before anything is fetched.
///
/// # Errors
/// Naming the one that is not.
pub fn check_binaries(folder: &Path) -> Result<(), BuildError> {
    for (name, _) in BINARIES {
        let path = folder.join(name);
        let bytes = read_binary(&path)?;
        elf::needs(&bytes).map_err(|why| BuildError::Unfit { path: path.display().to_string(), why })?;
    }
    Ok(())
}

fn read_binary(path: &Path) -> Result<Vec<u8>, BuildError> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(BuildError::Binary { path: PathBuf::from(path) })
        }
        read => read.map_err(BuildError::io(path, "reading")),
    }
}

fn folders(image: &mut Tree) {
    for (path, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("etc", 0o755),
        ("var", 0o755),
        ("mnt", 0o755),
        (CACHE, 0o700),
        ("usr/bin", 0o755),
        ("usr/sbin", 0o755),
        ("usr/lib", 0o755),
        ("usr/lib64", 0o755),
    ] {
        image.folder(path, mode);
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        image.link(name, &format!("usr/{name}"));
    }
    image.link("var/run", "/run");
    image.link("var/tmp", "/tmp");
    // init has no standard input and output before it mounts devtmpfs, unless these are here.
    for (path, mode, minor) in [("dev/console", 0o600, 1), ("dev/null", 0o666, 3)] {
        let major = if path == "dev/console" { 5 } else { 1 };
        image.put(path, mode, Kind::CharDevice { major, minor });
    }
}

fn accounts(image: &mut Tree) {
    let mut passwd = String::new();
    let mut group = String::new();
    for User { name, id } in USERS {
        let home = if name == "root" { "/root" } else { "/" };
        passwd.push_str(&format!("{name}:x:{id}:{id}:{name}:{home}:/usr/sbin/nologin\n"));
        let group_name = if name == "nobody" { "nogroup" } else { name };
        group.push_str(&format!("{group_name}:x:{id}:\n"));
    }
    group.push_str(&format!("waystation:x:{}:cached,kiosk-ui,vmm\n", users::GROUP));
    // tty owns terminals; dip is the group that dnsmasq changes to.
    group.push_str("tty:x:5:\ndip:x:30:\n");
    image.file("etc/passwd", 0o644, passwd.into_bytes());
    image.file("etc/group", 0o644, group.into_bytes());
}

/// Firmware files of the configured packages that the carried modules name; Debian has them in `/lib/firmware`. Answers
/// with what no package has, by module.
fn firmware(
    image: &mut Tree,
    packages: &Tree,
    selection: &modules::Selection,
) -> BTreeMap<String, Vec<String>> {
    let mut absent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, modules) in &selection.firmware {
        // A name may hold a pattern: iwlwifi names some of its files so.
        let (stem, pattern) = match name.split_once('*') {
            Some((stem, _)) => (stem, true),
            None => (name.as_str(), false),
        };
        let prefix = format!("usr/lib/firmware/{stem}");
        let found = packages.below(&prefix).filter(|(path, node)| {
            (pattern || path.len() == prefix.len()) && !matches!(node.kind, Kind::Folder)
        });
        // A link into nothing is no file either.
        let copied = found.filter(|(path, _)| image.copy_resolved(packages, path)).count();
        if copied == 0 {
            for module in modules {
                absent.entry(module.clone()).or_default().push(name.clone());
            }
        }
    }
    absent
}

/// The files in `/etc` that follow from the configuration.
fn settings(image: &mut Tree, config: &Config, load: &[String]) {
    let mut put = |path: &str, text: String| image.file(path, 0o644, text.into_bytes());
    let mut json = serde_json::to_string_pretty(&config.kiosk).unwrap_or_default();
    json.push('\n');
    put(PATH, json);
    put(CA_PATH, config.ca.pem.clone());
    if let Some(ca) = &config.kdc_ca {
        put(KDC_CA_PATH, ca.pem.clone());
    }
    put(MODULES_PATH, load.iter().map(|name| format!("{name}\n")).collect());
    put("etc/krb5.conf", crate::krb5::conf(&config.kiosk));
    put("etc/hosts", hosts(config));
    put("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned());
    image.link("etc/resolv.conf", "/run/resolv.conf");
    image.link("etc/mtab", "/proc/self/mounts");
}

fn hosts(config: &Config) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (name, address) in &config.kiosk.hosts {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

/// What the appliance is, in the form of `/etc/os-release`.
fn os_release(build_id: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "ID=waystation\nNAME=\"Waystation\"\nPRETTY_NAME=\"Waystation kiosk {version}\"\nVERSION_ID={version}\nBUILD_ID={build_id}\n"
    )
}

/// Twelve hexadecimal digits that stand for everything in the file system: the same for the same build, and another for
/// another configuration, program or package.
fn fingerprint(image: &Tree) -> String {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (path, node) in image.iter() {
        add(path.as_bytes());
        add(&node.mode.to_le_bytes());
        match &node.kind {
            Kind::File(bytes) => add(bytes),
            Kind::Link(target) => add(target.as_bytes()),
            Kind::Folder => add(b"/"),
            Kind::CharDevice { major, minor } => add(format!("{major}:{minor}").as_bytes()),
        }
    }
    let mut digits = hex::encode(hasher.finalize());
    digits.truncate(12);
    digits
}
