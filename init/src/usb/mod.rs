//! What may be plugged in once the kiosk has started: keyboards, mice, disks and hubs, and whatever was there at the start
//! and comes back, such as the network card of a dock. Anything else (a network card that wants to be the way out, a device
//! for a driver with a hole) is not configured by the kernel, so no driver sees it, and the screen names it.
//!
//! While the kiosk starts, everything is taken: its own devices turn up late and in any order.

mod device;

use crate::{clock, folder, log::Log, uevent::Uevent};
use device::Device;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Since the kernel's start: what is there by then belongs to the kiosk.
const STARTED: Duration = Duration::from_secs(120);
/// How often what is there is noted until then: a dock may leave before its two minutes are over.
const PACE: Duration = Duration::from_secs(3);
/// Where the kernel lists USB devices, and where all devices are.
const BUS: &str = "/sys/bus/usb/devices";
const SYS: &str = "/sys";
/// What a crashed manager leaves: what was there at the start.
const KEPT: &str = "/run/init/usb.json";
/// Devices that are noted, and refusals that are shown: somebody may plug in as many as he likes.
const MOST: usize = 64;
const MOST_SHOWN: usize = 8;
/// Devices that are taken for their kind and noted; USB has fewer places. With more, every late device is a stranger.
const STRANGERS: usize = 1024;
/// `0BDAp8153` in a device's alias: vendor and product.
const NUMBERS: usize = 9;

/// The kiosk's USB ports. Cheap to clone.
#[derive(Clone)]
pub struct Ports(Arc<Shared>);

struct Shared {
    bus: PathBuf,
    kept: PathBuf,
    log: Log,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// What was there at the start, by its port.
    known: BTreeMap<String, Device>,
    /// Ports that something was unplugged from.
    left: BTreeSet<String>,
    /// Ports where what is there now is taken for its kind alone.
    strangers: BTreeSet<String>,
    /// Sentences on what is refused now, by port.
    refused: BTreeMap<String, String>,
    tell: Option<Box<dyn Fn(Vec<String>) -> bool + Send>>,
}

impl Ports {
    /// The kiosk's.
    pub fn new(log: &Log) -> Self {
        Self::at(Path::new(BUS), Path::new(KEPT), log)
    }

    fn at(bus: &Path, kept: &Path, log: &Log) -> Self {
        let known = fs::read(kept).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let restarted = known.is_some() && clock::since_boot() >= STARTED;
        let inner = Inner { known: known.unwrap_or_default(), ..Inner::default() };
        let ports = Self(Arc::new(Shared {
            bus: bus.into(),
            kept: kept.into(),
            log: log.clone(),
            inner: Mutex::new(inner),
        }));
        if restarted {
            ports.find_strangers();
        }
        ports
    }

    /// A crashed manager has taken what is in use and was not there at the start.
    fn find_strangers(&self) {
        for entry in folder::entries(&self.0.bus).into_iter().flatten() {
            let Some(port) = port_of(&entry.path()) else { continue };
            let Ok(Some(device)) = Device::in_use(&entry.path()) else { continue };
            let there = self.lock().known.get(&port).is_some_and(|then| device.is(then, false));
            self.note_stranger(&port, !there && device.is_welcome());
        }
    }

    /// Says from now on what is refused.
    pub fn tell_to(&self, tell: impl Fn(Vec<String>) -> bool + Send + 'static) {
        let mut inner = self.lock();
        inner.tell = Some(Box::new(tell));
        inner.announce();
    }

    /// Notes in a thread what is there until the kiosk has started, and closes its ports then.
    ///
    /// # Errors
    /// No thread.
    pub fn close_later(&self) -> io::Result<()> {
        let ports = self.clone();
        std::thread::Builder::new().name("usb".to_owned()).spawn(move || {
            loop {
                ports.note();
                let rest = STARTED.saturating_sub(clock::since_boot());
                if rest.is_zero() {
                    break;
                }
                std::thread::sleep(rest.min(PACE));
            }
            ports.close();
        })?;
        Ok(())
    }

