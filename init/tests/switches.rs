//! Power button and lid, by the bytes that the kernel sends; the input devices are fifos in a tree of the test's own, or
//! the kernel's where it has `uinput`.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use waystation_init::{switches::Switches, system::Sign};

/// What an ACPI power button, a lid and a keyboard say of themselves.
const POWER: (&str, &str) = ("10000000000000 0", "0");
const LID: (&str, &str) = ("0", "1");
const KEYBOARD: (&str, &str) = ("1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe", "0");

struct Tree {
    folder: tempfile::TempDir,
    switches: Switches,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("dev/input")).unwrap();
        let switches = Switches::new(
            folder.path().join("sys"),
            folder.path().join("dev"),
            10,
            Duration::from_secs(3600),
        );
        Self { folder, switches }
    }

    fn device(&self, name: &str) -> PathBuf {
        self.folder.path().join("sys/class/input").join(name)
    }

    /// Plugs an input device in; what is written into the file is what it says.
    fn plug(&self, name: &str, (keys, switches): (&str, &str)) -> File {
        let says = self.device(name).join("device/capabilities");
        fs::create_dir_all(&says).unwrap();
        fs::write(says.join("key"), format!("{keys}\n")).unwrap();
        fs::write(says.join("sw"), format!("{switches}\n")).unwrap();
        let node = self.folder.path().join("dev/input").join(name);
        nix::unistd::mkfifo(&node, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
        OpenOptions::new().read(true).write(true).open(node).unwrap()
    }

    fn unplug(&self, name: &str) {
        fs::remove_dir_all(self.device(name)).unwrap();
        fs::remove_file(self.folder.path().join("dev/input").join(name)).unwrap();
    }

    fn told(&mut self) -> Vec<Sign> {
        self.switches.next(Duration::from_millis(1)).1
    }
}

/// `struct input_event` of x86_64.
fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
    let (seconds, micros) = (1_700_000_000i64, 5i64);
    let parts: [&[u8]; 5] = [
        &seconds.to_ne_bytes(),
        &micros.to_ne_bytes(),
        &kind.to_ne_bytes(),
        &code.to_ne_bytes(),
        &value.to_ne_bytes(),
    ];
    parts.concat()
}

/// A key or switch, and the report that ends it.
fn report(kind: u16, code: u16, value: i32) -> Vec<u8> {
    [event(kind, code, value), event(0, 0, 0)].concat()
}

#[test]
fn a_press_and_a_closing_lid_are_signs_and_nothing_else_is() {
    let mut tree = Tree::new();
    let (mut power, mut lid) = (tree.plug("event0", POWER), tree.plug("event1", LID));
    let mut keyboard = tree.plug("event2", KEYBOARD);
    fs::create_dir_all(tree.device("mouse0")).unwrap();
    assert_eq!(tree.told(), []);
    power.write_all(&report(1, 116, 1)).unwrap();
    assert_eq!(tree.told(), [Sign::Button]);
    // Held, released, another key; the lid opened; and what is typed on a keyboard.
    for bytes in
        [report(1, 116, 2), report(1, 116, 0), report(1, 28, 1), report(5, 116, 1), report(4, 116, 1)]
    {
        power.write_all(&bytes).unwrap();
    }
    lid.write_all(&report(5, 0, 0)).unwrap();
    lid.write_all(&report(5, 1, 1)).unwrap();
    keyboard.write_all(&report(1, 116, 1)).unwrap();
    assert_eq!(tree.told(), []);
    lid.write_all(&report(5, 0, 1)).unwrap();
    power.write_all(&report(1, 116, 1)).unwrap();
    assert_eq!(tree.told(), [Sign::Button, Sign::Lid]);
}

/// A keyboard's node is not even opened: a writer that does not wait for a reader finds none.
#[test]
fn nobody_reads_what_is_typed() {
    use std::os::unix::fs::OpenOptionsExt;
    let mut tree = Tree::new();
    let (power, keyboard) = (tree.plug("event0", POWER), tree.plug("event2", KEYBOARD));
    assert_eq!(tree.told(), []);
    let writer = |name: &str| {
        let node = tree.folder.path().join("dev/input").join(name);
        OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(node)
    };
    drop((power, keyboard));
    assert!(writer("event0").is_ok());
    assert_eq!(writer("event2").unwrap_err().raw_os_error(), Some(nix::libc::ENXIO));
}

