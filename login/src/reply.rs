//! What can be told from a KDC's answer before libkrb5 reads it.

use crate::error::SVC_UNAVAILABLE;

/// DER tags: KRB-ERROR, SEQUENCE, its field `error-code`, INTEGER.
const KRB_ERROR: u8 = 0x7e;
const SEQUENCE: u8 = 0x30;
const ERROR_CODE: u8 = 0xa6;
const INTEGER: u8 = 0x02;

/// Does the KDC say that it cannot serve anybody now?
pub(crate) fn is_unavailable(answer: &[u8]) -> bool {
    error_code(answer).is_some_and(|code| matches!(code, [number] if i64::from(*number) == SVC_UNAVAILABLE))
}

fn error_code(answer: &[u8]) -> Option<&[u8]> {
    let mut fields = within(within(answer, KRB_ERROR)?, SEQUENCE)?;
    loop {
        let (tag, value, rest) = element(fields)?;
        if tag == ERROR_CODE {
            return within(value, INTEGER);
        }
        fields = rest;
    }
}

/// The value of the first element, if it has this tag.
fn within(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    element(bytes).filter(|(tag, ..)| *tag == wanted).map(|(_, value, _)| value)
}

/// The first element of DER: its tag, its value, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (len, rest) = match short {
        0..0x80 => (usize::from(short), rest),
        _ => {
            let (long, rest) =
                rest.split_at_checked(usize::from(short & 0x7f)).filter(|(l, _)| l.len() <= 4)?;
            (long.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
    };
    let (value, rest) = rest.split_at_checked(len)?;
    Some((tag, value, rest))
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
