//! Small suspended machines, sealed as a kiosk would.

use crate::client::Client;
use parcel::{
    chunk::{self, CHUNK_SIZE},
    id::{ChunkName, Epoch, ParcelId, Version},
    keyring::{self, ChunkRef, ImageKind, LEAF_REFS, Leaf},
    record::{FORMAT, ImageInfo, Private, Public, Record},
    secret::{ParcelKey, Secret},
    tag::{CpuTag, Inventory, Tag, Wishes},
    wire::guest::Machine as Parts,
};
use std::collections::{BTreeMap, BTreeSet};

/// A random parcel id.
pub fn random_id() -> ParcelId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    ParcelId(bytes)
}

/// A parcel's secrets on its user's side.
pub struct Machine {
    pub id: ParcelId,
    key: ParcelKey,
    secret: Secret,
}

/// A version, sealed.
#[derive(Clone)]
pub struct Sealed {
    pub record: Vec<u8>,
    pub leaves: Vec<(ChunkName, Vec<u8>)>,
    pub chunks: Vec<(ChunkName, Vec<u8>)>,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_id(random_id())
    }

    pub fn with_id(id: ParcelId) -> Self {
        Self { id, key: ParcelKey::from_bytes([id.0[0]; 32]), secret: Secret::from_bytes([id.0[1]; 32]) }
    }

    /// One that was opened.
    pub fn of(id: ParcelId, key: ParcelKey) -> Self {
        Self { id, key, secret: Secret::from_bytes([id.0[1]; 32]) }
    }

    /// The parcel key.
    pub fn key(&self) -> &ParcelKey {
        &self.key
    }

    /// Version `n` from `parent`, with a disk of `chunks` chunks of which those in `content` are not holes.
    pub fn seal(&self, n: u64, parent: u64, chunks: u64, content: &BTreeMap<u64, u8>) -> Sealed {
        let bytes = chunks * CHUNK_SIZE as u64;
        let mut sealed = Sealed { record: Vec::new(), leaves: Vec::new(), chunks: Vec::new() };
        let mut names = Vec::new();
        for index in 0..keyring::leaves_for(bytes) {
            let first = index * LEAF_REFS as u64;
            let refs = (first..chunks.min(first + LEAF_REFS as u64)).map(|i| {
                let seed = content.get(&i)?;
                let chunk = chunk::seal(&self.secret, &[*seed; 1000], 1).unwrap();
                sealed.chunks.push((chunk.name, chunk.bytes));
                Some(ChunkRef { name: chunk.name, key: chunk.key, secret: 0 })
            });
            let leaf = Leaf { refs: refs.collect() };
            names.push(leaf.refs.iter().any(Option::is_some).then(|| {
                let object = leaf.seal(&self.key, &self.id, ImageKind::Disk, index as u32).unwrap();
                sealed.leaves.push((object.name, object.bytes));
                object.name
            }));
        }
        let disk = ImageInfo { kind: ImageKind::Disk, bytes, leaves: names };
        sealed.record = self.record(n, parent, vec![disk], wants(512));
        sealed
    }

    /// A record of these images.
    pub fn record(&self, n: u64, parent: u64, images: Vec<ImageInfo>, tag: Tag) -> Vec<u8> {
        let public = Public {
            format: FORMAT,
            parcel: self.id,
            version: Version(n),
            parent: Version(parent),
            created_at: 1_700_000_000 + n,
            kiosk: "a".to_owned(),
            tag,
            machine: Parts {
                vcpus: 1,
                memory_mib: 512,
                cpu_baseline: "x86-64-v2".to_owned(),
                mac: "52:54:00:00:00:01".to_owned(),
            },
            images,
            memory_lost: false,
        };
        let private =
            Private { secrets: vec![self.secret.clone()], cmdline: String::new(), working_set: Vec::new() };
        Record { public, private }.seal(&self.key).unwrap()
    }
}

impl Sealed {
    /// Sends chunks and leaves.
    pub async fn send(&self, client: &Client, id: ParcelId, epoch: Epoch) {
        for (name, bytes) in self.chunks.iter().chain(&self.leaves) {
            client.put_chunk(id, epoch, *name, bytes).await.unwrap();
        }
    }

    /// Names of everything but the record.
    pub fn names(&self) -> Vec<ChunkName> {
        self.chunks.iter().chain(&self.leaves).map(|(name, _)| *name).collect()
    }
}

/// A tag that wants so much memory.
pub fn wants(memory_mib: u64) -> Tag {
    Tag {
        cpu: CpuTag {
            vendor: None,
            baseline: "x86-64-v2".to_owned(),
            features: BTreeSet::from(["aes".to_owned()]),
        },
        vcpus: 1,
        memory_mib,
        device_model: 1,
        wishes: Wishes { sound: true, ..Wishes::default() },
    }
}

/// What a kiosk with so much memory has: everything that [`wants`] asks for but sound.
pub fn kiosk(memory_mib: u64) -> Inventory {
    let mut features = parcel::tag::baseline_features("x86-64-v2").unwrap();
    features.insert("aes".to_owned());
    Inventory {
        vendor: "AuthenticAMD".to_owned(),
        cpu_model: "Test".to_owned(),
        features,
        cpus: 2,
        memory_mib,
        device_models: BTreeSet::from([1]),
        kvm: true,
        screen: None,
        sound: false,
        kbit_per_s: None,
    }
}
