//! `make test`: every check, one after the other, closing with `N passed, N failed`.
//!
//! A check that fails does not stop the others, so that one run tells everything that is wrong.

use rig::{licences, suite::Suite};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut suite = Suite::default();
    suite.check("formatting", &["cargo", "fmt", "--all", "--check"], &[]);
    suite.check("release binaries", &["cargo", "build", "--locked", "--release", "--workspace"], &[]);
    suite.check(
        "lints",
        &["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        &[],
    );
    suite.check(
        "documentation",
        &["cargo", "doc", "--locked", "--workspace", "--no-deps", "--document-private-items"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    );
    // They live outside the workspace, for cargo-fuzz. In the workspace's target folder, where a cache finds them.
    let fuzz = ["--manifest-path", "fuzz/Cargo.toml"];
    suite.check(
        "formatting of the fuzz targets",
        &[&["cargo", "fmt"], &fuzz[..], &["--check"]].concat(),
        &[],
    );
    suite.check(
        "lints of the fuzz targets",
        &[&["cargo", "clippy", "--locked"], &fuzz[..], &["--", "-D", "warnings"]].concat(),
        &[("CARGO_TARGET_DIR", "target")],
    );
    suite.part("licences and sources", || licences::violations().map(|found| found.join("\n")));
    // Always the whole workspace: another selection of packages has other features, and builds every dependency again.
    let tests = ["cargo", "test", "--locked", "--workspace"];
    suite.tests("unit and property tests", &[&tests[..], &["--no-fail-fast"]].concat(), &[]);
    suite.tests("end-to-end tests", &[&tests[..], &["--test", "e2e"]].concat(), &[]);
    suite.close()
}