    /// Notes what is there and in use.
    fn note(&self) {
        let mut inner = self.lock();
        let before = inner.known.clone();
        for entry in folder::entries(&self.0.bus).into_iter().flatten() {
            let Some(port) = port_of(&entry.path()) else { continue };
            let Ok(Some(mut device)) = Device::in_use(&entry.path()) else { continue };
            // A driver that has not come back to it yet does not make it a device without a card.
            if let Some(then) = inner.known.get(&port).filter(|then| device.is(then, false)) {
                device.cards.extend(then.cards.iter().cloned());
            }
            if inner.known.len() < MOST || inner.known.contains_key(&port) {
                inner.known.insert(port, device);
            }
        }
        if inner.known != before {
            let fresh = self.0.kept.with_extension("new");
            let kept = serde_json::to_vec(&inner.known).map_err(io::Error::from);
            let kept =
                kept.and_then(|json| fs::write(&fresh, json)).and_then(|()| fs::rename(&fresh, &self.0.kept));
            if let Err(error) = kept {
                self.0.log.line("lockdown", &format!("what is on the USB ports cannot be kept: {error}"));
            }
        }
    }

    /// New devices at every port are left alone from now on, until [`Ports::decide`] has looked at them.
    fn close(&self) {
        let close = || {
            for entry in folder::entries(&self.0.bus)? {
                let switch = entry.path().join("authorized_default");
                if switch.exists() {
                    fs::write(switch, "0")?;
                }
            }
            io::Result::Ok(())
        };
        if let Err(error) = close() {
            self.0.log.line("lockdown", &format!("USB ports stay open: {error}"));
        }
    }

    /// Looks at what was plugged in, or at the network card that a device turned out to be.
    pub fn plugged(&self, event: &Uevent) {
        if clock::since_boot() < STARTED {
            return;
        }
        let path = Path::new(SYS).join(event.devpath.trim_start_matches('/'));
        match event.subsystem.as_str() {
            "usb" => {
                // A controller that is plugged in has ports of its own.
                self.close();
                self.decide(&path);
            }
            "net" => self.check_card(&path),
            _ => {}
        }
    }

    /// What is gone is not refused any more.
    pub fn unplugged(&self, event: &Uevent) {
        if event.subsystem == "usb"
            && let Some(port) = port_of(Path::new(&event.devpath))
        {
            // Bounded: only ports of what was there count.
            let mut inner = self.lock();
            if inner.known.contains_key(&port) {
                inner.left.insert(port.clone());
            }
            inner.strangers.remove(&port);
            drop(inner);
            self.forgive(&port);
        }
    }

    /// Looks at all that is there, because the kernel's word of some may have been lost.
    pub fn look_again(&self) {
        let gone: Vec<String> =
            self.lock().refused.keys().filter(|port| !self.0.bus.join(port).exists()).cloned().collect();
        for port in gone {
            self.forgive(&port);
        }
        if clock::since_boot() >= STARTED {
            for entry in folder::entries(&self.0.bus).into_iter().flatten() {
                self.decide(&entry.path());
            }
        }
    }

    fn forgive(&self, port: &str) {
        let mut inner = self.lock();
        if inner.refused.remove(port).is_some() {
            inner.announce();
        }
    }

    fn decide(&self, path: &Path) {
        let decided = self.judge(path);
        match decided {
            Ok(None) => {}
            Ok(Some(device)) => {
                self.refuse(path, &device.words(), "it was not there when this kiosk started")
            }
            Err(error) if folder::vanished(&error) => {}
            Err(error) => self.0.log.line("lockdown", &format!("a USB device cannot be looked at: {error}")),
        }
    }

