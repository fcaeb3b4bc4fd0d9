//! IT's `kiosk.toml`: read, checked against the world, and turned into what the image holds.
//!
//! Every mistake is one sentence that names file, line, key and remedy, and one run names all of them.

mod check;
mod files;
mod machine;
mod mistake;
mod reader;

pub use files::Authorities;
pub use mistake::{Mistake, Mistakes, Placed};
pub use reader::KEYS;

use crate::suite::Mirrors;
use parcel::wire::kiosk::{Kiosk, Realm, Wipe};
use reader::{Doc, Found, Section};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What goes into the image as `kiosk.json`.
    pub kiosk: Kiosk,
    /// Certificates of the server's CA.
    pub ca: Authorities,
    /// Certificates of the KDCs' CA, where passwords go through FAST.
    pub kdc_ca: Option<Authorities>,
    /// Words added to the kernel's command line.
    pub cmdline_extra: String,
    /// Kernel modules carried beside the usual ones.
    pub modules_extra: Vec<Placed<String>>,
    /// Kernel modules loaded at every boot.
    pub modules_load: Vec<Placed<String>>,
    /// Debian firmware packages.
    pub firmware: Vec<Placed<String>>,
    /// zstd level of the initrd, 1 to 19.
    pub zstd_level: i32,
    /// Size of the cache partition in `kiosk.img` in MiB; 0: none.
    pub cache_partition_mib: u64,
    /// Where Debian's packages come from.
    pub mirrors: Mirrors,
    /// Signing for Secure Boot.
    pub secure_boot: Option<SecureBoot>,
}

/// What signs the UKI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureBoot {
    /// Private key, PEM.
    pub key: Placed<PathBuf>,
    /// Its certificate, PEM.
    pub cert: PathBuf,
}

/// Reads and checks a `kiosk.toml`.
///
/// # Errors
/// All of its mistakes; also that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    let text = files::read_text(path).map_err(|text| {
        Mistakes(vec![Mistake { file: path.to_owned(), line: 0, key: String::new(), text }])
    })?;
    parse(path, &text)
}

/// Checks the text of a `kiosk.toml` that lies at `path`.
///
/// # Errors
/// All of its mistakes.
pub fn parse(path: &Path, text: &str) -> Result<Config, Mistakes> {
    let doc = Doc::new(path, text);
    let folder = path.parent().unwrap_or(Path::new("."));
    let config = doc.parse().and_then(|table| read(&doc.root(&table), folder));
    let mistakes = doc.into_mistakes();
    match config {
        Some(config) if mistakes.0.is_empty() => Ok(config),
        _ => Err(mistakes),
    }
}

/// `None` where something required is missing or wrong, which then is among the mistakes.
fn read(root: &Section<'_, '_>, folder: &Path) -> Option<Config> {
    root.only_known();
    let name = root.string("name").and_then(|found| checked(root, found, check::kiosk_name));
    let title = root.string("title").and_then(|found| checked(root, found, check::title));

    let section = root.section("realm");
    let realm = read_realm(&section, &root.section("realms"));
    let server = root.section("server");
    server.only_known();
    let server_url = server
        .required_string("url", "\"https://parcels.example.org\"")
        .and_then(|found| checked(&server, found, check::server_url));
    let ca = server
        .required_string("ca", "\"ca.pem\"")
        .and_then(|found| checked(&server, found, |name| files::ca(&files::place(folder, name)?)));

    let kdc_ca = section
        .string("pkinit_anchors")
        .and_then(|found| checked(&section, found, |name| files::ca(&files::place(folder, name)?)));
    let hosts = read_hosts(&root.section("hosts"));
    let console = machine::console(&root.section("console"));
    let clock = machine::clock(&root.section("clock"));
    let session = machine::session(&root.section("session"));
    let image = root.section("image");
    image.only_known();
    let cache = machine::cache(&root.section("cache"), &image);
    let wipe = read_wipe(&root.section("wipe"));

    let boot = root.section("boot");
    boot.only_known();
    let cmdline_extra = boot.string("cmdline_extra").and_then(|found| checked(&boot, found, check::cmdline));

    let modules = root.section("modules");
    modules.only_known();
    let modules_extra = placed_list(&modules, "extra", check::module_name);
    let modules_load = placed_list(&modules, "load", check::module_name);

    let hardware = root.section("hardware");
    hardware.only_known();
    let firmware = placed_list(&hardware, "firmware", check::package_name);

    let zstd_level = image.integer("zstd_level", 1..=19).map_or(9, |found| found.value as i32);
    let cache_partition_mib = machine::cache_partition(&image, cache.kind);
    let mirrors = machine::mirrors(&image);

    let secure_boot = read_secure_boot(&root.section("secure_boot"), folder);

    Some(Config {
        kiosk: Kiosk {
            name,
            title: title.unwrap_or_else(|| "Waystation".to_owned()),
            realm: realm?,
            server_url: server_url?,
            hosts,
            console: console.screen,
            log: console.log,
            keymap: console.keymap,
            clock,
            session,
            cache,
            wipe,
        },
        ca: ca?,
        kdc_ca,
        cmdline_extra: cmdline_extra.unwrap_or_default(),
        modules_extra,
        modules_load,
        firmware,
        zstd_level,
        cache_partition_mib,
        mirrors,
        secure_boot,
    })
}

