//! Every mistake in a kiosk.toml has one sentence that names file, line, key and remedy.

use image_build::config::{self, Config};
use parcel::wire::kiosk::CacheKind;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const GOOD: &str = r#"name = "front-desk-1"
title = "Library"
[realm]
name = "EXAMPLE.ORG"
kdc = ["kdc1.example.org:88"]
kpasswd = "kdc1.example.org:464"
[server]
url = "https://parcels.example.org"
ca = "ca.pem"
[hosts]
"parcels.example.org" = "192.0.2.10"
[console]
screen = "tty1"
log = "ttyS1"
[cache]
kind = "auto"
size_mib = 0
zstd_level = 3
[wipe]
discard = true
power_off_on_failure = true
[boot]
cmdline_extra = "mitigations=off"
[modules]
extra = ["iwlwifi"]
load = []
[hardware]
firmware = ["firmware-iwlwifi"]
[image]
zstd_level = 9
cache_partition_mib = 0
"#;

/// A folder with the files that the configurations name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let certificate = |ca: bool, until: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Test");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (ca, ca_key) = certificate(true, 2090);
    put("ca.pem", &ca);
    put("ca-and-key.pem", &format!("{ca}{ca_key}"));
    put("leaf.pem", &certificate(false, 2090).0);
    put("old.pem", &certificate(true, 2021).0);
    put("text.pem", "not a certificate\n");
    put("cut.pem", &ca[..ca.len() / 2]);
    put("not-x509.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    put("db.key", &ca_key);
    fs::write(folder.path().join("ca.cer"), pem_body(&ca)).unwrap();
    put(
        "old-locked.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    put("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    folder
}

/// The bytes of a PEM file with one block.
fn pem_body(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

fn parse(folder: &Path, text: &str) -> Result<Config, Vec<String>> {
    let path = folder.join("kiosk.toml");
    config::parse(&path, text).map_err(|mistakes| mistakes.0.iter().map(ToString::to_string).collect())
}

/// What a change to [`GOOD`] is answered with, less the folder's name.
fn complaints(folder: &Path, from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let mistakes = parse(folder, &GOOD.replacen(from, to, 1)).expect_err(to);
    let prefix = format!("{}/", folder.display());
    mistakes.iter().map(|line| line.replace(&prefix, "")).collect()
}

#[test]
fn a_full_configuration_reads_as_written() {
    let folder = folder();
    let config = parse(folder.path(), GOOD).unwrap();
    assert_eq!(config.kiosk.name.as_deref(), Some("front-desk-1"));
    assert_eq!(config.kiosk.realm.kdc, ["kdc1.example.org:88"]);
    assert_eq!(config.kiosk.server_url, "https://parcels.example.org");
    assert_eq!(config.kiosk.hosts["parcels.example.org"].to_string(), "192.0.2.10");
    assert_eq!(config.kiosk.log.as_deref(), Some("ttyS1"));
    assert_eq!(config.kiosk.cache.kind, CacheKind::Auto);
    assert_eq!(config.ca_pem, fs::read(folder.path().join("ca.pem")).unwrap());
    assert_eq!(config.modules_extra[0].value, "iwlwifi");
    assert_eq!(config.firmware[0].value, "firmware-iwlwifi");
    // What only a build can find wrong is named like any other mistake.
    let late = config.firmware[0].mistake("names nothing").to_string();
    assert_eq!(
        late,
        format!("{}:28: hardware.firmware names nothing", folder.path().join("kiosk.toml").display())
    );
}

#[test]
fn a_short_configuration_has_careful_defaults() {
    let folder = folder();
    let text =
        "[realm]\nname = \"EXAMPLE.ORG\"\n[server]\nurl = \"https://p.example.org:8443/\"\nca = \"ca.pem\"\n";
    let config = parse(folder.path(), text).unwrap();
    assert_eq!(config.kiosk.name, None);
    assert_eq!(config.kiosk.server_url, "https://p.example.org:8443");
    assert_eq!(config.kiosk.console, "tty1");
    assert_eq!(config.kiosk.log, None);
    assert!(config.kiosk.wipe.discard && config.kiosk.wipe.power_off_on_failure);
    assert_eq!((config.zstd_level, config.kiosk.cache.zstd_level), (9, 3));
    assert_eq!(config.secure_boot, None);
}

/// URLs that the parser forgives are written as everything after it reads them.
#[test]
fn the_server_url_has_one_spelling() {
    let folder = folder();
    for written in [
        "HTTPS://Parcels.Example.ORG:443/",
        " https://parcels.example.org",
        "https:parcels.example.org",
        "https:\\\\\\\\parcels.example.org",
    ] {
        let text = GOOD.replace("https://parcels.example.org", written);
        let config = parse(folder.path(), &text).unwrap_or_else(|error| panic!("{written}: {error:?}"));
        assert_eq!(config.kiosk.server_url, "https://parcels.example.org", "{written}");
    }
}

#[test]
fn a_file_saved_on_windows_reads_alike() {
    let folder = folder();
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(parse(folder.path(), &text), parse(folder.path(), GOOD));
    let mistakes = parse(folder.path(), &text.replace("[wipe]", "[wiep]")).unwrap_err();
    assert!(mistakes[0].ends_with("kiosk.toml:19: wiep is not a key of kiosk.toml: did you mean wipe?"));
}

#[test]
fn a_partition_that_the_cache_never_uses_is_a_mistake() {
    let folder = folder();
    let text = GOOD
        .replace("kind = \"auto\"", "kind = \"memory\"")
        .replace("cache_partition_mib = 0", "cache_partition_mib = 64");
    let mistakes = parse(folder.path(), &text).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(
        mistakes[0].ends_with(
            "kiosk.toml:31: image.cache_partition_mib makes a partition that cache.kind \"memory\" never uses: \
             write 0, or cache.kind = \"auto\""
        ),
        "{mistakes:?}"
    );
}

/// Every key in the code is in the example and in the documentation's table, and the other way round.
#[test]
fn keys_of_code_example_and_documentation_are_the_same() {
    let example = include_str!("../examples/kiosk.toml");
    let docs = include_str!("../../docs/images.md");
    let mut of_example = Vec::new();
    let mut table = String::new();
    for line in example.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            of_example.push(if table == "hosts." {
                "hosts.\"name\"".to_owned()
            } else {
                format!("{table}{key}")
            });
        }
    }
    let rows = docs.split("## kiosk.toml").nth(1).unwrap().lines().filter(|line| line.starts_with("| `"));
    let of_docs: Vec<String> = rows
        .flat_map(|row| {
            let cell = row.split('|').nth(1).unwrap();
            let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            let table = names[0].split_once('.').map_or("", |(table, _)| table).to_owned();
            names
                .into_iter()
                .map(|name| if name.starts_with('.') { format!("{table}{name}") } else { name.to_owned() })
                .collect::<Vec<_>>()
        })
        .take(of_example.len())
        .collect();
    assert_eq!(of_docs, of_example);
    let known: Vec<String> = config::KEYS
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")))
        .map(|key| key.trim_start_matches('.').to_owned())
        .filter(|key| !config::KEYS.iter().any(|(table, _)| table == key) && key != "hosts")
        .collect();
    let named = |key: &&String| *key != "hosts.\"name\"";
    let mut of_example: Vec<&String> = of_example.iter().filter(named).collect();
    of_example.sort();
    let mut known: Vec<&String> = known.iter().collect();
    known.sort();
    assert_eq!(known, of_example);
}

