//! What can be told from a KDC's answer before libkrb5 reads it.

use crate::error::SVC_UNAVAILABLE;
use asn1_rs::{Any, Class, FromDer as _, Integer, Sequence};

/// KRB-ERROR's tag, `[APPLICATION 30]`, and that of its field `error-code` (RFC 4120, section 5.9.1).
const KRB_ERROR: u32 = 30;
const ERROR_CODE: u32 = 6;

/// Does the KDC say that it cannot serve anybody now?
pub(crate) fn is_unavailable(answer: &[u8]) -> bool {
    error_code(answer) == Some(SVC_UNAVAILABLE)
}

fn error_code(answer: &[u8]) -> Option<i64> {
    let (_, message) = Any::from_der(answer).ok()?;
    if (message.class(), message.tag().0) != (Class::Application, KRB_ERROR) {
        return None;
    }
    let (_, fields) = Sequence::from_der(message.data).ok()?;
    let mut rest: &[u8] = &fields.content;
    while let Ok((after, field)) = Any::from_der(rest) {
        if (field.class(), field.tag().0) == (Class::ContextSpecific, ERROR_CODE) {
            return Integer::from_der(field.data).ok()?.1.as_i64().ok();
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_krb_error_of_that_number_counts() {
        let error = |code: u8| vec![0x7e, 12, 0x30, 10, 0xa0, 3, 2, 1, 5, 0xa6, 3, 2, 1, code];
        assert!(is_unavailable(&error(29)));
        assert!(!is_unavailable(&error(24)));
        for cut in 0..14 {
            assert!(!is_unavailable(&error(29)[..cut]), "{cut}");
        }
        assert!(is_unavailable(&[0x7e, 0x81, 9, 0x30, 0x82, 0, 5, 0xa6, 3, 2, 1, 29]));
        assert!(!is_unavailable(&[0x7e, 0xff, 0xff]));
        assert!(!is_unavailable(b"answer"));
    }
}
