//! Whole builds from real Debian packages, by the program as IT runs it. Needs apt's lists (`apt-get update`) and, the
//! first time, its sources; packages are kept in the user's cache folder between runs.

use firmware::pe::Image;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const CONFIG: &str = r#"title = "Test"
[realm]
name = "WAYSTATION.TEST"
kdc = ["10.0.2.2:88"]
[server]
url = "https://parcels.waystation.test:8443"
ca = "ca.pem"
[hosts]
"parcels.waystation.test" = "10.0.2.2"
[console]
screen = "ttyS0"
[boot]
cmdline_extra = "mitigations=off"
[modules]
extra = ["ath9k_htc"]
load = ["nbd"]
[hardware]
firmware = ["firmware-ath9k-htc"]
[image]
zstd_level = 1
"#;

/// Folder with a configuration, its CA, and stand-ins for the binaries: any program of this machine will do, since
/// nothing is run here.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        fs::write(folder.path().join("kiosk.toml"), CONFIG).unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        for name in ["init", "cached", "kiosk-ui", "vmm"] {
            fs::copy("/bin/true", folder.path().join("bin").join(name)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, out: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-build"));
        command.arg("build").arg("--json");
        command.arg("--config").arg(self.path("kiosk.toml"));
        command.arg("--binaries").arg(self.path("bin"));
        command.arg("--out").arg(self.path(out));
        command
    }

    /// Names in the folder, hidden ones too.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Builds, and gives the manifest that was printed.