/// Applies a check; its complaint becomes a mistake at the value's place.
fn checked<T>(
    section: &Section<'_, '_>,
    found: Found<String>,
    check: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match check(&found.value) {
        Ok(value) => Some(value),
        Err(text) => {
            section.wrong(&found, text);
            None
        }
    }
}

fn placed_list(
    section: &Section<'_, '_>,
    key: &str,
    check: fn(&str) -> Result<String, String>,
) -> Vec<Placed<String>> {
    let mut list = Vec::new();
    for found in section.strings(key) {
        let (offset, key) = (found.offset, found.key.clone());
        let value = checked(section, found, check);
        list.extend(value.map(|value| section.placed(value, offset, &key)));
    }
    list
}

fn read_realm(section: &Section<'_, '_>, others: &Section<'_, '_>) -> Option<Realm> {
    section.only_known();
    let name = section
        .required_string("name", "\"EXAMPLE.ORG\"")
        .and_then(|found| checked(section, found, check::realm));
    let kdc_proxy = section.string("kdc_proxy").and_then(|found| checked(section, found, check::kdc_proxy));
    let fast = section.string("pkinit_anchors").is_some();
    let weak_preauth = section.boolean("weak_preauth").filter(|found| found.value);
    if let Some(weak) = &weak_preauth
        && (fast || kdc_proxy.is_some())
    {
        section.wrong(
            weak,
            "is not needed with kdc_proxy or pkinit_anchors, which protect every password: leave it out",
        );
    }
    let case_insensitive = section.boolean("case_insensitive").is_some_and(|found| found.value);
    let kdc = section.strings("kdc").into_iter();
    let kdc = kdc.filter_map(|found| checked(section, found, check::host_and_port)).collect();
    let kpasswd = section.string("kpasswd").and_then(|found| checked(section, found, check::host_and_port));
    let weak_preauth = weak_preauth.is_some();
    let others = read_other_realms(others);
    Some(Realm { name: name?, kdc, kpasswd, kdc_proxy, fast, weak_preauth, case_insensitive, others })
}

/// Realms beside the kiosk's own: each a list of its KDCs.
fn read_other_realms(section: &Section<'_, '_>) -> BTreeMap<String, Vec<String>> {
    let mut realms = BTreeMap::new();
    for found in section.names() {
        let Some(name) = checked(section, found, check::realm) else { continue };
        let kdcs = section.strings(&name).into_iter();
        let kdcs = kdcs.filter_map(|found| checked(section, found, check::host_and_port)).collect();
        realms.insert(name, kdcs);
    }
    realms
}

fn read_hosts(section: &Section<'_, '_>) -> BTreeMap<String, IpAddr> {
    let mut hosts = BTreeMap::new();
    for (name, found) in section.entries() {
        let Some(found) = found else { continue };
        if let Err(text) = check::host_name(&name) {
            section.wrong(&found, text);
        }
        if let Some(address) = checked(section, found, check::address) {
            hosts.insert(name, address);
        }
    }
    hosts
}

fn read_wipe(section: &Section<'_, '_>) -> Wipe {
    section.only_known();
    Wipe {
        discard: section.boolean("discard").is_none_or(|found| found.value),
        power_off_on_failure: section.boolean("power_off_on_failure").is_none_or(|found| found.value),
    }
}

fn read_secure_boot(section: &Section<'_, '_>, folder: &Path) -> Option<SecureBoot> {
    section.only_known();
    if !section.is_present() {
        return None;
    }
    let key = section.required_string("key", "\"db.key\"").and_then(|found| {
        let (offset, key) = (found.offset, found.key.clone());
        let path = checked(section, found, |name| files::private_key(&files::place(folder, name)?))?;
        Some(section.placed(path, offset, &key))
    });
    let cert = section
        .required_string("cert", "\"db.pem\"")
        .and_then(|found| checked(section, found, |name| files::certificate(&files::place(folder, name)?)));
    Some(SecureBoot { key: key?, cert: cert? })
}
