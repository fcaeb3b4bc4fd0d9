//! What the tests stand on.

use anyhow::{Context, Result};
use parcel::{
    id::{ParcelId, Version},
    wire::http::ParcelInfo,
};
use rig::{
    golden::WORK,
    kiosk::Kiosk,
    machine::Boot,
    saboteur,
    walk::{self, UNSAVED, USER},
    world::World,
};

/// A world, and kiosks at their login screens.
pub struct Scene {
    /// Realm, server, image.
    pub world: World,
    /// The traveller's parcel.
    pub parcel: ParcelId,
    a: Option<Kiosk>,
    b: Option<Kiosk>,
    k: Option<Kiosk>,
}

/// Memory of kiosk K in MiB: some 85 of it are left for what a session changes on its disk.
const SMALL: u64 = 784;

impl Scene {
    /// The parcels are as IT made them, and every kiosk is switched off.
    pub fn of(world: World) -> Result<Self> {
        let parcel = world.parcel(USER)?.id;
        Ok(Self { world, parcel, a: None, b: None, k: None })
    }

    /// The traveller's parcel is suspended on the server, and kiosk A at its login screen.
    pub fn after_a_session(world: World, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let (a, ..) = walk::first_session(&world, Some(&world.dir), say)?;
        Ok(Self { a: Some(a), ..Self::of(world)? })
    }

    /// Kiosk A: boots from a USB stick, has a disk for its cache. Switched on if it is not.
    pub fn a(&mut self) -> Result<Kiosk> {
        match self.a.take() {
            Some(kiosk) => Ok(kiosk),
            None => {
                let mut spec = self.world.usb("A");
                spec.cache_disk = Some(self.world.cache_disk("a")?);
                self.world.boot(spec)
            }
        }
    }

    /// Kiosk B: boots from the network, keeps its cache in memory. Switched on if it is not.
    pub fn b(&mut self) -> Result<Kiosk> {
        match self.b.take() {
            Some(kiosk) => Ok(kiosk),
            None => self.world.boot(self.world.netboot("B")),
        }
    }

    /// Kiosk K: has little memory, boots from the network with [`saboteur`] in it, has a disk for its cache. Switched on if it
    /// is not.
    pub fn k(&mut self) -> Result<Kiosk> {
        match self.k.take() {
            Some(kiosk) => Ok(kiosk),
            None => {
                let overlay = saboteur::overlay(&self.world.dir.join("overlay.cpio"))?;
                let mut spec = self.world.netboot("K");
                spec.boot = Boot::Ipxe(self.world.changed_netboot("saboteur", "", Some(&overlay))?);
                spec.memory_mib = SMALL;
                spec.cache_disk = Some(self.world.cache_disk("k")?);
                // The kernel resets an NVMe disk that is as slow as a test makes this one.
                spec.cache_device = "virtio-blk-pci";
                self.world.boot(spec)
            }
        }
    }

    /// Leaves kiosk A at its login screen for the next test. A test that fails drops it, so the next gets a fresh one.
    pub fn keep_a(&mut self, kiosk: Kiosk) {
        self.a = Some(kiosk);
    }

    /// Likewise kiosk B.
    pub fn keep_b(&mut self, kiosk: Kiosk) {
        self.b = Some(kiosk);
    }

    /// Likewise kiosk K.
    pub fn keep_k(&mut self, kiosk: Kiosk) {
        self.k = Some(kiosk);
    }

    /// Starts realm and server afresh, which a failed test may have left standing or hanging, and frees the parcel.
    pub fn mend(&mut self) -> Result<()> {
        self.world.go_ahead(0)?;
        if self.info()?.lock.is_some() {
            self.world.command_line()?.run(USER, &["unlock", WORK, "--break"])?;
        }
        Ok(())
    }

    /// The traveller's parcel, as the server tells it.
    pub fn info(&self) -> Result<ParcelInfo> {
        let parcels = self.world.parcels(USER)?;
        parcels.into_iter().find(|parcel| parcel.id == self.parcel).context("the parcel is gone")
    }

    /// The last committed version.
    pub fn version(&self) -> Result<Version> {
        Ok(self.info()?.version)
    }

    /// Logs the traveller in and resumes her machine, with the editor's text on its screen.
    pub fn resume(&self, kiosk: &mut Kiosk) -> Result<()> {
        self.resume_at(kiosk, UNSAVED)
    }

    /// Likewise, with `text` on its screen.
    pub fn resume_at(&self, kiosk: &mut Kiosk, text: &str) -> Result<()> {
        kiosk.log_in(USER)?;
        kiosk.resume(text)
    }
}
