//! Saved state of the console.

use super::{TYPED_MAX, screen::Screen};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Most bytes of a drawing: 500 × 500 cells of ordinary colours do not come near it.
const DRAWING_MAX: usize = 4 << 20;

/// The screen as escape sequences, its size, and what was typed and not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleState {
    cols: u16,
    rows: u16,
    #[serde(with = "hex::serde")]
    drawing: Vec<u8>,
    #[serde(with = "hex::serde")]
    typed: Vec<u8>,
}

impl ConsoleState {
    /// Of a screen and typed bytes. A screen that takes too much to draw is kept without its colours, or not at all: a guest
    /// must not be able to make its own state unusable, and programs draw anew when they are asked.
    pub fn of(screen: &Screen, typed: &VecDeque<u8>) -> Self {
        let (cols, rows) = screen.size();
        let fits = |drawing: &Vec<u8>| drawing.len() <= DRAWING_MAX;
        let drawing =
            Some(screen.drawing()).filter(fits).or_else(|| Some(screen.plain_drawing()).filter(fits));
        Self { cols, rows, drawing: drawing.unwrap_or_default(), typed: typed.iter().copied().collect() }
    }

    /// The screen and typed bytes.
    ///
    /// # Errors
    /// Sizes that no console has.
    pub fn check(&self) -> Result<(Screen, VecDeque<u8>)> {
        if self.drawing.len() > DRAWING_MAX || self.typed.len() > TYPED_MAX {
            return Err(Error::State("the console holds too much".into()));
        }
        let mut screen = Screen::new(self.cols, self.rows);
        if screen.size() != (self.cols, self.rows) {
            return Err(Error::State(format!("the console has {} × {} cells", self.cols, self.rows)));
        }
        screen.write(&self.drawing);
        Ok((screen, self.typed.iter().copied().collect()))
    }
}
