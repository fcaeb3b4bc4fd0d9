//! The files that a kiosk.toml names.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tls::pem::{Pem, PemError};

/// Largest file read here; certificates and configurations are far smaller.
const MOST: u64 = 1 << 20;

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        _ => format!("cannot be read ({error})"),
    };
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > MOST {
        return Err("is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}

/// The text of the configuration itself.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let bytes = read(path).map_err(|why| format!("{why}: name a kiosk.toml with --config"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text: save it as UTF-8".to_owned())
}

/// Where a named file is, from the folder of the kiosk.toml.
pub(super) fn place(folder: &Path, name: &str) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("is empty: write the path of a file, from the folder of the kiosk.toml".to_owned());
    }
    Ok(folder.join(name))
}

/// Certificates of CAs, as they go into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The certificates in PEM, written anew so that every program in the image reads all of them.
    pub pem: String,
    /// The subject of each of them.
    pub subjects: Vec<String>,
}

/// The rest of a sentence about a file, from one of [`tls`], which puts the remedy behind a semicolon.
fn about(name: impl std::fmt::Display, why: &str, remedy: &str) -> String {
    let (what, remedy) = why.split_once("; ").unwrap_or((why, remedy));
    let what = what.replace(": ", ", ");
    format!("names {name}, which {what}: {remedy}")
}

/// A file of one or more CA certificates. Whatever is accepted here, the kiosk reads in the same way.
pub(super) fn ca(path: &Path) -> Result<Authorities, String> {
    let name = path.display();
    let bytes = read(path)
        .map_err(|why| format!("names {name}, which {why}: write the path of the CA's certificate"))?;
    let remedy = "write the path of a PEM file with the certificate of the server's CA, and nothing else";
    let pem = tls::pem::read(&bytes).map_err(|why| about(&name, &why.to_string(), remedy))?;
    if !pem.keys.is_empty() {
        return Err(format!(
            "names {name}, which holds a private key that would lie open in the image: name a file with the certificate only"
        ));
    }
    if let Some(label) = pem.others.first() {
        return Err(format!(
            "names {name}, which holds a block {label:?} that is not a certificate: {remedy}"
        ));
    }
    let count = pem.certificates.len();
    let mut subjects = Vec::new();
    for (index, der) in pem.certificates.iter().enumerate() {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
            let number = index + 1;
            return Err(format!(
                "names {name}, of whose {count} certificates number {number} cannot be read: copy the file again"
            ));
        };
        let subject = certificate.subject().to_string();
        if !certificate.is_ca() {
            return Err(format!(
                "names {name}, whose certificate {subject:?} is not a CA's: name the certificate that signed the server's"
            ));
        }
        let validity = certificate.validity();
        if !validity.is_valid() {
            return Err(format!(
                "names {name}, whose certificate {subject:?} holds only from {} to {}: name a current one",
                validity.not_before, validity.not_after
            ));
        }
        subjects.push(subject);
    }
    // The kiosk has the last word.
    tls::trust::roots(&bytes).map_err(|why| about(&name, &why.to_string(), remedy))?;
    Ok(Authorities { pem: tls::pem::write(&pem.certificates), subjects })
}

/// A private key that sbsign can use without asking.
pub(super) fn private_key(path: &Path) -> Result<PathBuf, String> {
    let remedy = "write the path of the signing key, in PEM";
    let pem = for_sbsign(path, "holds no private key in PEM", remedy)?;
    match pem.keys.len() {
        1 => Ok(path.to_owned()),
        0 => Err(about(path.display(), "holds no private key in PEM", remedy)),
        many => Err(about(path.display(), &format!("holds {many} private keys"), "keep one of them")),
    }
}

/// The certificate of the signing key.
pub(super) fn certificate(path: &Path) -> Result<PathBuf, String> {
    let remedy = "write the path of the key's certificate, in PEM";
    let pem = for_sbsign(path, "is not a certificate in PEM", remedy)?;
    let readable = |der: &[u8]| x509_parser::parse_x509_certificate(der).is_ok();
    match pem.certificates.as_slice() {
        [one] if readable(one) => Ok(path.to_owned()),
        [] | [_] => Err(about(path.display(), "is not a certificate in PEM", remedy)),
        many => {
            let what = format!("holds {} certificates", many.len());
            Err(about(path.display(), &what, "keep only that of the signing key"))
        }
    }
}

/// A file that sbsign will read: OpenSSL skips a byte order mark and text, but wants each block on lines of its own.
fn for_sbsign(path: &Path, none: &str, remedy: &str) -> Result<Pem, String> {
    let name = path.display();
    let bytes = read(path).map_err(|why| format!("names {name}, which {why}: {remedy}"))?;
    let pem = tls::pem::read(&bytes).map_err(|why| match why {
        PemError::None => about(&name, none, remedy),
        why => about(&name, &why.to_string(), remedy),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let alone = |line: &str| line.starts_with("-----") && line.trim_end().matches("-----").count() == 2;
    if text.split('\n').any(|line| line.contains("-----") && !alone(line)) {
        let what =
            "has a BEGIN or END that does not stand on a line of its own, where sbsign does not find it";
        return Err(about(&name, what, "put each on its own line"));
    }
    Ok(pem)
}
