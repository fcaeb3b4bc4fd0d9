//! Hostile bytes, read as the steps of a program or as changes to something good.

/// Bytes from which numbers are taken until there are no more.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.bytes(1).first().copied()
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(2).try_into().ok()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4).try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8).try_into().ok()?))
    }

    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}

/// `good` with changes: first how many there are, then place and value of each, and at last what is appended.
pub fn changed(good: &[u8], input: &mut Input) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..input.u8().unwrap_or(0) % 16 {
        let (Some(place), Some(value)) = (input.u16(), input.u8()) else { break };
        match usize::from(place) {
            // A stream that ends early.
            0xffff => bytes.truncate(usize::from(value) * 4),
            place => {
                let len = bytes.len().max(1);
                bytes.iter_mut().skip(place % len).take(1).for_each(|byte| *byte = value);
            }
        }
    }
    bytes
}
