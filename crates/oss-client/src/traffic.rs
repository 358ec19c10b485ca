//! How many bytes of objects this process has received, and how many of them it has compared with a checksum of OSS.

use std::sync::atomic::{AtomicU64, Ordering};

// Of the process, since clients come and go with datasets: what was compared can be shown for all of them together.
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static COMPARED: AtomicU64 = AtomicU64::new(0);

/// Counts of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of objects received; bytes that were requested twice count twice.
    pub received: u64,
    /// Bytes of whole objects whose CRC-64 was compared with the one that OSS stores, and was equal.
    pub compared: u64,
}

impl Traffic {
    /// What this process has counted so far. A forked child continues from the counts of its parent.
    pub fn so_far() -> Self {
        Self { received: RECEIVED.load(Ordering::Relaxed), compared: COMPARED.load(Ordering::Relaxed) }
    }
}

pub(crate) fn count_received(bytes: u64) {
    RECEIVED.fetch_add(bytes, Ordering::Relaxed);
}

pub(crate) fn count_compared(bytes: u64) {
    COMPARED.fetch_add(bytes, Ordering::Relaxed);
}
