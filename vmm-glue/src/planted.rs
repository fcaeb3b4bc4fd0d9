//! Panics that the tests plant into a debug build, to see what is left of the guest after one. A release has none.

use std::sync::OnceLock;

static PLACE: OnceLock<String> = OnceLock::new();

/// Takes the place from the environment, before the jail.
pub fn prepare() {
    if cfg!(debug_assertions)
        && let Ok(place) = std::env::var("VMM_PLANTED_PANIC")
    {
        let _ = PLACE.set(place);
    }
}

/// Panics if the tests want a panic at this place.
pub fn here(place: &str) {
    if cfg!(debug_assertions) && PLACE.get().is_some_and(|wanted| wanted == place) {
        panic!("planted: {place}");
    }
}