    /// Takes a device that waits for it if it is welcome or was there at the start; otherwise answers what it is.
    fn judge(&self, path: &Path) -> io::Result<Option<Device>> {
        // An interface, or a device that was taken before.
        let Some(device) = Device::waiting(path)? else { return Ok(None) };
        let port = port_of(path).unwrap_or_default();
        if !device.is_welcome() {
            let known = self.lock().known.clone();
            let back = known.iter().any(|(its, then)| {
                let moved = *its != port;
                device.is(then, moved) && !(moved && self.is_still_there(its, then))
            });
            if !back {
                return Ok(Some(device));
            }
            self.0.log.line("lockdown", &format!("a USB device is back: {}", device.words()));
        }
        self.note_stranger(&port, device.is_welcome());
        fs::write(path.join("authorized"), "1")?;
        self.forgive(&port);
        Ok(None)
    }

    fn note_stranger(&self, port: &str, stranger: bool) {
        let mut inner = self.lock();
        if !stranger {
            inner.strangers.remove(port);
        } else if inner.strangers.len() < STRANGERS {
            inner.strangers.insert(port.to_owned());
        }
    }

    /// By what a module is chosen for the device or interface at `path`. One that is taken for its kind gets a driver of that kind:
    /// it could name any vendor and product, and so have the driver of its choice loaded.
    pub fn alias(&self, path: &Path, alias: &str) -> String {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let port = name.split(':').next().unwrap_or_default();
        let inner = self.lock();
        match alias.strip_prefix("usb:v").and_then(|rest| rest.get(NUMBERS..)) {
            Some(kind) if inner.strangers.contains(port) || inner.strangers.len() >= STRANGERS => {
                format!("usb:v0000p0000{kind}")
            }
            _ => alias.to_owned(),
        }
    }

    /// Only one of two devices that say the same of themselves is the one that was there.
    fn is_still_there(&self, port: &str, then: &Device) -> bool {
        Device::in_use(&self.0.bus.join(port)).ok().flatten().is_some_and(|now| now.is(then, false))
    }

    /// A card that says that it is one that was there, and has another address, is put out again.
    fn check_card(&self, link: &Path) {
        let Ok(link) = fs::canonicalize(link) else { return };
        let Some(path) = link.ancestors().find(|at| at.join("idVendor").exists()) else { return };
        let Ok(Some(device)) = Device::in_use(path) else { return };
        let inner = self.lock();
        let port = port_of(path).unwrap_or_default();
        let as_before = inner.known.iter().any(|(its, then)| {
            // A driver may be slow to make the link of a device that never left.
            let never_left = *its == port && !inner.left.contains(its);
            let same_card =
                if then.cards.is_empty() { never_left } else { device.cards.is_subset(&then.cards) };
            device.is(then, false) && same_card
        });
        drop(inner);
        if !as_before {
            match fs::write(path.join("authorized"), "0") {
                Ok(()) => {
                    self.refuse(
                        path,
                        &device.words(),
                        "its network address is not the one that was there at the start",
                    );
                }
                Err(error) => {
                    self.0.log.line("lockdown", &format!("a network card cannot be put out: {error}"))
                }
            }
        }
    }

    fn refuse(&self, path: &Path, what: &str, why: &str) {
        let port = port_of(path).unwrap_or_default();
        let text = format!(
            "The USB device {what} at port {port} is not used: {why}. If it belongs to this kiosk, restart the kiosk with it \
             plugged in."
        );
        let mut inner = self.lock();
        if inner.refused.get(&port) != Some(&text) && inner.refused.len() < MOST {
            self.0.log.line("lockdown", &text);
            inner.refused.insert(port, text);
            inner.announce();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn announce(&self) {
        if let Some(tell) = &self.tell {
            tell(self.refused.values().take(MOST_SHOWN).cloned().collect());
        }
    }
}

/// A device's place: the kernel's name of it, such as `1-2.3`, bus and the ports on the way. Interfaces (`1-2.3:1.0`) have
/// none.
fn port_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let fits = name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
