//! Signing by the real sbsign, with the mistakes that IT can make.

use firmware::sign::{SignError, sign};
use std::path::Path;
use std::process::Command;

fn stub() -> Vec<u8> {
    let path = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let stub = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{path}: {error}: apt-get install systemd-boot-efi"));
    firmware::pe::Image::parse(&stub).unwrap().write().unwrap()
}

fn key_pair(folder: &Path, name: &str) {
    let status = Command::new("openssl")
        .current_dir(folder)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Waystation test"])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_signed_image_verifies_and_a_flipped_bit_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    key_pair(folder, "db");
    let mut signed = sign(&stub(), &folder.join("db.key"), &folder.join("db.pem"), folder).unwrap();
    let verifies = |bytes: &[u8]| {
        let file = folder.join("signed.efi");
        std::fs::write(&file, bytes).unwrap();
        Command::new("sbverify")
            .arg("--cert")
            .arg(folder.join("db.pem"))
            .arg(&file)
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verifies(&signed));
    signed[0x2000] ^= 1;
    assert!(!verifies(&signed));
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    key_pair(folder, "db");
    key_pair(folder, "other");
    let error = sign(&stub(), &folder.join("db.key"), &folder.join("other.pem"), folder).unwrap_err();
    assert!(matches!(error, SignError::Failed { .. }), "{error}");
}

#[test]
fn a_damaged_key_is_refused_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    key_pair(folder, "db");
    std::fs::write(folder.join("db.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    let scratch = folder.join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let error = sign(&stub(), &folder.join("db.key"), &folder.join("db.pem"), &scratch).unwrap_err();
    assert!(matches!(error, SignError::Failed { tool: "sbsign", .. }), "{error}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}
