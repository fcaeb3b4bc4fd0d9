//! Values that tests share. Golden files hold them: they never change.

use parcel::{
    id::{ChunkName, ParcelId, Version},
    keyring::{ChunkRef, ImageKind, LEAF_REFS, Leaf, leaves_for},
    record::{ImageInfo, Private, Public, Record},
    secret::{ChunkKey, ParcelKey, Secret},
    tag::{CpuTag, Inventory, Tag, Wishes, baseline_features},
    wire::guest::Machine,
};

/// Thirty-two bytes that are not all the same.
pub fn bytes32(seed: u8) -> [u8; 32] {
    std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8 * 7))
}

pub fn secret() -> Secret {
    Secret::from_bytes(bytes32(1))
}

pub fn parcel_key() -> ParcelKey {
    ParcelKey::from_bytes(bytes32(2))
}

pub fn parcel_id() -> ParcelId {
    ParcelId(std::array::from_fn(|i| 0xa0 + i as u8))
}

pub fn name(seed: u8) -> ChunkName {
    ChunkName(std::array::from_fn(|i| seed ^ (i as u8 * 11)))
}

/// A leaf with holes at its ends and in its middle.
pub fn leaf() -> Leaf {
    let one = |i: u8| Some(ChunkRef { name: name(i), key: ChunkKey::from_bytes(bytes32(i)), secret: i % 3 });
    let refs = (0..21).map(|i| if matches!(i, 0 | 7 | 8 | 20) { None } else { one(i) }).collect();
    Leaf { refs }
}

pub fn tag() -> Tag {
    Tag {
        cpu: CpuTag {
            vendor: Some("AuthenticAMD".to_owned()),
            baseline: "x86-64-v2".to_owned(),
            features: baseline_features("x86-64-v2").unwrap(),
        },
        vcpus: 2,
        memory_mib: 512,
        device_model: 1,
        wishes: Wishes { screen: Some((80, 25)), cores: Some(2), sound: false, kbit_per_s: Some(1000) },
    }
}

/// A kiosk that meets [`tag`] exactly.
pub fn inventory() -> Inventory {
    Inventory {
        vendor: "AuthenticAMD".to_owned(),
        cpu_model: "AMD EPYC".to_owned(),
        features: baseline_features("x86-64-v2").unwrap(),
        cpus: 2,
        memory_mib: 512,
        device_models: [1].into(),
        kvm: true,
        screen: Some((80, 25)),
        sound: false,
        kbit_per_s: Some(1000),
    }
}

pub fn machine() -> Machine {
    Machine {
        vcpus: 2,
        memory_mib: 512,
        cpu_baseline: "x86-64-v2".to_owned(),
        mac: "52:54:00:12:34:56".to_owned(),
    }
}

fn image(kind: ImageKind, bytes: u64, first: u8) -> ImageInfo {
    let count = leaves_for(bytes) as u8;
    let leaves = (0..count).map(|i| if i % 3 == 1 { None } else { Some(name(first + i)) }).collect();
    ImageInfo { kind, bytes, leaves }
}

/// A suspended machine with a 4 GiB disk and 512 MiB of memory.
pub fn record() -> Record {
    Record {
        public: Public {
            format: 1,
            parcel: parcel_id(),
            version: Version(7),
            parent: Version(5),
            created_at: 1_700_000_000,
            kiosk: "lobby-3".to_owned(),
            tag: tag(),
            machine: machine(),
            images: vec![
                image(ImageKind::Disk, 4 << 30, 100),
                image(ImageKind::Packs, LEAF_REFS as u64 * 131_072 + 5, 150),
                image(ImageKind::PageMap, 131_072 * 4, 180),
                image(ImageKind::State, 54_321, 190),
                image(ImageKind::Kernel, 8 << 20, 200),
                image(ImageKind::Initrd, 20 << 20, 210),
            ],
            memory_lost: false,
        },
        private: Private {
            secrets: vec![secret(), Secret::from_bytes(bytes32(9))],
            cmdline: "root=/dev/vda1 ro quiet".to_owned(),
            working_set: vec![3, 1, 4, 1, 5, 9, 2, 6],
        },
    }
}