#[test]
fn devices_come_and_go() {
    let mut tree = Tree::new();
    assert_eq!(tree.told(), []);
    let mut power = tree.plug("event3", POWER);
    assert_eq!(tree.switches.next(Duration::ZERO).0, [tree.folder.path().join("dev/input/event3")]);
    power.write_all(&report(1, 116, 1)).unwrap();
    assert_eq!(tree.told(), [Sign::Button]);
    drop(power);
    tree.unplug("event3");
    assert_eq!(tree.told(), []);
    // The same number is another device now, whose node comes a moment later.
    let mut lid = tree.plug("event3", LID);
    let node = tree.folder.path().join("dev/input/event3");
    let aside = node.with_extension("aside");
    fs::rename(&node, &aside).unwrap();
    assert_eq!(tree.told(), []);
    fs::rename(&aside, &node).unwrap();
    assert_eq!(tree.told(), []);
    lid.write_all(&report(5, 0, 1)).unwrap();
    assert_eq!(tree.told(), [Sign::Lid]);
}

#[test]
fn a_low_battery_is_told_again_and_that_it_is_over_is_told_once() {
    let mut tree = Tree::new();
    let battery = tree.folder.path().join("sys/class/power_supply/BAT0");
    let says = |name: &str, text: &str| fs::write(battery.join(name), format!("{text}\n")).unwrap();
    fs::create_dir_all(&battery).unwrap();
    says("type", "Battery");
    says("status", "Discharging");
    says("capacity", "9");
    assert_eq!(tree.told(), [Sign::Battery(9)]);
    says("capacity", "8");
    assert_eq!(tree.told(), [], "it is not looked at all the time");
    let (sys, dev) = (tree.folder.path().join("sys"), tree.folder.path().join("dev"));
    let mut switches = Switches::new(sys, dev, 10, Duration::ZERO);
    let mut told = || switches.next(Duration::ZERO).1;
    assert_eq!(told(), [Sign::Battery(8)]);
    assert_eq!(told(), [Sign::Battery(8)]);
    says("status", "Charging");
    assert_eq!(told(), [Sign::Powered]);
    assert_eq!(told(), []);
}

#[test]
fn it_waits_for_a_press_and_no_longer() {
    let mut tree = Tree::new();
    let mut power = tree.plug("event0", POWER);
    tree.told();
    let begun = Instant::now();
    let pressing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        power.write_all(&report(1, 116, 1)).unwrap();
        power
    });
    assert_eq!(tree.switches.next(Duration::from_secs(60)).1, [Sign::Button]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    drop(pressing.join().unwrap());
}

/// The kernel's own device, on machines that can make one.
#[test]
fn a_button_that_the_kernel_knows() {
    let uinput = Path::new("/dev/uinput");
    let Ok(mut device) = OpenOptions::new().write(true).open(uinput) else {
        eprintln!("{} cannot be opened here: this test needs it", uinput.display());
        return;
    };
    let mut switches = Switches::new("/sys", "/dev", 0, Duration::ZERO);
    let before = switches.next(Duration::ZERO).0;
    uinput::make(&device);
    let until = Instant::now() + Duration::from_secs(10);
    let mut new = Vec::new();
    while new.is_empty() {
        assert!(Instant::now() < until, "the kernel's device was not found, only {before:?}");
        new = switches.next(Duration::from_millis(50)).0;
    }
    device.write_all(&report(1, 116, 1)).unwrap();
    assert_eq!(switches.next(Duration::from_secs(10)).1, [Sign::Button]);
}

/// Of `linux/uinput.h`.
mod uinput {
    use nix::libc;
    use std::{fs::File, io::Write, os::fd::AsRawFd};

    const UI_SET_EVBIT: libc::c_ulong = 0x4004_5564;
    const UI_SET_KEYBIT: libc::c_ulong = 0x4004_5565;
    const UI_DEV_CREATE: libc::c_ulong = 0x5501;

    /// Makes a device with a power key, and nothing else, of an open `/dev/uinput`.
    pub fn make(mut device: &File) {
        let fd = device.as_raw_fd();
        // SAFETY: both take an integer.
        assert_eq!(unsafe { libc::ioctl(fd, UI_SET_EVBIT, 1) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::ioctl(fd, UI_SET_KEYBIT, 116) }, 0);
        // `struct uinput_user_dev`: name, ids, effects, and four tables of 64 axes.
        let mut description = [0u8; 80 + 8 + 4 + 4 * 64 * 4];
        description[..4].copy_from_slice(b"test");
        device.write_all(&description).unwrap();
        // SAFETY: it takes nothing.
        assert_eq!(unsafe { libc::ioctl(fd, UI_DEV_CREATE) }, 0);
    }
}
