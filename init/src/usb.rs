//! What may be plugged in once the kiosk has started: keyboards, mice, disks and hubs. Anything else (a network card that
//! wants to be the way out, a device for a driver with a hole) is not configured by the kernel, so no driver sees it.
//!
//! While the kiosk starts, everything is taken: its own devices turn up late and in any order.

use crate::{clock, folder, log::Log, uevent::Uevent};
use std::{fs, io, path::Path, time::Duration};

/// Since the kernel's start: what is there by then belongs to the kiosk.
const STARTED: Duration = Duration::from_secs(120);
/// Where the kernel lists USB devices, and where all devices are.
const BUS: &str = "/sys/bus/usb/devices";
const SYS: &str = "/sys";
/// Interface classes of the USB Implementers Forum: human interface, mass storage, hub.
const WELCOME: [u8; 3] = [3, 8, 9];
/// `USB_DT_INTERFACE`, and where in such a descriptor the class is.
const INTERFACE: u8 = 4;
const CLASS_AT: usize = 5;

/// Waits in a thread until the kiosk has started, and closes its ports then.
///
/// # Errors
/// No thread.
pub fn close_later(log: &Log) -> io::Result<()> {
    let log = log.clone();
    std::thread::Builder::new().name("usb".to_owned()).spawn(move || {
        std::thread::sleep(STARTED.saturating_sub(clock::since_boot()));
        if let Err(error) = close(Path::new(BUS)) {
            log.line("lockdown", &format!("USB ports stay open: {error}"));
        }
    })?;
    Ok(())
}

/// New devices at every port are left alone from now on, until [`welcome`] has looked at them.
fn close(bus: &Path) -> io::Result<()> {
    for entry in folder::entries(bus)? {
        let switch = entry.path().join("authorized_default");
        if switch.exists() {
            fs::write(switch, "0")?;
        }
    }
    Ok(())
}

/// Looks at what was plugged in.
pub fn plugged(event: &Uevent, log: &Log) {
    if event.subsystem != "usb" || clock::since_boot() < STARTED {
        return;
    }
    // A controller that is plugged in has ports of its own.
    if let Err(error) = close(Path::new(BUS)) {
        log.line("lockdown", &format!("USB ports stay open: {error}"));
    }
    decide(&Path::new(SYS).join(event.devpath.trim_start_matches('/')), log);
}

/// Looks at all that is there, because the kernel's word of some may have been lost.
pub fn look_again(log: &Log) {
    for entry in folder::entries(Path::new(BUS)).into_iter().flatten() {
        decide(&entry.path(), log);
    }
}

fn decide(device: &Path, log: &Log) {
    match welcome(device) {
        Ok(None) => {}
        Ok(Some(classes)) => log.line(
            "lockdown",
            &format!(
                "a USB device was plugged in and is left alone: only keyboards, mice, disks and hubs are taken after the \
                 start (its interface classes: {classes:?})"
            ),
        ),
        Err(error) if folder::vanished(&error) => {}
        Err(error) => log.line("lockdown", &format!("a USB device cannot be looked at: {error}")),
    }
}

/// Takes a device that waits for it if it is welcome; otherwise answers its interface classes.
fn welcome(device: &Path) -> io::Result<Option<Vec<u8>>> {
    let switch = device.join("authorized");
    match folder::text_of(&switch)? {
        Some(text) if text.trim() == "0" => {}
        // An interface, or a device that was taken before.
        _ => return Ok(None),
    }
    let classes = classes(&fs::read(device.join("descriptors"))?);
    if classes.is_empty() || classes.iter().any(|class| !WELCOME.contains(class)) {
        return Ok(Some(classes));
    }
    fs::write(switch, "1")?;
    Ok(None)
}

/// Classes of all interfaces in a device's descriptors; none if they are broken.
fn classes(mut descriptors: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while let Some(&len) = descriptors.first() {
        let Some((one, rest)) = descriptors.split_at_checked(usize::from(len)) else { return Vec::new() };
        match one {
            [] | [_] => return Vec::new(),
            [_, INTERFACE, ..] => match one.get(CLASS_AT) {
                Some(class) if !found.contains(class) => found.push(*class),
                Some(_) => {}
                None => return Vec::new(),
            },
            _ => {}
        }
        descriptors = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A device descriptor, a configuration, and an interface of each class.
    fn descriptors(of: &[u8]) -> Vec<u8> {
        let mut bytes = vec![18, 1];
        bytes.resize(18, 0);
        bytes.extend([9, 2, 0, 0, 1, 1, 0, 0x80, 50]);
        for class in of {
            bytes.extend([9, INTERFACE, 0, 0, 1, *class, 1, 1, 0]);
            // An endpoint, whose sixth byte is no class.
            bytes.extend([7, 5, 0x81, 3, 8, 2, 10]);
        }
        bytes
    }

    #[test]
    fn keyboards_and_disks_are_taken_and_network_cards_are_not() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("1-2");
        fs::create_dir(&device).unwrap();
        for (of, taken) in
            [(vec![3], true), (vec![8], true), (vec![9], true), (vec![3, 2, 10], false), (vec![], false)]
        {
            fs::write(device.join("authorized"), "0\n").unwrap();
            fs::write(device.join("descriptors"), descriptors(&of)).unwrap();
            assert_eq!(welcome(&device).unwrap().is_none(), taken, "{of:?}");
            let now = fs::read_to_string(device.join("authorized")).unwrap();
            assert_eq!(now.trim(), if taken { "1" } else { "0" }, "{of:?}");
        }
        // One that the kernel took while the kiosk started stays.
        fs::write(device.join("authorized"), "1\n").unwrap();
        assert_eq!(welcome(&device).unwrap(), None);
    }

    #[test]
    fn every_controller_is_closed() {
        let bus = tempfile::tempdir().unwrap();
        for name in ["usb1", "usb2", "1-1"] {
            fs::create_dir(bus.path().join(name)).unwrap();
        }
        for name in ["usb1", "usb2"] {
            fs::write(bus.path().join(name).join("authorized_default"), "1").unwrap();
        }
        close(bus.path()).unwrap();
        for name in ["usb1", "usb2"] {
            let now = fs::read_to_string(bus.path().join(name).join("authorized_default")).unwrap();
            assert_eq!(now, "0");
        }
        assert!(!bus.path().join("1-1/authorized_default").exists());
    }

    proptest! {
        #[test]
        fn broken_descriptors_are_of_no_class(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 1usize..9) {
            let _ = classes(&bytes);
            let whole = descriptors(&[3]);
            bytes = whole[..whole.len() - 7 - cut].to_vec();
            prop_assert!(classes(&bytes).is_empty());
        }
    }
}
