//! A bounded cache of opened chunks, least recently used out first.

use crate::fetch::Plain;
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

/// Opened chunks in memory.
pub struct RamCache<Name> {
    bytes: usize,
    tick: u64,
    chunks: HashMap<Name, (u64, Arc<Plain>)>,
    order: BTreeMap<u64, Name>,
}

impl<Name> Default for RamCache<Name> {
    fn default() -> Self {
        Self { bytes: 0, tick: 0, chunks: HashMap::new(), order: BTreeMap::new() }
    }
}

impl<Name: Copy + Eq + Hash> RamCache<Name> {
    /// The chunk, if it is here.
    pub fn get(&mut self, name: &Name) -> Option<Arc<Plain>> {
        let (tick, plain) = self.chunks.get_mut(name)?;
        self.order.remove(tick);
        self.tick += 1;
        *tick = self.tick;
        self.order.insert(self.tick, *name);
        Some(plain.clone())
    }

    /// Takes a chunk in, and others out, so that it keeps at most `most` bytes.
    pub fn put(&mut self, name: Name, plain: Arc<Plain>, most: usize) {
        if self.get(&name).is_none() && plain.len() <= most {
            self.bytes += plain.len();
            self.tick += 1;
            self.order.insert(self.tick, name);
            self.chunks.insert(name, (self.tick, plain));
        }
        self.fit(most);
    }

    /// Lets chunks go until it keeps at most `most` bytes.
    pub fn fit(&mut self, most: usize) {
        while self.bytes > most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((_, plain)) = self.chunks.remove(&oldest) {
                self.bytes -= plain.len();
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = RamCache::default();
        let put = |cache: &mut RamCache<u8>, i: u8, bytes: usize| {
            cache.put(i, Arc::new(Zeroizing::new(vec![i; bytes])), 30);
        };
        for i in 0..3 {
            put(&mut cache, i, 10);
        }
        assert!(cache.get(&0).is_some());
        put(&mut cache, 3, 10);
        assert!(cache.get(&1).is_none());
        assert!([0, 2, 3].iter().all(|i| cache.get(i).is_some_and(|plain| plain[0] == *i)));
        put(&mut cache, 9, 31);
        assert!(cache.get(&9).is_none());
        cache.fit(15);
        assert!(cache.get(&3).is_some() && cache.get(&0).is_none() && cache.get(&2).is_none());
    }
}
