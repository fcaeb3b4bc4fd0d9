//! Keys: from the terminal's bytes, and to the guest's.

mod decode;
mod encode;

pub use decode::{Decoder, Input};
pub use encode::encode;
