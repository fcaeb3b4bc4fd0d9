//! Who may own parcels, and how many. A quota stops making parcels, never what a session has to bring home.

/// How many parcels an owner may have where the configuration has no quota.
pub const PARCELS: u64 = 16;

/// The quotas of the configuration; the first that fits an owner counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quotas(Vec<Quota>);

/// A quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Principals, in which `*` stands for any text.
    pub owners: Vec<String>,
    /// What they may.
    pub right: Right,
}

/// What an owner may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Make parcels; otherwise only administrators make them for him.
    pub create: bool,
    /// Own so many at the same time.
    pub parcels: u64,
}

impl Quotas {
    /// These, in this order.
    pub fn new(quotas: Vec<Quota>) -> Self {
        Self(quotas)
    }

    /// What this owner may: without any quota [`PARCELS`], and nothing where none fits.
    pub fn of(&self, owner: &str) -> Right {
        if self.0.is_empty() {
            return Right { create: true, parcels: PARCELS };
        }
        let fits = |quota: &&Quota| quota.owners.iter().any(|pattern| matches(pattern, owner));
        self.0.iter().find(fits).map_or(Right { create: false, parcels: 0 }, |quota| quota.right)
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    // Without a star the first part is all.
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a@R"),
            ("a@R", "a@R"),
            ("*@R", "a@R"),
            ("a*", "a@R"),
            ("*-admin@*", "x-admin@R"),
            ("a*a", "aa"),
            ("*ab*ab", "abab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a@R", "a@R2"), ("*@R", "a@R.EVIL"), ("*@R", "a@r"), ("a*a", "a"), ("*ab*ab", "aba"), ("", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_that_fits_counts() {
        let quota = |owner: &str, create, parcels| Quota {
            owners: vec![owner.to_owned()],
            right: Right { create, parcels },
        };
        let quotas = Quotas::new(vec![quota("a@R", true, 2), quota("*@R", false, 1)]);
        assert_eq!(quotas.of("a@R"), Right { create: true, parcels: 2 });
        assert_eq!(quotas.of("b@R"), Right { create: false, parcels: 1 });
        assert_eq!(quotas.of("b@S"), Right { create: false, parcels: 0 });
        assert_eq!(Quotas::default().of("b@S"), Right { create: true, parcels: PARCELS });
    }
}
