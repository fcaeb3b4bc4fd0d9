//! The guest's terminal, for both programs that keep its picture: `vmm`, over a suspend, and `kiosk-ui`, on the screen.
//!
//! The guest may be hostile. [`dialect::Dialect`] stands before the emulation and gives it whole sequences only, and no
//! count beyond the screen. Behind it is an [`Emulation`], somebody else's code, which [`Terminal`] guards: should it
//! panic all the same, the screen is lost and nothing else.

pub mod dialect;
mod emulation;
mod emulator;
mod picture;

pub use emulation::{Emulation, Emulator};
pub use emulator::{MOST, Terminal};
pub use picture::{Cell, Color, Cursor, Style};

#[cfg(test)]
mod tests;
