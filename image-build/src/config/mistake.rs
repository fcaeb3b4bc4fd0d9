//! What is wrong with a kiosk.toml.

use std::fmt;
use std::path::PathBuf;

/// One mistake: file, line, key, and one sentence with the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file it is in.
    pub file: PathBuf,
    /// Its line, from 1; 0 when it concerns the whole file.
    pub line: usize,
    /// The key it is about, such as `realm.name`; empty when it is about none.
    pub key: String,
    /// The rest of the sentence.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": ")?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        write!(f, "{}", self.text)
    }
}

/// A value that only a build can check in the end, with its place, so that the build can name that too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands; the text is empty.
    pub place: Mistake,
}

impl<T> Placed<T> {
    /// What is wrong with it: the rest of a sentence that begins with the key.
    pub fn mistake(&self, text: impl Into<String>) -> Mistakes {
        Mistakes(vec![Mistake { text: text.into(), ..self.place.clone() }])
    }
}

/// All mistakes of a file, in the order of their lines; one line of text each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
