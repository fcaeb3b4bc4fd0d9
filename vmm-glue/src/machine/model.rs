//! Device models: what a guest finds, and what a saved machine holds.
//!
//! A model is for ever: a machine that was saved under it runs on under it, and is saved under it again, so that every
//! kiosk that took it before takes it still. Only a cold boot chooses the newest.

/// A device model. A new one is a variant here, a golden state in the tests, and a line in `docs/vmm.md`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// The first.
    One = 1,
    /// Its state tells whether the guest has a clock helper.
    #[default]
    Two = 2,
}

impl Model {
    /// All that can be restored here, oldest first.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// Its number in saved states and tags.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The model of that number, if this program knows it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_numbered_from_one_and_a_cold_boot_takes_the_newest() {
        for (model, number) in Model::ALL.into_iter().zip(1..) {
            assert_eq!((model.number(), Model::from_number(number)), (number, Some(model)));
        }
        assert_eq!(Model::ALL.last(), Some(&Model::default()));
        assert_eq!((Model::from_number(0), Model::from_number(3)), (None, None));
    }
}
