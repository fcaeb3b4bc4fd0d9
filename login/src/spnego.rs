//! Kerberos' first token in SPNEGO's envelope, as HTTP carries it.
//!
//! The library is asked for Kerberos alone, and its token is put into the envelope here: asked for SPNEGO, it would
//! renumber libkrb5's errors.

use client::proxy::der;
use zeroize::Zeroizing;

/// The first token of SPNEGO (`NegTokenInit`, RFC 4178 section 4.2.1) that offers Kerberos alone and carries its first
/// token. With one mechanism there is nothing to protect by a MIC of the list.
pub fn spnego(kerberos: &[u8]) -> Vec<u8> {
    const SPNEGO: [u8; 8] = [0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];
    const KRB5: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
    let mechanisms = der(0xa0, &der(0x30, &KRB5));
    let token = der(0xa2, &der(0x04, kerberos));
    let init = der(0xa0, &der(0x30, &[mechanisms, token].concat()));
    der(0x60, &[&SPNEGO[..], &init].concat())
}

/// Standard base64 with padding (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for group in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for digit in 0..4 {
            let used = digit <= group.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if used { DIGITS[value as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, text) in pairs {
            assert_eq!(base64(plain.as_bytes()).as_str(), text);
        }
    }

    #[test]
    fn a_kerberos_token_travels_in_spnego() {
        let whole = spnego(b"AP");
        assert_eq!(
            whole,
            b"\x60\x21\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x17\x30\x15\xa0\x0d\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\xa2\x04\x04\x02AP"
        );
    }
}
