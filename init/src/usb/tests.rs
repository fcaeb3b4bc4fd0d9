use super::{
    device::{INTERFACE, classes},
    *,
};
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

/// A bus, what is plugged into it, and what the screen was told.
struct Desk {
    folder: tempfile::TempDir,
    ports: Ports,
    told: Arc<Mutex<Vec<String>>>,
}

const CARD: &[u8] = &[255];
const MAC: &str = "00:e0:4c:68:01:02";

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bus")).unwrap();
        let ports = Self::ports(&folder);
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        ports.tell_to(move |refused| {
            *hears.lock().unwrap() = refused;
            true
        });
        Self { folder, ports, told }
    }

    fn ports(folder: &tempfile::TempDir) -> Ports {
        let log = Log::open(folder.path(), None);
        Ports::at(&folder.path().join("bus"), &folder.path().join("usb.json"), &log)
    }

    fn at(&self, port: &str) -> PathBuf {
        self.folder.path().join("bus").join(port)
    }

    fn put(&self, port: &str, of: &[u8], product: &str, serial: &str, authorized: &str) {
        let _ = fs::remove_dir_all(self.at(port));
        fs::create_dir(self.at(port)).unwrap();
        let fields =
            [("idVendor", "0bda"), ("idProduct", product), ("product", "USB LAN"), ("serial", serial)];
        for (field, text) in fields.into_iter().chain([("authorized", authorized)]) {
            fs::write(self.at(port).join(field), format!("{text}\n")).unwrap();
        }
        fs::write(self.at(port).join("descriptors"), descriptors(of)).unwrap();
    }

    /// The driver has it and made a link.
    fn link(&self, port: &str, address: &str) -> PathBuf {
        let link = self.at(port).join(format!("{port}:1.0/net/eth7"));
        fs::create_dir_all(&link).unwrap();
        fs::write(link.join("address"), format!("{address}\n")).unwrap();
        link
    }

    fn unplug(&self, port: &str) {
        fs::remove_dir_all(self.at(port)).unwrap();
        self.ports.unplugged(&Uevent {
            action: "remove".into(),
            subsystem: "usb".into(),
            devpath: format!("/devices/x/{port}"),
            ..Uevent::default()
        });
    }

    /// Plugs in, and tells whether it was taken.
    fn plug(&self, port: &str, of: &[u8], product: &str, serial: &str) -> bool {
        self.put(port, of, product, serial, "0");
        self.ports.decide(&self.at(port));
        self.is_taken(port)
    }

    fn is_taken(&self, port: &str) -> bool {
        fs::read_to_string(self.at(port).join("authorized")).unwrap().trim() == "1"
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

#[test]
fn keyboards_and_disks_are_taken_and_network_cards_are_not() {
    let desk = Desk::new();
    for (of, taken) in
        [(&[3][..], true), (&[8], true), (&[9], true), (&[3, 2, 10], false), (&[], false), (CARD, false)]
    {
        assert_eq!(desk.plug("1-2", of, "8153", ""), taken, "{of:?}");
        desk.unplug("1-2");
        // Again, and behind a hub.
        assert!(desk.plug("1-2", &[9], "0001", ""));
        assert_eq!(desk.plug("1-2.1", of, "8153", ""), taken, "{of:?}");
        desk.unplug("1-2.1");
        desk.unplug("1-2");
    }
    assert_eq!(desk.told(), Vec::<String>::new());
}

/// It could have the driver of its choice loaded.
#[test]
fn a_late_device_gets_a_driver_of_its_kind_and_not_by_its_numbers() {
    let desk = Desk::new();
    let alias = "usb:v0BDAp8153d3000dc00dsc00dp00ic03isc01ip01in00";
    let at = |port: &str| desk.at(port).join(format!("{port}:1.0"));
    let by_kind = "usb:v0000p0000d3000dc00dsc00dp00ic03isc01ip01in00";
    assert_eq!(desk.ports.alias(&at("1-2"), alias), alias, "it was there at the start");
    assert!(desk.plug("1-2", &[3], "8153", ""));
    assert_eq!(desk.ports.alias(&at("1-2"), alias), by_kind);
    assert_eq!(desk.ports.alias(&desk.at("1-2"), alias), by_kind);
    assert_eq!(desk.ports.alias(&at("1-21"), alias), alias);
    // Other buses have aliases of their own.
    for other in ["hid:b0003g0001v0000046Dp0000C52B", "usb:v", "usb:v0BDA"] {
        assert_eq!(desk.ports.alias(&at("1-2"), other), other);
    }
    // What was there at the start keeps its driver.
    desk.unplug("1-2");
    desk.put("2-1", CARD, "8153", "", "1");
    desk.link("2-1", MAC);
    desk.ports.note();
    assert!(desk.plug("1-2", &[3], "8153", ""));
    let restarted = Desk::ports(&desk.folder);
    assert_eq!([at("1-2"), at("2-1")].map(|path| restarted.alias(&path, alias)), [by_kind, alias]);
    desk.unplug("2-1");
    assert!(desk.plug("2-1", CARD, "8153", ""));
    assert_eq!(desk.ports.alias(&at("2-1"), alias), alias);
}

#[test]
fn the_card_of_a_dock_comes_back_and_a_stranger_does_not() {
    let desk = Desk::new();
    desk.put("2-1.4", CARD, "8153", "", "1");
    desk.link("2-1.4", MAC);
    desk.ports.note();
    desk.unplug("2-1.4");
    assert!(desk.plug("2-1.4", CARD, "8153", ""), "the same card at the same port");
    let link = desk.link("2-1.4", MAC);
    desk.ports.check_card(&link);
    assert!(desk.is_taken("2-1.4") && desk.told().is_empty());
    desk.unplug("2-1.4");
    // One that says the same of itself has another address.
    assert!(desk.plug("2-1.4", CARD, "8153", ""));
    let link = desk.link("2-1.4", "00:e0:4c:68:01:03");
    desk.ports.check_card(&link);
    assert!(!desk.is_taken("2-1.4"));
    assert!(desk.told()[0].contains("network address"), "{:?}", desk.told());
    desk.unplug("2-1.4");
    // Another make, another kind, and another port without a serial number.
    for (port, of, product) in
        [("2-1.4", CARD, "8152"), ("2-1.4", &[255, 3], "8153"), ("2-1.3", CARD, "8153")]
    {
        assert!(!desk.plug(port, of, product, ""), "{port} {of:?} {product}");
        let told = desk.told();
        assert!(told.len() == 1 && told[0].contains("USB LAN") && told[0].contains(port), "{told:?}");
        assert!(told[0].contains(&format!("0bda:{product}")), "{told:?}");
        desk.unplug(port);
        assert!(desk.told().is_empty());
    }
}

#[test]
fn a_card_with_a_number_comes_back_at_any_port_but_only_once() {
    let desk = Desk::new();
    desk.put("2-1", CARD, "8153", "5F81A7C204", "1");
    desk.put("2-2", CARD, "8153", "000001", "1");
    desk.ports.note();
    assert!(!desk.plug("1-3", CARD, "8153", "5F81A7C204"), "the one that was there is still there");
    desk.unplug("2-1");
    assert!(desk.plug("1-3", CARD, "8153", "5F81A7C204"));
    assert!(!desk.plug("1-4", CARD, "8153", "5F81A7C205"));
    desk.unplug("2-2");
    assert!(!desk.plug("1-5", CARD, "8153", "000001"), "a maker's filler is no number");
    assert!(desk.plug("2-2", CARD, "8153", "000001"));
}

#[test]
fn a_manager_after_a_crash_still_knows_what_was_there() {
    let desk = Desk::new();
    desk.put("2-1", CARD, "8153", "", "1");
    desk.ports.note();
    fs::remove_dir_all(desk.at("2-1")).unwrap();
    let next = Desk::ports(&desk.folder);
    next.note();
    desk.put("2-1", CARD, "8153", "", "0");
    next.decide(&desk.at("2-1"));
    assert!(desk.is_taken("2-1"));
}

#[test]
fn a_driver_that_is_slow_does_not_cost_a_card_its_place() {
    let desk = Desk::new();
    desk.put("2-1", CARD, "8153", "", "1");
    desk.ports.note();
    let link = desk.link("2-1", MAC);
    desk.ports.check_card(&link);
    assert!(desk.is_taken("2-1") && desk.told().is_empty());
    // Nobody saw which card it was: what comes back may be another.
    desk.unplug("2-1");
    assert!(desk.plug("2-1", CARD, "8153", ""));
    let link = desk.link("2-1", MAC);
    desk.ports.check_card(&link);
    assert!(!desk.is_taken("2-1"));
}

#[test]
fn what_waits_is_not_noted_as_being_there() {
    let desk = Desk::new();
    desk.put("2-1", CARD, "8153", "", "0");
    desk.ports.note();
    assert!(!desk.plug("2-1", CARD, "8153", ""));
}

#[test]
fn every_controller_is_closed() {
    let desk = Desk::new();
    for name in ["usb1", "usb2", "1-1"] {
        fs::create_dir(desk.at(name)).unwrap();
    }
    for name in ["usb1", "usb2"] {
        fs::write(desk.at(name).join("authorized_default"), "1").unwrap();
    }
    desk.ports.close();
    for name in ["usb1", "usb2"] {
        assert_eq!(fs::read_to_string(desk.at(name).join("authorized_default")).unwrap(), "0");
    }
    assert!(!desk.at("1-1/authorized_default").exists());
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
