//! End-to-end tests, in three worlds, each with a realm, a server and an image of its own:
//!
//! - `session`: most stand on what a first session left: a suspended parcel on the server and a kiosk at its login screen;
//! - `fresh`: the parcels are as IT made them, and the tests need nothing but login screens;
//! - `demo`: the whole walk, over two kiosks and back, at a terminal.
//!
//! `cargo run --release --bin e2e -- WORD…` runs those whose names hold one of the words (and what opens their world).
//! `--world NAME` runs the tests of one world only; two worlds can run beside each other.

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

use anyhow::{Result, ensure};
use rig::{paths, suite::WORLDS, world::World};
use scene::Scene;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

type Test = fn(&mut Scene) -> Result<()>;
type Opening = fn(World, &mut dyn FnMut(&str)) -> Result<Scene>;

/// A world, and the tests on it, in this order.
struct Stage {
    world: &'static str,
    /// The test that leaves what the others stand on.
    opening: (&'static str, Opening),
    tests: &'static [(&'static str, Test)],
}

const STAGES: &[Stage] = &[
    Stage {
        world: "session",
        opening: ("first_session", Scene::after_a_session),
        tests: &[
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
            ("power_button", button::suspends_and_powers_off),
        ],
    },
    Stage {
        world: "fresh",
        opening: ("fresh_world", |world, _| Scene::of(world)),
        tests: &[
            ("login_failures_are_named", login::failures_are_named),
            ("hardware_too_little_memory", hardware::too_little_memory),
            ("hardware_a_cpu_feature_less", hardware::a_cpu_feature_less),
            ("login_wrong_clock_is_named", login::a_wrong_clock_is_named),
            ("login_after_the_clock_was_lost", login::after_the_clock_was_lost),
            ("screen_on_a_virtual_console", screen::on_a_virtual_console),
            ("screen_german_keyboard", screen::german_keyboard),
        ],
    },
];

/// The demo makes its world itself; what the test writes goes to a folder.
const DEMO: (&str, fn(&Path) -> Result<()>) = ("demo_on_a_terminal", demo::on_a_terminal);

/// What is asked for.
#[derive(Default)]
struct Asked {
    worlds: Vec<String>,
    words: Vec<String>,
}

impl Asked {
    fn read(args: impl Iterator<Item = String>) -> Result<Self> {
        let worlds = || STAGES.iter().map(|stage| stage.world).chain(["demo"]);
        let tests = || STAGES.iter().flat_map(|stage| stage.tests).map(|(name, _)| *name).chain([DEMO.0]);
        let list = |names: Vec<&str>| names.join("\n  ");
        let (mut asked, mut args) = (Self::default(), args);
        while let Some(arg) = args.next() {
            if arg == "--world" {
                let world = args.next().unwrap_or_default();
                ensure!(
                    worlds().any(|name| name == world),
                    "there is no world {world:?}; there are\n  {}",
                    list(worlds().collect())
                );
                asked.worlds.push(world);
            } else {
                ensure!(
                    tests().any(|name| name.contains(&arg)),
                    "no end-to-end test is called {arg:?}; there are\n  {}",
                    list(tests().collect())
                );
                asked.words.push(arg);
            }
        }
        ensure!(asked.names_something(), "no test of that name is in that world");
        // Else `make test` leaves one out.
        ensure!(worlds().eq(WORLDS), "`rig::suite::WORLDS` has other worlds than there are");
        Ok(asked)
    }

    /// Is there anything to run?
    fn names_something(&self) -> bool {
        let of_stage =
            |stage: &Stage| self.world(stage.world) && stage.tests.iter().any(|(name, _)| self.test(name));
        STAGES.iter().any(of_stage) || (self.world("demo") && self.test(DEMO.0))
    }

    fn world(&self, name: &str) -> bool {
        self.worlds.is_empty() || self.worlds.iter().any(|world| world == name)
    }

    fn test(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            println!("{error}\ntest result: FAILED. 0 passed; 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let mut run = Run { start: Instant::now(), passed: 0, failed: 0 };
    for stage in STAGES.iter().filter(|stage| asked.world(stage.world)) {
        run.stage(stage, &asked);
    }
    if asked.world("demo") && asked.test(DEMO.0) {
        run.demo();
    }
    run.close()
}

/// Where a world lies.
fn folder(world: &str) -> PathBuf {
    paths::target().join("e2e").join(world)
}

/// What the tests so far came to.
struct Run {
    start: Instant,
    passed: u64,
    failed: u64,
}

impl Run {
    fn stage(&mut self, stage: &Stage, asked: &Asked) {
        let tests: Vec<_> = stage.tests.iter().filter(|(name, _)| asked.test(name)).collect();
        if tests.is_empty() {
            return;
        }
        let (start, mut made) = (self.start, None);
        let (name, open) = stage.opening;
        self.test(name, || {
            let mut say = |step: &str| println!("[{:6.1} s] {step}", start.elapsed().as_secs_f64());
            let world = World::start(&folder(stage.world), &mut say)?;
            made = Some(open(world, &mut say)?);
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

    fn demo(&mut self) {
        let (name, test) = DEMO;
        let dir = folder("demo");
        self.test(name, || {
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir)?;
            test(&dir)
        });
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
