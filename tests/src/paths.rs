//! Where things lie in the checkout.

use anyhow::{Result, bail};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests folder lies in the workspace")
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A release binary of the workspace, as `make build` leaves it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = target().join("release").join(name);
    if !path.is_file() {
        bail!("{} is not there: run `make build` first", path.display());
    }
    Ok(path)
}
