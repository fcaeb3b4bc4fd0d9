//! Lists in a saved state that have a greatest length, kept to while they are read: a few bytes of text can stand for a
//! large entry, so a check afterwards would come after the memory is gone.

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

struct Bounded<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a list of at most {MOST} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = from.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

/// For `deserialize_with`: a list of at most `MOST` entries.
///
/// # Errors
/// A longer one, or what an entry refuses.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(Bounded::<T, MOST>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Few(#[serde(deserialize_with = "list::<_, _, 3>")] Vec<u8>);

    #[test]
    fn a_list_ends_where_it_must() {
        assert_eq!(serde_json::from_str::<Few>("[1,2,3]").unwrap(), Few(vec![1, 2, 3]));
        let why = serde_json::from_str::<Few>("[1,2,3,4]").unwrap_err().to_string();
        assert!(why.contains("at most 3 entries"), "{why}");
        // Refused at the entry too many, not at the end of the text.
        assert!(serde_json::from_str::<Few>("[1,2,3,4,").unwrap_err().to_string().contains("at most 3"));
    }
}
