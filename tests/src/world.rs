//! One realm, one server, one stock of parcels and one kiosk image: what every end-to-end test stands on.

use crate::{
    golden::CommandLine,
    guest::Guest,
    image::Image,
    kiosk::Kiosk,
    machine::{self, Boot, Spec},
    realm::Realm,
    server::Server,
};
use anyhow::{Context, Result};
use parcel::wire::http::ParcelInfo;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Everything around the kiosks.
#[derive(Debug)]
pub struct World {
    /// Where it lies.
    pub dir: PathBuf,
    /// The realm.
    pub realm: Realm,
    /// The parcel server.
    pub server: Server,
    /// The kiosk image.
    pub image: Image,
}

impl World {
    /// Makes all of it in an empty `dir`; `say` hears of each long step.
    pub fn start(dir: &Path, say: &mut dyn FnMut(&str)) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
        }
        fs::create_dir_all(dir)?;
        say("realm and server");
        let realm = Realm::start(&dir.join("realm"))?;
        let server = Server::start(&dir.join("server"), &realm)?;
        say("golden guest");
        let guest = Guest::build()?;
        say("import and clones");
        CommandLine::new(&realm, &server, &dir.join("it"))?.stock(&guest)?;
        say("kiosk image");
        let image = Image::build(&dir.join("image"), &realm, &server, "ttyS0")?;
        Ok(Self { dir: dir.to_owned(), realm, server, image })
    }

    /// The `waystation` command.
    pub fn command_line(&self) -> Result<CommandLine<'_>> {
        CommandLine::new(&self.realm, &self.server, &self.dir.join("it"))
    }

    /// Starts realm and server again, with clocks so many days ahead.
    pub fn go_ahead(&mut self, days: i64) -> Result<()> {
        self.realm.down();
        self.server.kill();
        self.realm.set_ahead(days);
        self.server.set_ahead(days);
        self.realm.up()?;
        self.server.up()
    }

    /// A PC that boots from a USB stick.
    pub fn usb(&self, name: &str) -> Spec {
        Spec::new(name, Boot::Usb(self.image.stick()))
    }

    /// A PC that boots from the network.
    pub fn netboot(&self, name: &str) -> Spec {
        Spec::new(name, Boot::Ipxe(self.image.netboot()))
    }

    /// A copy of the netboot folder for changes: words for the kernel's command line, and a cpio archive that is
    /// unpacked over the initrd.
    pub fn changed_netboot(&self, name: &str, words: &str, overlay: Option<&Path>) -> Result<PathBuf> {
        let (from, to) = (self.image.netboot(), self.dir.join(format!("netboot-{name}")));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to)?;
        symlink(from.join("vmlinuz"), to.join("vmlinuz"))?;
        let script = fs::read_to_string(from.join("boot.ipxe"))?;
        fs::write(
            to.join("boot.ipxe"),
            script.replacen("initrd=initrd", &format!("initrd=initrd {words}"), 1),
        )?;
        match overlay {
            None => symlink(from.join("initrd"), to.join("initrd"))?,
            Some(overlay) => {
                let mut initrd = fs::read(from.join("initrd"))?;
                initrd.resize(initrd.len().next_multiple_of(512), 0);
                initrd.extend(fs::read(overlay)?);
                fs::write(to.join("initrd"), initrd)?;
            }
        }
        Ok(to)
    }

    /// A disk for a kiosk's cache.
    pub fn cache_disk(&self, name: &str) -> Result<PathBuf> {
        let file = self.dir.join(format!("cache-{name}.img"));
        machine::make_cache_disk(&file, 2048)?;
        Ok(file)
    }

    /// Switches a PC on and waits for its login screen.
    pub fn boot(&self, spec: Spec) -> Result<Kiosk> {
        let dir = self.dir.join(format!("kiosk-{}", spec.name));
        Kiosk::boot(spec, &dir)
    }

    /// A user's parcels, as the server tells them.
    pub fn parcels(&self, user: &str) -> Result<Vec<ParcelInfo>> {
        let text = self.command_line()?.run(user, &["ls", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("waystation ls --json printed {text:?}"))
    }

    /// The one parcel of a user.
    pub fn parcel(&self, user: &str) -> Result<ParcelInfo> {
        self.parcels(user)?.into_iter().next().with_context(|| format!("{user} has no parcel"))
    }
}
