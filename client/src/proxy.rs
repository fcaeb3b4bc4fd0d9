//! A KDC proxy (MS-KKDCP): Kerberos' messages over HTTPS, pinned to the site's CA, so that nobody on the path sees or
//! answers them.

use crate::api::{ApiError, SetupError, tls_config};
use reqwest::{Client, header};
use std::{path::Path, time::Duration};

/// How long the proxy may take, which itself asks one KDC after the other.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is taken.
const MAX_ANSWER: usize = 1 << 20;

/// A KDC proxy.
#[derive(Clone)]
pub struct KdcProxy {
    http: Client,
    url: reqwest::Url,
}

impl KdcProxy {
    /// The proxy at `url` (`https://host/KdcProxy`), whose certificate must be from the CA in the PEM file `ca`.
    pub fn new(url: &str, ca: &Path) -> Result<Self, SetupError> {
        let bad = |cause: String| SetupError::Url { url: url.to_owned(), cause };
        let url = reqwest::Url::parse(url).map_err(|error| bad(error.to_string()))?;
        let http = Client::builder()
            .tls_backend_preconfigured(tls_config(ca)?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(PATIENCE)
            .build()
            .map_err(|error| SetupError::Tls(error.to_string()))?;
        Ok(Self { http, url })
    }

    /// Carries one message to a KDC of the realm.
    pub async fn ask(&self, realm: &str, message: &[u8]) -> Result<Vec<u8>, ApiError> {
        let server = self.url.host_str().unwrap_or_default().to_owned();
        let protocol = |cause: &str| ApiError::Protocol { server: server.clone(), cause: cause.to_owned() };
        let failed = |error: reqwest::Error| ApiError::of_transport(&server, &error);
        let mut framed = (message.len() as u32).to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        let inner = [der(0xa0, &der(0x04, &framed)), der(0xa1, &der(0x1b, realm.as_bytes()))].concat();
        let request = self.http.post(self.url.clone()).header(header::CONTENT_TYPE, "application/kerberos");
        let mut response = request.body(der(0x30, &inner)).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(protocol(&format!("the KDC proxy answered {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(protocol("a KDC proxy's answer is too long"));
            }
            body.extend_from_slice(&part);
        }
        let answer = contents(&body, 0x30)
            .and_then(|(inner, _)| contents(inner, 0xa0))
            .and_then(|(field, _)| contents(field, 0x04))
            .and_then(|(framed, _)| framed.split_first_chunk::<4>())
            .filter(|(length, answer)| u32::from_be_bytes(**length) as usize == answer.len());
        answer.map(|(_, answer)| answer.to_vec()).ok_or_else(|| protocol("not a KDC proxy's answer"))
    }
}

/// One element of DER (X.690): tag, length, contents.
pub fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    let length = contents.len().to_be_bytes();
    match contents.len() {
        short @ 0..0x80 => element.push(short as u8),
        _ => {
            let digits = &length[length.iter().take_while(|b| **b == 0).count()..];
            element.push(0x80 | digits.len() as u8);
            element.extend(digits);
        }
    }
    element.extend(contents);
    element
}

/// The contents of the element with this tag at the front, and what follows it.
fn contents(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length).filter(|_| found == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_der_and_read_back() {
        for length in [0, 0x7f, 0x80, 0xff, 0x1234] {
            let inner = vec![7; length];
            let mut whole = der(4, &inner);
            whole.push(9);
            assert_eq!(contents(&whole, 4), Some((&inner[..], &[9][..])));
            assert_eq!(contents(&whole, 5), None);
            for cut in 0..whole.len() - 1 {
                assert_eq!(contents(&whole[..cut], 4), None);
            }
        }
        assert_eq!(der(4, &[7; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(contents(&[4, 0x85, 1, 1, 1, 1, 1], 4), None);
    }
}
