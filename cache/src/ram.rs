//! A bounded cache of opened chunks, least recently used out first.

use crate::fetch::Plain;
use parcel::id::ChunkName;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Opened chunks in memory.
pub struct RamCache {
    most: usize,
    bytes: usize,
    tick: u64,
    chunks: HashMap<ChunkName, (u64, Arc<Plain>)>,
    order: BTreeMap<u64, ChunkName>,
}

impl RamCache {
    /// A cache of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, bytes: 0, tick: 0, chunks: HashMap::new(), order: BTreeMap::new() }
    }

    /// The chunk, if it is here.
    pub fn get(&mut self, name: &ChunkName) -> Option<Arc<Plain>> {
        let (tick, plain) = self.chunks.get_mut(name)?;
        self.order.remove(tick);
        self.tick += 1;
        *tick = self.tick;
        self.order.insert(self.tick, *name);
        Some(plain.clone())
    }

    /// Takes a chunk in, and others out if need be.
    pub fn put(&mut self, name: ChunkName, plain: Arc<Plain>) {
        if self.get(&name).is_some() || plain.len() > self.most {
            return;
        }
        self.bytes += plain.len();
        self.tick += 1;
        self.order.insert(self.tick, name);
        self.chunks.insert(name, (self.tick, plain));
        while self.bytes > self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((_, plain)) = self.chunks.remove(&oldest) {
                self.bytes -= plain.len();
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::new(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = RamCache::new(30);
        let name = |i: u8| ChunkName([i; 20]);
        for i in 0..3 {
            cache.put(name(i), Arc::new(Zeroizing::new(vec![i; 10])));
        }
        assert!(cache.get(&name(0)).is_some());
        cache.put(name(3), Arc::new(Zeroizing::new(vec![3; 10])));
        assert!(cache.get(&name(1)).is_none());
        assert!([0, 2, 3].iter().all(|i| cache.get(&name(*i)).is_some_and(|plain| plain[0] == *i)));
        cache.put(name(9), Arc::new(Zeroizing::new(vec![0; 31])));
        assert!(cache.get(&name(9)).is_none());
    }
}
