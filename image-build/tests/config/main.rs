//! Every mistake in a kiosk.toml has one sentence that names file, line, key and remedy.

use image_build::config::{self, Config};
use parcel::wire::kiosk::{CacheDevice, CacheKind};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

mod documents;
mod mistakes;

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
    put("glued.pem", &format!("\u{feff}{}{}", ca.trim_end(), ca.replace('\n', "\r\n")));
    put("second-cut.pem", &format!("{ca}{}", &ca[..ca.len() / 2]));
    put("csr.pem", &format!("{ca}-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"));
    put("trusted.pem", &ca.replace("CERTIFICATE", "TRUSTED CERTIFICATE"));
    put("key-and-glued.key", &format!("{}{ca_key}", ca.trim_end()));
    put("two.key", &format!("{ca_key}{ca_key}"));
    put("marked.key", &format!("\u{feff}key:\r\n{}", ca_key.replace('\n', "\r\n")));
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

/// What sites really have: realms in mixed case, KDC names with capitals, several realms, Active Directory.
#[test]
fn realms_are_taken_as_they_are() {
    let folder = folder();
    let text = GOOD
        .replace("EXAMPLE.ORG", "Example.Org")
        .replace(
            "kdc = [\"kdc1.example.org:88\"]",
            "kdc = [\"KDC1.Example.org:88\"]\ncase_insensitive = true",
        )
        .replace(
            "[server]",
            "weak_preauth = true\n[realms]\n\"Other.ORG\" = [\"KDC.other.org:88\"]\n\"X.ORG\" = []\n[server]",
        );
    let realm = parse(folder.path(), &text).unwrap().kiosk.realm;
    assert_eq!(realm.name, "Example.Org");
    assert_eq!(realm.kdc, ["kdc1.example.org:88"]);
    assert!(realm.case_insensitive && realm.weak_preauth && !realm.fast);
    assert_eq!(realm.others["Other.ORG"], ["kdc.other.org:88"]);
    assert!(realm.others["X.ORG"].is_empty());
    let plain = parse(folder.path(), GOOD).unwrap();
    assert!(
        !plain.kiosk.realm.weak_preauth,
        "what lets others guess passwords is asked for, never the default"
    );
    let fast = GOOD.replace("[server]", "pkinit_anchors = \"ca.pem\"\n[server]");
    let fast = parse(folder.path(), &fast).unwrap();
    assert!(fast.kiosk.realm.fast && fast.kdc_ca.is_some());
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
    let written = fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    assert_eq!(config.ca.pem, written.replace("\r\n", "\n"));
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
    assert_eq!(config.kiosk.keymap, "us");
    assert!(config.kiosk.session.lock_after_s > 0, "a session that nobody sits at is locked");
    assert_eq!(config.kiosk.cache.device, CacheDevice::Internal);
    assert!(config.mirrors.security.starts_with("http"));
}

/// What others read from kiosk.json.
#[test]
fn keyboard_clock_session_and_the_caches_disk_are_passed_on() {
    let folder = folder();
    let text = GOOD.replace("log = \"ttyS1\"", "keymap = \"ch-fr\"").replace(
        "[cache]\n",
        "[clock]\nntp = [\"ntp.example.org\", \"10.0.0.1\", \"[2001:db8::1]:1123\"]\n\
         [session]\nlock_after_s = 0\nsuspend_after_s = 7200\nlow_battery_percent = 15\n\
         [cache]\ndevice = \"PARTUUID=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\"\n",
    );
    let kiosk = parse(folder.path(), &text).unwrap().kiosk;
    assert_eq!(kiosk.keymap, "ch-fr");
    assert_eq!(kiosk.clock.ntp, ["ntp.example.org", "10.0.0.1", "[2001:db8::1]:1123"]);
    assert_eq!((kiosk.session.lock_after_s, kiosk.session.suspend_after_s), (0, 7200));
    assert_eq!(kiosk.session.low_battery_percent, 15);
    let id = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709".to_owned();
    assert_eq!(kiosk.cache.device, CacheDevice::Partuuid(id));
    let json = serde_json::to_string(&kiosk).unwrap();
    assert_eq!(serde_json::from_str::<parcel::wire::kiosk::Kiosk>(&json).unwrap(), kiosk);
}

/// A stick that brings its own cache partition uses that one.
#[test]
fn an_images_own_cache_partition_is_on_the_boot_disk() {
    let folder = folder();
    let own = GOOD.replace("cache_partition_mib = 0", "cache_partition_mib = 64");
    assert_eq!(parse(folder.path(), &own).unwrap().kiosk.cache.device, CacheDevice::BootDisk);
    let other = own.replace("size_mib = 0", "device = \"internal\"");
    let mistakes = parse(folder.path(), &other).unwrap_err();
    assert!(
        mistakes[0].contains("is not \"boot-disk\", but image.cache_partition_mib makes"),
        "{mistakes:?}"
    );
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

#[test]
fn one_run_names_all_mistakes_in_order() {
    let folder = folder();
    let text = GOOD
        .replace("EXAMPLE.ORG", "EXAMPLE ORG")
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

#[test]
fn every_certificate_of_a_bundle_counts_however_it_was_put_together() {
    let folder = folder();
    let config = parse(folder.path(), &GOOD.replace("\"ca.pem\"", "\"glued.pem\"")).unwrap();
    assert_eq!(config.ca.subjects, ["CN=Test", "CN=Test"]);
    // In the image, programs read it that are less forgiving.
    assert!(config.ca.pem.lines().filter(|line| line.starts_with("-----")).count() == 4, "{}", config.ca.pem);
    let path = folder.path().join("kiosk.toml");
    fs::write(&path, GOOD.replace("\"ca.pem\"", "\"glued.pem\"")).unwrap();
    let run = |more: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_image-build"))
            .args(["check", "--config"])
            .arg(&path)
            .args(more)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    };
    assert!(run(&[]).ends_with("server.ca holds the certificates of 2 CAs:\n  CN=Test\n  CN=Test\n"));
    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(json["ca"], serde_json::json!(["CN=Test", "CN=Test"]));
    // What sbsign reads by itself may have a byte order mark and the lines of Windows.
    let signed = GOOD.replace("[image]", "[secure_boot]\nkey = \"marked.key\"\ncert = \"ca.pem\"\n[image]");
    parse(folder.path(), &signed).unwrap();
}
