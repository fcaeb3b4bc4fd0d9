//! The files that a kiosk.toml names.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use x509_parser::pem::Pem;

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

/// A file of one or more CA certificates, as it goes into the image.
pub(super) fn ca(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let bytes = read(path)
        .map_err(|why| format!("names {name}, which {why}: write the path of the CA's certificate"))?;
    let blocks = pem_blocks(&bytes);
    if blocks.iter().any(|block| block.label.contains("PRIVATE KEY")) {
        return Err(format!(
            "names {name}, which holds a private key that would lie open in the image: name a file with the certificate only"
        ));
    }
    let remedy = "write the path of a PEM file with a BEGIN CERTIFICATE block";
    if blocks.is_empty() {
        // As browsers and Windows save certificates.
        if x509_parser::parse_x509_certificate(&bytes).is_ok() {
            return Err(format!(
                "names {name}, which is a certificate in DER: write the path of the same in PEM, made by `openssl x509 -inform DER -in {name} -out ca.pem`"
            ));
        }
        return Err(format!("names {name}, which is not PEM: {remedy}"));
    }
    for block in &blocks {
        let certificate = match block.parse_x509() {
            Ok(certificate) if block.label == "CERTIFICATE" => certificate,
            _ => {
                return Err(format!("names {name}, which holds a block that is not a certificate: {remedy}"));
            }
        };
        let subject = certificate.subject().to_string();
        if !certificate.is_ca() {
            return Err(format!(
                "names {name}, whose certificate {subject:?} is not a CA's: name the certificate that signed the server's"
            ));
        }
        if !certificate.validity().is_valid() {
            let validity = certificate.validity();
            return Err(format!(
                "names {name}, whose certificate {subject:?} holds only from {} to {}: name a current one",
                validity.not_before, validity.not_after
            ));
        }
    }
    Ok(bytes)
}

/// A private key that sbsign can use without asking.
pub(super) fn private_key(path: &Path) -> Result<PathBuf, String> {
    let name = path.display();
    let bytes =
        read(path).map_err(|why| format!("names {name}, which {why}: write the path of the signing key"))?;
    // The second is how OpenSSL wrote keys before PKCS #8.
    let locked = ["ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
    if locked.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == mark.as_bytes())) {
        return Err(format!(
            "names {name}, which needs a passphrase: write the path of a key without one, readable by you only"
        ));
    }
    if pem_blocks(&bytes).iter().any(|block| block.label.ends_with("PRIVATE KEY")) {
        Ok(path.to_owned())
    } else {
        Err(format!("names {name}, which holds no private key in PEM: write the path of the signing key"))
    }
}

/// The certificate of the signing key.
pub(super) fn certificate(path: &Path) -> Result<PathBuf, String> {
    let name = path.display();
    let bytes = read(path)
        .map_err(|why| format!("names {name}, which {why}: write the path of the key's certificate"))?;
    match pem_blocks(&bytes).first() {
        Some(block) if block.label == "CERTIFICATE" && block.parse_x509().is_ok() => Ok(path.to_owned()),
        _ => Err(format!(
            "names {name}, which is not a certificate in PEM: write the path of the key's certificate"
        )),
    }
}

/// The PEM blocks of a file; none when one of them is damaged.
fn pem_blocks(bytes: &[u8]) -> Vec<Pem> {
    Pem::iter_from_buffer(bytes).collect::<Result<_, _>>().unwrap_or_default()
}