fn build(site: &Site, out: &str, more: &[&str]) -> Value {
    let output = site.command(out).args(more).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One build, looked at from all sides: a build takes seconds, and each test may run in a process of its own.
#[test]
fn a_build_is_what_it_should_be() {
    let site = Site::new();
    let manifest = build(&site, "out", &[]);
    the_initrd_holds_what_the_kiosk_runs(&site, &manifest);
    its_settings_follow_from_the_configuration(&site);
    stick_and_network_boot_the_same(&site, &manifest);
    the_manifest_names_packages_and_files(&site, &manifest);
    another_place_builds_the_same(&site, &manifest);
}

/// The initrd's listing by zstd and cpio.
fn listing(initrd: &Path) -> String {
    let script = format!("zstd -dc '{}' | cpio -itv --numeric-uid-gid", initrd.display());
    let output = Command::new("sh").args(["-c", &script]).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A file of the initrd; of one that is no text, only its being there counts.
fn file(initrd: &Path, path: &str) -> String {
    let script = format!("zstd -dc '{}' | cpio -i --quiet --to-stdout {path}", initrd.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn the_initrd_holds_what_the_kiosk_runs(site: &Site, manifest: &Value) {
    let listing = listing(&site.path("out/netboot/initrd"));
    let release = manifest["kernel"].as_str().unwrap();
    for path in [
        "init",
        "usr/bin/cached",
        "usr/bin/kiosk-ui",
        "usr/bin/vmm",
        "usr/bin/busybox",
        "usr/bin/kmod",
        "usr/sbin/nft",
        "usr/sbin/dnsmasq",
        "usr/sbin/cryptsetup",
        "usr/sbin/mke2fs",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
        "etc/krb5.conf",
        "etc/mke2fs.conf",
        "etc/waystation/kiosk.json",
        "etc/waystation/ca.pem",
        "etc/waystation/modules",
        "etc/waystation/keymaps",
        "etc/waystation/built",
        &format!("usr/lib/modules/{release}/modules.dep.bin"),
        &format!("usr/lib/modules/{release}/kernel/arch/x86/kvm/kvm-amd.ko"),
        &format!("usr/lib/modules/{release}/kernel/drivers/block/nbd.ko"),
        // What a module named in the configuration needs comes with it: other modules, and firmware.
        &format!("usr/lib/modules/{release}/kernel/drivers/net/wireless/ath/ath9k/ath9k_htc.ko"),
        &format!("usr/lib/modules/{release}/kernel/net/mac80211/mac80211.ko"),
        "usr/lib/firmware/ath9k_htc/htc_9271-1.4.0.fw",
    ] {
        assert!(
            listing.lines().any(|line| line.ends_with(&format!(" {path}"))),
            "{path} is not in\n{listing}"
        );
    }
    assert!(listing.contains("crw-------   1 0        0          5,   1 "), "{listing}");
    only_what_must_be_is_open(&listing);
    let modprobe = listing.lines().find_map(|line| line.split("usr/sbin/modprobe -> ").nth(1));
    assert!(modprobe.is_some_and(|target| target.ends_with("bin/kmod")), "{listing}");
    // A loader at the place that programs name, through the merged folders.
    assert!(
        listing.contains("lib64 -> usr/lib64") && listing.contains("usr/lib64/ld-linux-x86-64.so.2"),
        "{listing}"
    );
}

/// Nobody but root can write anything but /tmp and /dev/null, nothing changes the user who runs it, and all is root's.
fn only_what_must_be_is_open(listing: &str) {
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (mode, path) = (words[0], line.rsplit(' ').next().unwrap());
        assert_eq!(words[2..4], ["0", "0"], "{line}");
        let open = mode.as_bytes()[5] == b'w' || mode.as_bytes()[8] == b'w';
        let must = mode.starts_with('l') || ["tmp", "dev/null"].contains(&path);
        assert!(!open || must, "{line}");
        assert!(!mode.contains(['s', 'S']) && (!mode.contains(['t', 'T']) || path == "tmp"), "{line}");
    }
}

fn its_settings_follow_from_the_configuration(site: &Site) {
    let initrd = site.path("out/netboot/initrd");
    let kiosk: parcel::wire::kiosk::Kiosk =
        serde_json::from_str(&file(&initrd, "etc/waystation/kiosk.json")).unwrap();
    assert_eq!(kiosk.server_url, "https://parcels.waystation.test:8443");
    let krb5 = file(&initrd, "etc/krb5.conf");
    for line in [
        "default_realm = WAYSTATION.TEST",
        "dns_lookup_kdc = false",
        "permitted_enctypes = aes256-cts-hmac-sha384-192 ",
        "rdns = false",
        "parcels.waystation.test = WAYSTATION.TEST",
    ] {
        assert!(krb5.contains(line), "{krb5}");
    }
    // libkrb5 loads it by name, and without it the password would have no way that nobody can guess from.
    let spake = "usr/lib/x86_64-linux-gnu/krb5/plugins/preauth/spake.so";
    assert!(!file(&initrd, spake).is_empty());
    assert!(file(&initrd, "etc/hosts").ends_with("10.0.2.2 parcels.waystation.test\n"));
    assert!(file(&initrd, "etc/group").contains("waystation:x:100:cached,kiosk-ui,vmm\n"));
    // A kiosk's clock is never before this: it follows from the packages, which are newer than Debian 13 and not of the future.
    let built: u64 = file(&initrd, "etc/waystation/built").trim().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((1_750_000_000..=now).contains(&built), "{built}");
    let modules = file(&initrd, "etc/waystation/modules");
    assert!(modules.lines().any(|line| line == "tun") && modules.ends_with("nbd\n"), "{modules}");
    assert_eq!(file(&initrd, "etc/waystation/ca.pem"), fs::read_to_string(site.path("ca.pem")).unwrap());
}

fn stick_and_network_boot_the_same(site: &Site, manifest: &Value) {
    let efi = fs::read(site.path("out/kiosk.efi")).unwrap();
    let image = Image::parse(&efi).unwrap();
    let initrd = fs::read(site.path("out/netboot/initrd")).unwrap();
    assert!(image.section(".initrd") == Some(&initrd[..]));
    let kernel = fs::read(site.path("out/netboot/vmlinuz")).unwrap();
    assert!(image.section(".linux") == Some(&kernel[..]));
    let cmdline = std::str::from_utf8(image.section(".cmdline").unwrap()).unwrap();
    assert_eq!(Some(cmdline), manifest["cmdline"].as_str());
    assert!(
        cmdline.starts_with("console=ttyS0,115200 init_on_free=1 ") && cmdline.ends_with(" mitigations=off")
    );
    let script = fs::read_to_string(site.path("out/netboot/boot.ipxe")).unwrap();
    assert!(script.starts_with("#!ipxe\n"));
    assert!(script.contains(&format!("kernel vmlinuz initrd=initrd {cmdline} ||")), "{script}");
    assert!(boot_file_of_stick(site) == efi);
}

/// By mtools.
fn boot_file_of_stick(site: &Site) -> Vec<u8> {
    let copy = site.path("copy.efi");
    let drive = format!("{}@@1048576", site.path("out/kiosk.img").display());
    let status = Command::new("mcopy")
        .args(["-n", "-o", "-i", &drive, "::/EFI/BOOT/BOOTX64.EFI"])
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success());
    fs::read(copy).unwrap()
}

fn the_manifest_names_packages_and_files(site: &Site, manifest: &Value) {
    let written: Value = serde_json::from_slice(&fs::read(site.path("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(&written, manifest);
    let names: Vec<&str> = manifest["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    // What no package has is told, and what one has is not.
    let absent = manifest["firmware_absent"].as_object().unwrap();
    assert!(absent.contains_key("r8169") && !absent.contains_key("ath9k_htc"), "{absent:?}");
    assert!(names.contains(&"libc6") && names.contains(&"systemd-boot-efi"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("linux-image-6.12.")), "{names:?}");
    for (name, entry) in manifest["files"].as_object().unwrap() {
        let output = Command::new("sha256sum").arg(site.path("out").join(name)).output().unwrap();
        let digest = String::from_utf8(output.stdout).unwrap();
        assert!(digest.starts_with(entry["sha256"].as_str().unwrap()), "{name}");
    }
    assert_eq!(manifest["files"].as_object().unwrap().len(), 5);
}

/// Other folders, a package cache of its own, another time: the same bytes.
fn another_place_builds_the_same(site: &Site, manifest: &Value) {
    let cache = site.path("cache");
    assert!(Command::new("cp").arg("-r").arg(user_cache()).arg(&cache).status().unwrap().success());
    let again = build(site, "again", &["--cache", cache.to_str().unwrap()]);
    assert_eq!(&again, manifest);
}

fn user_cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"))
        .join("waystation/packages")
}

/// Ctrl-C in the middle of a build.
#[test]
fn an_interrupted_build_leaves_nothing() {
    let site = Site::new();
    let before = site.names();
    let temporary = site.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut child =
        site.command("out").env("TMPDIR", &temporary).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let entries = || fs::read_dir(&temporary).unwrap().count();
    while entries() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "the build ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(stderr(&output), "\ninterrupted; the output folder is as it was\n");
    assert_eq!(entries(), 0);
    fs::remove_dir(&temporary).unwrap();
    assert_eq!(site.names(), before);
}

/// The output is on a file system that fills up in the middle of the build.
#[test]
fn no_space_leaves_nothing_half_made() {
    let site = Site::new();
    let small = site.path("small");
    fs::create_dir(&small).unwrap();
    // A mount in a namespace of its own needs no root and is gone with the command.
    let script = format!(
        "mount -t tmpfs -o size=24m tmpfs '{0}' && mkdir '{0}/out' && echo earlier > '{0}/out/manifest.json' && \"$@\"; \
         code=$?; find '{0}' -mindepth 1 >&2; cat '{0}/out/manifest.json' >&2; exit $code",
        small.display()
    );
    let build = site.command("small/out");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        .arg(build.get_program())
        .args(build.get_args())
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let mut lines = said.lines();
    let error = lines.next().unwrap();
    assert!(error.starts_with(&format!("{}/out/", small.display())), "{said}");
    assert!(
        error.contains("No space left on device") && error.contains("make room there or name another place"),
        "{said}"
    );
    let left: Vec<&str> = lines.collect();
    assert_eq!(
        left,
        [
            format!("{}/out", small.display()),
            format!("{}/out/manifest.json", small.display()),
            "earlier".to_owned()
        ]
    );
}

/// What IT boots with Secure Boot: the file verifies with the certificate, and the stick carries it.
#[test]
fn a_signed_build_verifies() {
    let site = Site::new();
    // As docs/images.md says.
    let made = Command::new("openssl")
        .current_dir(site.folder.path())
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Kiosks"])
        .args(["-keyout", "db.key", "-out", "db.pem"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let text = format!("{CONFIG}[secure_boot]\nkey = \"db.key\"\ncert = \"db.pem\"\n");
    fs::write(site.path("kiosk.toml"), text).unwrap();
    let manifest = build(&site, "out", &[]);
    assert_eq!(manifest["signed"], true);
    let verified = Command::new("sbverify")
        .arg("--cert")
        .arg(site.path("db.pem"))
        .arg(site.path("out/kiosk.efi"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert!(boot_file_of_stick(&site) == fs::read(site.path("out/kiosk.efi")).unwrap());
}

/// The key of one pair and the certificate of another: only signing can tell.
fn signed_with_another_key() -> Site {
    let site = Site::new();
    fs::write(site.path("db.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let text = format!("{CONFIG}[secure_boot]\nkey = \"db.key\"\ncert = \"ca.pem\"\n");
    fs::write(site.path("kiosk.toml"), text).unwrap();
    site
}

/// The root of a file system cannot be exchanged for another folder: that is said before anything is fetched.
#[test]
fn a_mounted_output_folder_is_refused_at_once() {
    let site = Site::new();
    let mounted = site.path("mounted");
    fs::create_dir(&mounted).unwrap();
    let script = format!("mount -t tmpfs tmpfs '{}' && \"$@\"", mounted.display());
    let build = site.command("mounted");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        .arg(build.get_program())
        .args(build.get_args())
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        said,
        format!(
            "{} is the root of a file system, which cannot be replaced whole: name a folder within it with --out\n",
            mounted.display()
        )
    );
}

#[test]
fn help_has_an_example_and_the_exit_codes() {
    for arguments in [&["--help"][..], &["build", "--help"], &["check", "--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_image-build")).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("Example:\n  image-build "), "{said}");
        assert!(arguments.len() > 1 || said.contains("Exit codes: 0 done, 1 failed, 2 a mistake"), "{said}");
    }
}

#[test]
fn what_cannot_be_built_is_said_in_one_sentence_and_leaves_nothing() {
    let change = |from: &str, to: &str| {
        let site = Site::new();
        assert!(CONFIG.contains(from));
        fs::write(site.path("kiosk.toml"), CONFIG.replace(from, to)).unwrap();
        site
    };
    let without = |name: &str| {
        let site = Site::new();
        fs::remove_file(site.path("bin").join(name)).unwrap();
        site
    };
    let with = |bytes: &[u8]| {
        let site = Site::new();
        fs::write(site.path("bin/vmm"), bytes).unwrap();
        site
    };
    let cases = [
        (
            change("WAYSTATION.TEST", "WAYSTATION TEST"),
            2,
            "kiosk.toml:3: realm.name is \"WAYSTATION TEST\", not a realm: write something like \"EXAMPLE.ORG\"",
        ),
        (
            without("cached"),
            1,
            "bin/cached is missing: build it with `cargo build --release`, or name the folder of the binaries with --binaries",
        ),
        (with(b"#!/bin/sh\n"), 1, "bin/vmm cannot run in the image: it is not an ELF file"),
        (
            change("firmware-ath9k-htc", "firmware-of-nobody"),
            2,
            "kiosk.toml:18: hardware.firmware names \"firmware-of-nobody\", which Debian 13 does not have in main or non-free-firmware: correct the name",
        ),
        (
            change("[\"nbd\"]", "[\"nbdd\"]"),
            2,
            "kiosk.toml:16: modules.load names \"nbdd\", which kernel 6.12.",
        ),
        (
            change("[\"ath9k_htc\"]", "[]"),
            2,
            "kiosk.toml:18: hardware.firmware names \"firmware-ath9k-htc\", but no module of the image asks for a file of it",
        ),
        (
            signed_with_another_key(),
            2,
            "kiosk.toml:22: secure_boot.key names db.key, which does not sign with ca.pem (sbsign failed: ",
        ),
    ];
    for (site, code, expected) in cases {
        let before = site.names();
        let output = site.command("out").output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let prefix = format!("{}/", site.folder.path().display());
        assert!(said.replace(&prefix, "").starts_with(expected), "expected {expected}\n   found {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
        assert_eq!(site.names(), before);
    }
}

#[test]
fn check_answers_by_text_json_and_exit_code() {
    let site = Site::new();
    let check = |json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-build"));
        command.arg("check").arg("--config").arg(site.path("kiosk.toml")).args(json.then_some("--json"));
        command.output().unwrap()
    };
    let good = check(false);
    let said = String::from_utf8_lossy(&good.stdout);
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(said.contains("kiosk.toml: no mistakes\nserver.ca holds the certificates of 1 CAs:\n"), "{said}");
    let json: Value = serde_json::from_slice(&check(true).stdout).unwrap();
    assert_eq!(json, serde_json::json!({ "ok": true, "mistakes": [], "ca": ["CN=rcgen self signed cert"] }));
    fs::write(site.path("kiosk.toml"), CONFIG.replace("https:", "http:")).unwrap();
    let bad = check(false);
    assert_eq!(bad.status.code(), Some(2));
    assert!(stderr(&bad).contains("kiosk.toml:6: server.url is http, which would send"), "{}", stderr(&bad));
    let bad = check(true);
    assert_eq!(bad.status.code(), Some(2));
    let json: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!((json["ok"].as_bool(), json["mistakes"].as_array().unwrap().len()), (Some(false), 1));
}
