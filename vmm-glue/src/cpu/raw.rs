//! KVM's own structures in the saved state: their bytes as hexadecimal digits, with the exact length checked.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A structure of KVM's interface, whose layout the kernel never changes.
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

impl<T: IntoBytes + Immutable> Serialize for Raw<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // A long run of zero bytes at the end, usual here, is left out.
        let bytes = self.0.as_bytes();
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        to.serialize_str(&hex::encode(&bytes[..used]))
    }
}

impl<'de, T: FromBytes> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = vec![0; size_of::<T>()];
        if text.len() > 2 * bytes.len() || !text.len().is_multiple_of(2) {
            return Err(D::Error::invalid_length(text.len(), &"hexadecimal digits of a KVM structure"));
        }
        hex::decode_to_slice(&text, &mut bytes[..text.len() / 2]).map_err(D::Error::custom)?;
        T::read_from_bytes(&bytes).map(Self).map_err(|e| D::Error::custom(format!("{e:?}")))
    }
}

impl<T: IntoBytes + Immutable> std::fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raw({} bytes)", size_of::<T>())
    }
}

impl<T: IntoBytes + Immutable> PartialEq for Raw<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes() == other.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_regs;

    #[test]
    fn a_structure_comes_back_and_a_longer_one_does_not() {
        let regs = Raw(kvm_regs { rax: 7, rip: 0xfff0, ..Default::default() });
        let text = serde_json::to_string(&regs).unwrap();
        assert_eq!(serde_json::from_str::<Raw<kvm_regs>>(&text).unwrap(), regs);
        let long = format!("\"{}\"", "00".repeat(size_of::<kvm_regs>() + 1));
        assert!(serde_json::from_str::<Raw<kvm_regs>>(&long).is_err());
        assert!(serde_json::from_str::<Raw<kvm_regs>>("\"0\"").is_err());
        assert!(serde_json::from_str::<Raw<kvm_regs>>("\"zz\"").is_err());
    }
}
