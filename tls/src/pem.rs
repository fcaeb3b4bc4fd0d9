//! PEM as people have it: with a byte order mark, with lines of Windows, with text around the blocks, with two files put
//! together and no line between. Every block that begins is read, or the file is refused: none is left out in silence.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{PemObject, SectionKind},
};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What a PEM file holds.
#[derive(Debug)]
pub struct Pem {
    /// Its certificates, in their order.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its private keys that need no passphrase.
    pub keys: Vec<PrivateKeyDer<'static>>,
    /// Labels of its other blocks.
    pub others: Vec<String>,
}

/// A file that is not read. Each sentence goes on behind the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// As browsers and Windows save certificates.
    #[error("is a certificate in DER; make PEM of it with openssl x509 -inform DER -in FILE -out FILE.pem")]
    Der,
    /// As Windows' editors and PowerShell save text.
    #[error("is text in UTF-16; save it as UTF-8")]
    Utf16,
    /// Nothing begins.
    #[error("is not PEM: no block begins in it")]
    None,
    /// A private key that asks for something.
    #[error(
        "holds a key that needs a passphrase; write it without one, with openssl pkey -in FILE -out NEW, readable by its user only"
    )]
    Encrypted,
    /// A certificate with rules that no library here knows.
    #[error("holds a TRUSTED CERTIFICATE; write it as a plain one with openssl x509 -in FILE -out NEW")]
    Trusted,
    /// Begins and does not end, or holds what is not base64.
    #[error(
        "holds {begun} blocks, of which only {read} can be read: the one that begins in line {line} is damaged; copy the file again"
    )]
    Damaged {
        /// Blocks that begin.
        begun: usize,
        /// Blocks that were read.
        read: usize,
        /// Where the first damaged one begins.
        line: usize,
    },
}

/// Takes a file apart.
///
/// # Errors
/// See [`PemError`].
pub fn read(bytes: &[u8]) -> Result<Pem, PemError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(PemError::Utf16);
    }
    let text = String::from_utf8_lossy(bytes);
    // As OpenSSL wrote keys before PKCS #8, and as it writes them now.
    if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(PemError::Encrypted);
    }
    if text.contains("-----BEGIN TRUSTED CERTIFICATE-----") {
        return Err(PemError::Trusted);
    }
    let mut pem = Pem { certificates: Vec::new(), keys: Vec::new(), others: Vec::new() };
    let begins: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    if begins.is_empty() {
        let der = x509_parser::parse_x509_certificate(bytes).is_ok();
        return Err(if der { PemError::Der } else { PemError::None });
    }
    for (read, begin) in begins.iter().enumerate() {
        let block = block(&text[*begin..]).ok_or_else(|| PemError::Damaged {
            begun: begins.len(),
            read,
            line: 1 + text[..*begin].matches('\n').count(),
        })?;
        match block {
            Block::Certificate(der) => pem.certificates.push(der.into()),
            Block::Key(key) => pem.keys.push(key),
            Block::Other(label) => pem.others.push(label),
        }
    }
    Ok(pem)
}

/// Certificates as every program reads them: each in lines of its own.
pub fn write(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for der in certificates {
        text += "-----BEGIN CERTIFICATE-----\n";
        let body = STANDARD.encode(der);
        for line in body.as_bytes().chunks(64) {
            text += &String::from_utf8_lossy(line);
            text.push('\n');
        }
        text += "-----END CERTIFICATE-----\n";
    }
    text
}

enum Block {
    Certificate(Vec<u8>),
    Key(PrivateKeyDer<'static>),
    Other(String),
}

/// The block at the beginning of `text`, whatever follows it on the line of its end.
fn block(text: &str) -> Option<Block> {
    let (label, _) = text.strip_prefix(BEGIN)?.split_once(DASHES)?;
    let end = format!("{END}{label}{DASHES}");
    let whole = &text[..text.find(&end)? + end.len()];
    if label.contains(['\r', '\n']) || whole[BEGIN.len()..].contains(BEGIN) {
        return None;
    }
    // One block, in lines as the parser wants them: a base64 line may end with spaces, or with a lone carriage return.
    let lines: Vec<_> = whole.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let alone = lines.join("\n") + "\n";
    match <(SectionKind, Vec<u8>)>::from_pem_slice(alone.as_bytes()) {
        Ok((SectionKind::Certificate, der)) => Some(Block::Certificate(der)),
        Ok((SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _)) => {
            PrivateKeyDer::from_pem_slice(alone.as_bytes()).ok().map(Block::Key)
        }
        Ok(_) => Some(Block::Other(label.to_owned())),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Some(Block::Other(label.to_owned())),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    fn count(text: impl AsRef<[u8]>) -> usize {
        read(text.as_ref()).unwrap().certificates.len()
    }

    #[test]
    fn every_certificate_is_read_however_the_file_was_made() {
        let (a, b) = (certificate("a"), certificate("b"));
        let glued = format!("{}{}", a.trim_end(), b.trim_end());
        for text in [
            format!("{a}{b}"),
            format!("\u{feff}{a}{b}"),
            glued.clone(),
            format!("\u{feff}{}", glued.replace('\n', "\r\n")),
            glued.replace('\n', "\r"),
            format!("Subject: A\n{a}\n# and B: ünal\n  Issuer: B {b} end"),
            a.replace('\n', " \n") + &b,
        ] {
            assert_eq!(count(&text), 2, "{text}");
        }
        let read = read(format!("\u{feff}{}", glued.replace('\n', "\r\n")).as_bytes()).unwrap();
        assert_eq!(write(&read.certificates), format!("{a}{b}").replace("\r\n", "\n"));
        let latin = [a.as_bytes(), b"M\xfcller\n", b.as_bytes()].concat();
        assert_eq!(count(latin), 2);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let (a, b) = (certificate("a"), certificate("b"));
        let damaged = |text: &str| match read(text.as_bytes()) {
            Err(PemError::Damaged { begun, read, line }) => (begun, read, line),
            other => panic!("{other:?}"),
        };
        let second = a.matches('\n').count() + 1;
        assert_eq!(damaged(&format!("{a}{}", &b[..b.len() - 10])), (2, 1, second));
        assert_eq!(damaged(&format!("{}\n{b}", &a[..a.len() - 10])), (2, 0, 1));
        assert_eq!(damaged(&format!("{a}{}", b.replacen("\nMI", "\n!I", 1))), (2, 1, second));
        let utf16: Vec<u8> =
            [0xff, 0xfe].into_iter().chain(a.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(read(&utf16).unwrap_err(), PemError::Utf16);
        assert_eq!(read(b"").unwrap_err(), PemError::None);
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        assert_eq!(read(made.cert.der()).unwrap_err(), PemError::Der);
        assert_eq!(read(a.replace("CERT", "TRUSTED CERT").as_bytes()).unwrap_err(), PemError::Trusted);
        let key = made.signing_key.serialize_pem();
        let whole = read(format!("{a}{key}").as_bytes()).unwrap();
        assert_eq!((whole.certificates.len(), whole.keys.len()), (1, 1));
        let locked = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(read(locked.as_bytes()).unwrap_err(), PemError::Encrypted);
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        assert_eq!(read(format!("{parameters}{key}").as_bytes()).unwrap().others, ["EC PARAMETERS"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[b"-----BEGIN CERTIFICATE-----\n", bytes.as_slice(), b"-----END CERTIFICATE-----"].concat());
        }
    }
}