#[test]
fn the_example_is_right_and_its_comments_are_too() {
    let folder = folder();
    let example = include_str!("../examples/kiosk.toml");
    parse(folder.path(), example).unwrap();
    // Commented-out keys are part of the documentation: they must work when uncommented.
    let keys = |line: &str| {
        line.starts_with("# [secure_boot")
            || line.split_once(" = ").is_some_and(|(key, _)| !key[2..].contains(' '))
    };
    let all: String = example
        .lines()
        .map(|line| if line.starts_with("# ") && keys(line) { &line[2..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .replace("db.pem", "ca.pem");
    let config = parse(folder.path(), &all).unwrap();
    assert_eq!(config.kiosk.name.as_deref(), Some("front-desk-1"));
    assert_eq!(config.kiosk.log.as_deref(), Some("ttyS1"));
    assert_eq!(config.kiosk.hosts.len(), 1);
    assert!(config.secure_boot.is_some());
}

#[test]
fn each_mistake_has_its_sentence() {
    let folder = folder();
    let cases = [
        // Shape.
        (
            "title = \"Library\"",
            "tittle = \"Library\"",
            "kiosk.toml:2: tittle is not a key of kiosk.toml: did you mean title?",
        ),
        ("[wipe]", "[wiep]", "kiosk.toml:19: wiep is not a key of kiosk.toml: did you mean wipe?"),
        (
            "discard = true",
            "colour = true",
            "kiosk.toml:20: wipe.colour is not a key of kiosk.toml: known here are discard, power_off_on_failure",
        ),
        ("title = \"Library\"", "title = Library", "kiosk.toml:2: this is not TOML ("),
        (
            "title = \"Library\"",
            "title = 3",
            "kiosk.toml:2: title is a number where a string in quotes belongs",
        ),
        (
            "discard = true",
            "discard = \"yes\"",
            "kiosk.toml:20: wipe.discard is a string where true or false belongs",
        ),
        (
            "size_mib = 0",
            "size_mib = 1.5",
            "kiosk.toml:17: cache.size_mib is a fraction where a whole number belongs",
        ),
        (
            "kdc = [\"kdc1.example.org:88\"]",
            "kdc = \"kdc1.example.org:88\"",
            "kiosk.toml:5: realm.kdc is a string where a list of strings belongs",
        ),
        (
            "kdc = [\"kdc1.example.org:88\"]",
            "kdc = [88]",
            "kiosk.toml:5: realm.kdc holds a number where a string in quotes belongs",
        ),
        (
            "name = \"EXAMPLE.ORG\"\n",
            "",
            "kiosk.toml:3: realm.name is missing: write name = \"EXAMPLE.ORG\" under [realm]",
        ),
        (
            "url = \"https://parcels.example.org\"\n",
            "",
            "kiosk.toml:7: server.url is missing: write url = \"https://parcels.example.org\" under [server]",
        ),
        ("ca = \"ca.pem\"\n", "", "kiosk.toml:7: server.ca is missing: write ca = \"ca.pem\" under [server]"),
        (
            "[wipe]\n",
            "[wipe]\ntitle = \"Library\"\n",
            "kiosk.toml:20: wipe.title is not a key of kiosk.toml: title belongs at the top, before the first [table]",
        ),
        (
            "[server]\n",
            "[server]\nkdc = []\n",
            "kiosk.toml:8: server.kdc is not a key of kiosk.toml: kdc belongs under [realm]",
        ),
        (
            "size_mib = 0",
            "size_mib = 99_999_999_999_999_999_999",
            "kiosk.toml:17: cache.size_mib is 99999999999999999999: write a number from 0 to 16777216",
        ),
        (
            "title = \"Library\"",
            "title = \"Library\"\ntitle = \"Again\"",
            "kiosk.toml:3: this is not TOML (duplicate key",
        ),
        // Names.
        (
            "front-desk-1",
            "front desk",
            "kiosk.toml:1: name is \"front desk\": write 1 to 63 letters, digits and inner dashes, or leave it out",
        ),
        ("\"Library\"", "\"\"", "kiosk.toml:2: title is empty: write the words"),
        ("\"Library\"", "\"a\\tb\"", "kiosk.toml:2: title holds a control character"),
        (
            "EXAMPLE.ORG",
            "Example.Org",
            "kiosk.toml:4: realm.name is \"Example.Org\", but Kerberos realms are upper case: write \"EXAMPLE.ORG\"",
        ),
        (
            "EXAMPLE.ORG",
            "EXAMPLE ORG",
            "kiosk.toml:4: realm.name is \"EXAMPLE ORG\", not a realm: write something like \"EXAMPLE.ORG\"",
        ),
        (
            "kdc1.example.org:88",
            "kdc1.example.org",
            "kiosk.toml:5: realm.kdc is \"kdc1.example.org\": write host:port, such as \"kdc1.example.org:88\"",
        ),
        (
            "kdc1.example.org:88",
            "kdc1.example.org:0",
            "kiosk.toml:5: realm.kdc is \"kdc1.example.org:0\": write host:port",
        ),
        (
            "kdc1.example.org:88",
            "10.0.0.256:88",
            "kiosk.toml:5: realm.kdc is \"10.0.0.256:88\": write host:port",
        ),
        (
            "kdc1.example.org:464",
            "kdc1.example.org:x",
            "kiosk.toml:6: realm.kpasswd is \"kdc1.example.org:x\": write host:port",
        ),
        // The server.
        (
            "https://parcels",
            "http://parcels",
            "kiosk.toml:8: server.url is http, which would send tickets and tokens in the clear: write \"https://parcels.example.org\"",
        ),
        (
            "https://parcels.example.org",
            "parcels.example.org",
            "kiosk.toml:8: server.url is \"parcels.example.org\", not a URL (relative URL without a base): write one such as",
        ),
        (
            "https://parcels",
            "ftp://parcels",
            "kiosk.toml:8: server.url has the scheme \"ftp\": write one such as",
        ),
        (
            "https://parcels.example.org",
            "https://192.0.2.10",
            "kiosk.toml:8: server.url names an address, but Kerberos tickets are for names: write a host name and, if it is not in DNS, its address under [hosts]",
        ),
        (
            "parcels.example.org\"\nca",
            "parcels.example.org/v1\"\nca",
            "kiosk.toml:8: server.url has something after the host (\"https://parcels.example.org/v1\"): write only https, host and port",
        ),
        (
            "https://parcels",
            "https://me:secret@parcels",
            "kiosk.toml:8: server.url holds a user or password, which would lie open in the image: leave them out",
        ),
        (
            "https://parcels.example.org",
            "https://par_cels.example.org",
            "kiosk.toml:8: server.url is \"https://par_cels.example.org\", whose host is not a host name",
        ),
        (
            "parcels.example.org\"\nca",
            "parcels.example.org:0\"\nca",
            "kiosk.toml:8: server.url has port 0 (\"https://parcels.example.org:0\"), where nothing can listen: write the",
        ),
        // Its CA.
        (
            "ca.pem",
            "gone.pem",
            "kiosk.toml:9: server.ca names gone.pem, which does not exist: write the path of the CA's certificate",
        ),
        (
            "ca.pem",
            ".",
            "kiosk.toml:9: server.ca names ., which is a folder: write the path of the CA's certificate",
        ),
        (
            "ca.pem",
            "text.pem",
            "kiosk.toml:9: server.ca names text.pem, which is not PEM: write the path of a PEM file with a BEGIN CERTIFICATE block",
        ),
        (
            "ca.pem",
            "ca.cer",
            "kiosk.toml:9: server.ca names ca.cer, which is a certificate in DER: write the path of the same in PEM, made by `openssl x509",
        ),
        ("ca.pem", "cut.pem", "kiosk.toml:9: server.ca names cut.pem, which is not PEM: write the path"),
        (
            "ca.pem",
            "not-x509.pem",
            "kiosk.toml:9: server.ca names not-x509.pem, which holds a block that is not a certificate: write the path",
        ),
        (
            "ca.pem",
            "ca-and-key.pem",
            "kiosk.toml:9: server.ca names ca-and-key.pem, which holds a private key that would lie open in the image: name a file with the certificate only",
        ),
        (
            "ca.pem",
            "leaf.pem",
            "kiosk.toml:9: server.ca names leaf.pem, whose certificate \"CN=Test\" is not a CA's: name the certificate that signed the server's",
        ),
        (
            "ca.pem",
            "old.pem",
            "kiosk.toml:9: server.ca names old.pem, whose certificate \"CN=Test\" holds only from",
        ),
        // Hosts and terminals.
        (
            "192.0.2.10",
            "192.0.2",
            "kiosk.toml:11: hosts.parcels.example.org is \"192.0.2\", not an IP address: write one such as \"192.0.2.10\"",
        ),
        (
            "\"parcels.example.org\" =",
            "\"Parcels.example.org\" =",
            "kiosk.toml:11: hosts.Parcels.example.org names \"Parcels.example.org\", not a host name: write lower-case labels",
        ),
        (
            "\"parcels.example.org\" =",
            "parcels.example.org =",
            "kiosk.toml:11: hosts.parcels is a table, as dots make it: write the whole name in quotes",
        ),
        (
            "\"192.0.2.10\"",
            "10",
            "kiosk.toml:11: hosts.parcels.example.org is a number where a string in quotes belongs",
        ),
        (
            "tty1",
            "/dev/tty1",
            "kiosk.toml:13: console.screen is \"/dev/tty1\", not a terminal: write tty1 for screen and keyboard or ttyS0 for the first serial port",
        ),
        // Nobody would see it: only the first is in front, and switching is locked.
        ("tty1", "tty2", "kiosk.toml:13: console.screen is \"tty2\", not a terminal"),
        ("tty1", "ttyS32", "kiosk.toml:13: console.screen is \"ttyS32\", not a terminal"),
        (
            "ttyS1",
            "tty1",
            "kiosk.toml:14: console.log is tty1, where the login screen is: name another terminal or leave it out",
        ),
        // Cache, image.
        (
            "\"auto\"",
            "\"ssd\"",
            "kiosk.toml:16: cache.kind is \"ssd\": write \"memory\", \"disk\" or \"auto\"",
        ),
        (
            "size_mib = 0",
            "size_mib = 5",
            "kiosk.toml:17: cache.size_mib is 5, too little to hold a session: write 0 (half of the memory) or at least 64",
        ),
        ("size_mib = 0", "size_mib = -1", "kiosk.toml:17: cache.size_mib is -1: write a number from 0 to"),
        (
            "kind = \"auto\"\nsize_mib = 0",
            "kind = \"disk\"\nsize_mib = 512",
            "kiosk.toml:17: cache.size_mib limits a cache in memory, but cache.kind is \"disk\": leave it out, the partition's size counts",
        ),
        (
            "zstd_level = 3",
            "zstd_level = 20",
            "kiosk.toml:18: cache.zstd_level is 20: write a number from 1 to 19",
        ),
        (
            "zstd_level = 9",
            "zstd_level = 0",
            "kiosk.toml:30: image.zstd_level is 0: write a number from 1 to 19",
        ),
        (
            "cache_partition_mib = 0",
            "cache_partition_mib = 10",
            "kiosk.toml:31: image.cache_partition_mib is 10, too little for a cache: write 0 (none) or at least 64",
        ),
        (
            "cache_partition_mib = 0",
            "cache_partition_mib = 65537",
            "kiosk.toml:31: image.cache_partition_mib is 65537: write a number from 0 to 65536",
        ),
        // Boot.
        (
            "mitigations=off",
            "console=ttyS0",
            "kiosk.toml:23: boot.cmdline_extra sets console: name the terminal under [console] instead",
        ),
        (
            "mitigations=off",
            "init=/bin/sh",
            "kiosk.toml:23: boot.cmdline_extra sets init, which the image itself decides: leave it out",
        ),
        (
            "mitigations=off",
            "init_on_free=0",
            "kiosk.toml:23: boot.cmdline_extra sets init_on_free, which the wipe rests on: leave it out",
        ),
        (
            "mitigations=off",
            "init-on-free=0",
            "kiosk.toml:23: boot.cmdline_extra sets init_on_free, which the wipe rests on: leave it out",
        ),
        (
            "mitigations=off",
            "\\\"init_on_free=0\\\"",
            "kiosk.toml:23: boot.cmdline_extra holds a quotation mark: no word that a kiosk needs has one, leave it out",
        ),
        (
            "mitigations=off",
            "lockdown=none",
            "kiosk.toml:23: boot.cmdline_extra sets lockdown, which would open kernel memory, where the cache's key is: leave it out",
        ),
        (
            "mitigations=off",
            "sysctl.kernel/sysrq=1",
            "kiosk.toml:23: boot.cmdline_extra sets sysctl.kernel/sysrq, which would let anybody at the keyboard command the kernel: leave it out",
        ),
        (
            "mitigations=off",
            "resume=/dev/sda2",
            "kiosk.toml:23: boot.cmdline_extra sets resume, which would write memory to a disk: leave it out",
        ),
        (
            "mitigations=off",
            "quiet ; shell",
            "kiosk.toml:23: boot.cmdline_extra holds the word \";\", which is none for the kernel or ends the line for iPXE: leave it out",
        ),
        (
            "mitigations=off",
            "a ${net0/mac}",
            "kiosk.toml:23: boot.cmdline_extra holds ${, || or &&, which mean something to iPXE: leave them out",
        ),
        (
            "mitigations=off",
            "caf\u{e9}",
            "kiosk.toml:23: boot.cmdline_extra holds 'é': write printable ASCII on one line",
        ),
        (
            "[\"iwlwifi\"]",
            "[\"iwlwifi.ko\"]",
            "kiosk.toml:25: modules.extra holds \"iwlwifi.ko\": write a kernel module's bare name, such as \"iwlwifi\"",
        ),
        (
            "load = []",
            "load = [\"a b\"]",
            "kiosk.toml:26: modules.load holds \"a b\": write a kernel module's bare name",
        ),
        (
            "firmware-iwlwifi",
            "firmware iwlwifi",
            "kiosk.toml:28: hardware.firmware holds \"firmware iwlwifi\": write a Debian package's name, such as \"firmware-iwlwifi\"",
        ),
        // Secure Boot.
        (
            "[image]",
            "[secure_boot]\nkey = \"db.key\"\n[image]",
            "kiosk.toml:29: secure_boot.cert is missing: write cert = \"db.pem\" under [secure_boot]",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"locked.key\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names locked.key, which needs a passphrase: write the path of a key without one, readable by you only",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"old-locked.key\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names old-locked.key, which needs a passphrase: write the path of a key without one",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"ca.pem\"\ncert = \"ca.pem\"\n[image]",
            "kiosk.toml:30: secure_boot.key names ca.pem, which holds no private key in PEM: write the path of the signing key",
        ),
        (
            "[image]",
            "[secure_boot]\nkey = \"db.key\"\ncert = \"db.key\"\n[image]",
            "kiosk.toml:31: secure_boot.cert names db.key, which is not a certificate in PEM: write the path of the key's certificate",
        ),
    ];
    for (from, to, expected) in cases {
        let found = complaints(folder.path(), from, to);
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert!(found[0].starts_with(expected), "expected {expected}\n   found {}", found[0]);
        assert!(!found[0].contains('\n'), "{found:?}");
    }
}

#[test]
fn one_run_names_all_mistakes_in_order() {
    let folder = folder();
    let text = GOOD
        .replace("EXAMPLE.ORG", "example.org")
        .replace("zstd_level = 3", "zstd_level = 99")
        .replace("https:", "http:");
    let lines: Vec<String> = parse(folder.path(), &text).unwrap_err();
    let places: Vec<&str> =
        lines.iter().filter_map(|line| line.split(": ").next()?.rsplit(':').next()).collect();
    assert_eq!(places, ["4", "8", "18"], "{lines:#?}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = folder();
    let gone = folder.path().join("gone.toml");
    let error = config::load(&gone).unwrap_err().to_string();
    assert_eq!(error, format!("{}: does not exist: name a kiosk.toml with --config", gone.display()));
    let binary = folder.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    let error = config::load(&binary).unwrap_err().to_string();
    assert_eq!(error, format!("{}: is not UTF-8 text: save it as UTF-8", binary.display()));
}
