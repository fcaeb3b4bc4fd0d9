//! End-to-end tests: one after the other, on one world, since most stand on what a first session left: a suspended parcel on the server and
//! a kiosk at its login screen. The whole walk, over two kiosks and back, is the demo's, at a terminal.
//!
//! `cargo run --release --bin e2e -- WORD…` runs those whose names hold one of the words (and the first session).

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

use rig::{paths, world::World};
use scene::Scene;
use std::{process::ExitCode, time::Instant};

type Test = fn(&mut Scene) -> anyhow::Result<()>;

const TESTS: &[(&str, Test)] = &[
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
    ("demo_on_a_terminal", demo::on_a_terminal),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    if let Some(word) = words.iter().find(|word| !TESTS.iter().any(|(name, _)| name.contains(word.as_str())))
    {
        println!("no end-to-end test is called {word:?}; there are");
        TESTS.iter().for_each(|(name, _)| println!("  {name}"));
        println!("test result: FAILED. 0 passed; 1 failed");
        return ExitCode::FAILURE;
    }
    let start = Instant::now();
    let mut say = |step: &str| println!("[{:6.1} s] {step}", start.elapsed().as_secs_f64());
    let (mut passed, mut failed) = (0, 0);
    let made =
        World::start(&paths::target().join("e2e"), &mut say).and_then(|world| Scene::open(world, &mut say));
    let mut scene = match made {
        Ok(scene) => {
            println!("test first_session ... ok ({:.0} s)", start.elapsed().as_secs_f64());
            passed += 1;
            scene
        }
        Err(error) => {
            println!("test first_session ... FAILED\n{error:#}");
            println!("test result: FAILED. 0 passed; {} failed", 1 + TESTS.len());
            return ExitCode::FAILURE;
        }
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let begin = Instant::now();
        let result = test(&mut scene);
        let seconds = begin.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.0} s)");
                passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.0} s)\n{error:#}");
                failed += 1;
                if let Err(error) = scene.mend() {
                    println!("what it left cannot be mended: {error:#}");
                }
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {passed} passed; {failed} failed; finished in {:.0}s",
        start.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
