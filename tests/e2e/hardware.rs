//! Kiosks that cannot run the parcel say what they lack and take no lock.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use rig::{kiosk::limits, machine::Spec, walk::USER};

/// Too little memory.
pub fn too_little_memory(scene: &mut Scene) -> Result<()> {
    let mut spec = scene.world.netboot("C");
    spec.memory_mib = 512;
    misses(scene, spec, &["memory", "256 MiB"])
}

/// A CPU feature that the tag demands is not there.
pub fn a_cpu_feature_less(scene: &mut Scene) -> Result<()> {
    let mut spec = scene.world.netboot("D");
    spec.lacks.push("sse4.2".to_owned());
    misses(scene, spec, &["CPU feature sse4_2"])
}

fn misses(scene: &mut Scene, spec: Spec, named: &[&str]) -> Result<()> {
    let before = scene.info()?;
    let mut kiosk = scene.world.boot(spec)?;
    kiosk.log_in(USER)?;
    kiosk.keys("\r")?;
    kiosk.expect("Nothing was changed", limits::MOVE)?;
    for word in named {
        kiosk.expect(word, limits::SCREEN)?;
    }
    let after = scene.info()?;
    ensure!(before == after, "the refused kiosk changed the parcel: {before:?}, then {after:?}");
    Ok(())
}
