//! End-to-end tests: one after the other, on one world, since most stand on what a first session left: a suspended parcel on the server and
//! a kiosk at its login screen. The whole walk, over two kiosks and back, is the demo's, at a terminal, in a world of its own.
//!
//! `cargo run --release --bin e2e -- WORD…` runs those whose names hold one of the words (and the first session, if they need it).
//! `--shared` leaves those out that have a world of their own, `--own` runs nothing else; so both can run beside each other.

mod button;
mod clock;
mod demo;
mod hardware;
mod kills;
mod login;
mod memory;
mod scene;
mod screen;
mod trouble;
mod wipe;

use anyhow::Result;
use rig::{paths, world::World};
use scene::Scene;
use std::{fs, path::Path, process::ExitCode, time::Instant};

type Shared = fn(&mut Scene) -> Result<()>;
type Own = fn(&Path) -> Result<()>;

/// Tests on one world, in this order.
const SHARED: &[(&str, Shared)] = &[
    ("wipe_leaves_nothing", wipe::leaves_nothing),
    ("trouble_is_waited_out", trouble::is_waited_out),
    ("trouble_in_a_resume", trouble::in_a_resume),
    ("log_in_again", trouble::log_in_again),
    ("server_killed_in_mid_commit", kills::server_in_mid_commit),
    ("commit_given_up", kills::commit_given_up),
    ("power_cut", kills::power),
    ("cached_and_vmm_killed", kills::cached_and_vmm),
    ("memory_fast_writer", memory::fast_writer),
    ("clock_a_week_away", clock::a_week_away),
    ("login_failures_are_named", login::failures_are_named),
    ("power_button", button::suspends_and_powers_off),
    ("hardware_too_little_memory", hardware::too_little_memory),
    ("hardware_a_cpu_feature_less", hardware::a_cpu_feature_less),
    ("login_wrong_clock_is_named", login::a_wrong_clock_is_named),
    ("login_after_the_clock_was_lost", login::after_the_clock_was_lost),
    ("screen_on_a_virtual_console", screen::on_a_virtual_console),
    ("screen_german_keyboard", screen::german_keyboard),
];

/// Tests that have a world of their own; what they write goes to a folder.
const OWN: &[(&str, Own)] = &[("demo_on_a_terminal", demo::on_a_terminal)];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (flags, words): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with('-'));
    let names = || SHARED.iter().map(|(name, _)| *name).chain(OWN.iter().map(|(name, _)| *name));
    let unknown = flags.iter().find(|flag| !["--shared", "--own"].contains(&flag.as_str()));
    let unknown = unknown.or(words.iter().find(|word| !names().any(|name| name.contains(word.as_str()))));
    if let Some(word) = unknown {
        println!("no end-to-end test is called {word:?}; there are");
        names().for_each(|name| println!("  {name}"));
        println!("test result: FAILED. 0 passed; 1 failed");
        return ExitCode::FAILURE;
    }
    let without = |flag: &str| !flags.iter().any(|given| *given == flag);
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut run = Run { start: Instant::now(), passed: 0, failed: 0 };
    if without("--own") {
        run.shared(&wanted);
    }
    if without("--shared") {
        run.own(&wanted);
    }
    run.close()
}

/// What the tests so far came to.
struct Run {
    start: Instant,
    passed: u64,
    failed: u64,
}

impl Run {
    fn shared(&mut self, wanted: &dyn Fn(&str) -> bool) {
        let tests: Vec<_> = SHARED.iter().filter(|(name, _)| wanted(name)).collect();
        if tests.is_empty() {
            return;
        }
        let (start, mut made) = (self.start, None);
        self.test("first_session", || {
            let mut say = |step: &str| println!("[{:6.1} s] {step}", start.elapsed().as_secs_f64());
            let world = World::start(&paths::target().join("e2e"), &mut say)?;
            made = Some(Scene::open(world, &mut say)?);
            Ok(())
        });
        let Some(mut scene) = made else {
            println!("the others need it");
            self.failed += tests.len() as u64;
            return;
        };
        for (name, test) in tests {
            if !self.test(name, || test(&mut scene))
                && let Err(error) = scene.mend()
            {
                println!("what it left cannot be mended: {error:#}");
            }
        }
    }

    fn own(&mut self, wanted: &dyn Fn(&str) -> bool) {
        for (name, test) in OWN.iter().filter(|(name, _)| wanted(name)) {
            let dir = paths::target().join("e2e-own").join(name);
            self.test(name, || {
                let _ = fs::remove_dir_all(&dir);
                fs::create_dir_all(&dir)?;
                test(&dir)
            });
        }
    }

    /// Runs one, and says how it ended, as cargo's tests do; `true`: well.
    fn test(&mut self, name: &str, test: impl FnOnce() -> Result<()>) -> bool {
        let begin = Instant::now();
        let result = test();
        let seconds = begin.elapsed().as_secs_f64();
        match &result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.0} s)");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.0} s)\n{error:#}");
                self.failed += 1;
            }
        }
        result.is_ok()
    }

    fn close(self) -> ExitCode {
        let Self { start, passed, failed } = self;
        let word = if failed == 0 { "ok" } else { "FAILED" };
        let seconds = start.elapsed().as_secs_f64();
        println!("test result: {word}. {passed} passed; {failed} failed; finished in {seconds:.0}s");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
