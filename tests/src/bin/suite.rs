//! `make test`: every check, closing with `N passed, N failed`.
//!
//! A check that fails does not stop the others, so that one run tells everything that is wrong. The end-to-end tests need the
//! release binaries alone, and mostly wait for one thread of one emulated PC; so everything else is built and run beside them.

use rig::{
    guest::Guest,
    licences,
    suite::{Lane, Suite, WORLDS},
};
use std::{
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

/// The emulated PCs come first: what they show depends on time.
const NICE: &[&str] = &["nice", "-n", "10"];

fn main() -> ExitCode {
    let suite = Suite::default();
    let live = suite.live();
    live.check("formatting", &["cargo", "fmt", "--all", "--check"], &[]);
    let beside = suite.beside();
    thread::scope(|scope| {
        scope.spawn(move || beside.part("golden guest", || Guest::build().map(|_| String::new())));
        live.check("release binaries", &["cargo", "build", "--locked", "--release", "--workspace"], &[]);
    });
    let [longest, others @ ..] = WORLDS;
    let worlds = Mutex::new(others.into_iter());
    let next = || worlds.lock().unwrap_or_else(PoisonError::into_inner).next();
    // Whichever lane is done has a core for one more emulated PC.
    let the_rest = |lane: Lane<'_>| {
        while let Some(world) = next() {
            in_world(lane, world);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            everything_else(beside);
            the_rest(beside);
        });
        in_world(live, longest);
        the_rest(live);
    });
    suite.close()
}

fn in_world(lane: Lane<'_>, world: &str) {
    let command = ["cargo", "run", "--locked", "--release", "--bin", "e2e", "--", "--world", world];
    lane.tests(&format!("end-to-end tests, world {world}"), &command, &[]);
}

fn everything_else(lane: Lane<'_>) {
    let nice = |command: &[&'static str]| [NICE, command].concat();
    // Always the whole workspace: another selection of packages has other features, and builds every dependency again.
    let tests: &[&str] = &["cargo", "test", "--locked", "--workspace"];
    lane.check("build of the tests", &nice(&[tests, &["--no-run"]].concat()), &[]);
    lane.tests("unit and property tests", &nice(&[tests, &["--no-fail-fast"]].concat()), &[]);
    lane.check(
        "lints",
        &nice(&["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        &[],
    );
    lane.check(
        "documentation",
        &nice(&["cargo", "doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]),
        &[("RUSTDOCFLAGS", "-D warnings")],
    );
    // They live outside the workspace, for cargo-fuzz. In the workspace's target folder, where a cache finds them.
    let fuzz: &[&str] = &["--manifest-path", "fuzz/Cargo.toml"];
    lane.check("formatting of the fuzz targets", &[&["cargo", "fmt"], fuzz, &["--check"]].concat(), &[]);
    lane.check(
        "lints of the fuzz targets",
        &nice(&[&["cargo", "clippy", "--locked"], fuzz, &["--", "-D", "warnings"]].concat()),
        &[("CARGO_TARGET_DIR", "target")],
    );
    lane.part("licences and sources", || licences::violations().map(|found| found.join("\n")));
}
