//! What the tests stand on.

use anyhow::Result;
use rig::{
    kiosk::Kiosk,
    walk::{self, Kiosks},
    world::World,
};

/// The world after the walk, with both kiosks switched on at their login screens.
pub struct Scene {
    /// Realm, server, image.
    pub world: World,
    /// Boots from a USB stick, cache on disk.
    pub a: Kiosk,
    /// Boots from the network, cache in memory.
    pub b: Kiosk,
}

impl Scene {
    /// Walks the walk.
    pub fn open(world: World, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let out = world.dir.clone();
        let (Kiosks { a, b }, _) = walk::walk(&world, Some(&out), say)?;
        Ok(Self { world, a, b })
    }
}
