//! The demo's part of `make bench`: seconds and bytes of each phase, as JSON in `target/bench/demo.json`.

use crate::{
    paths, timeline,
    walk::{self, Outcome},
    world::World,
};
use anyhow::Result;
use serde_json::json;
use std::{fs, time::Instant};

/// Measures everything.
pub fn run() -> Result<()> {
    let out = paths::target().join("bench");
    fs::create_dir_all(&out)?;
    let start = Instant::now();
    let mut say = |step: &str| println!("[{:6.1} s] {step}", start.elapsed().as_secs_f64());
    let world = World::start(&out.join("world"), &mut say)?;
    let (_kiosks, outcome) = walk::walk(&world, None, &mut say)?;
    fs::write(out.join("demo.json"), serde_json::to_string_pretty(&phases(&outcome))?)?;
    println!("{}", timeline::table(&outcome.phases));
    println!("The figures are in {}.", out.display());
    Ok(())
}

/// Seconds of each phase in each session, and every phase as it was logged.
fn phases(outcome: &Outcome) -> serde_json::Value {
    json!({ "seconds": timeline::by_phase(&outcome.phases), "phases": outcome.phases })
}
