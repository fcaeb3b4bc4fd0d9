//! How many bytes moved to and from the server.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

/// Bytes moved to and from the server since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Traffic {
    /// Counts bytes received.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
        self.touch();
    }

    /// Counts bytes sent.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
        self.touch();
    }

    /// Somebody may want to look.
    pub fn touch(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Tells when something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// `(received, sent)` since the start.
    pub fn totals(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }
}
