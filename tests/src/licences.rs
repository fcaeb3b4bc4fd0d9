//! Holds what the workspace links against `deny.toml`: licences and where packages come from.
//!
//! cargo-deny does the same and more; building it takes longer than all other checks together, and the advisory
//! database that it would add is not among the package registries.

use crate::{paths, process};
use anyhow::{Context, Result};
use serde::Deserialize;
use spdx::{Expression, ParseMode};
use std::{collections::BTreeSet, fs, process::Command};

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

/// Every package that is linked and breaks a rule, one sentence each.
pub fn violations() -> Result<Vec<String>> {
    let file = paths::workspace().join("deny.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let policy: Policy = toml::from_str(&text).with_context(|| format!("{} is wrong", file.display()))?;
    let mut tree = Command::new("cargo");
    tree.args(["tree", "--workspace", "--locked", "--edges=normal,build,dev", "--prefix=none"]);
    tree.args(["--no-dedupe", "--format={p}|{l}"]).current_dir(paths::workspace());
    let tree = process::run(&mut tree)?;
    let packages: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    Ok(packages.into_iter().filter_map(|package| violation(package, &policy.licenses.allow)).collect())
}

/// `package` is a line of `cargo tree`: name, version, source if it is not the default registry, and licence.
fn violation(package: &str, allow: &BTreeSet<String>) -> Option<String> {
    // A package that needs itself for its tests is marked where it comes again.
    let (package, licence) = package.trim_end_matches(" (*)").rsplit_once('|')?;
    let workspace = format!("({}", paths::workspace().display());
    match package.splitn(3, ' ').nth(2) {
        Some(source) if source != "(proc-macro)" && !source.contains(&workspace) => {
            return Some(format!(
                "{package} comes from somewhere else than the registry: use a published version"
            ));
        }
        _ => {}
    }
    let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else {
        return Some(format!(
            "{package} has the licence {licence:?}, which is no SPDX expression: look at it"
        ));
    };
    let allowed = expression.evaluate(|requirement| allow.contains(&requirement.to_string()));
    (!allowed).then(|| {
        format!("{package} is under {licence}, which deny.toml does not allow: replace it, or allow it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_and_sources_are_held_against_the_list() {
        let allow = ["MIT", "Apache-2.0", "ISC"].map(str::to_owned).into();
        assert_eq!(violation("a v1.0.0|MIT/GPL-3.0", &allow), None);
        assert_eq!(violation("a v1.0.0|MIT (*)", &allow), None);
        assert_eq!(violation("a v1.0.0 (proc-macro)|Apache-2.0 AND ISC", &allow), None);
        assert!(
            violation("a v1.0.0|Apache-2.0 AND GPL-3.0-only", &allow).unwrap().contains("does not allow")
        );
        assert!(violation("a v1.0.0|", &allow).unwrap().contains("no SPDX"));
        assert!(
            violation("a v1.0.0 (https://example.org/a#1)|MIT", &allow).unwrap().contains("somewhere else")
        );
    }
}
