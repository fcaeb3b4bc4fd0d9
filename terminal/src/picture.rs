//! What a terminal shows, in words of no particular emulation.

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// Whatever the terminal has for text, or behind it.
    #[default]
    Default,
    /// Of the palette of 256.
    Indexed(u8),
    /// Red, green, blue.
    Rgb(u8, u8, u8),
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Of the character.
    pub foreground: Color,
    /// Behind it.
    pub background: Color,
    /// Brighter or thicker.
    pub bold: bool,
    /// Drawn darker than usual.
    pub dim: bool,
    /// Drawn in italics.
    pub italic: bool,
    /// With a line below.
    pub underline: bool,
    /// With a line through it.
    pub crossed_out: bool,
    /// Foreground and background change places.
    pub inverse: bool,
}

/// A cell. A wide character takes its own cell and the one behind it, which is not told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The character.
    pub character: char,
    /// It takes two cells.
    pub wide: bool,
    /// How it looks.
    pub style: Style,
}

/// Where the next character goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Column, from 0; never behind the last one.
    pub col: u16,
    /// Row, from 0.
    pub row: u16,
    /// It shows.
    pub visible: bool,
}
