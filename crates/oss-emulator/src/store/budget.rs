//! A limit on the bytes kept in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// The bytes that all bodies together may take.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// The share of one body, nothing so far.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { budget: Arc::clone(self), bytes: AtomicU64::new(0) })
    }
}

/// The share of one body in a budget. It is given back once nothing holds a block of the body, be it an object, an upload or a
/// response under way.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl Share {
    /// Makes the share at least `bytes`.
    pub(super) fn cover(&self, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.bytes.load(Ordering::Relaxed));
        if more == 0 {
            return Ok(());
        }
        let limit = self.budget.limit;
        let within = |used: u64| used.checked_add(more).filter(|used| *used <= limit);
        match self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => {
                self.bytes.fetch_add(more, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "The emulator's memory limit of {limit} bytes does not allow {bytes} bytes more, since {used} are in \
                     use. Delete objects, raise the limit, or give the emulator a root directory."
                ),
            )),
        }
    }

    /// A block of the body, which holds the share.
    pub(super) fn block(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Block { bytes, _share: Arc::clone(self) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

struct Block {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_lasts_as_long_as_a_slice_of_its_block() {
        let budget = Budget::new(10);
        let share = budget.share();
        share.cover(6).unwrap();
        share.cover(4).unwrap();
        let slice = share.block(Bytes::from_static(b"sixsix")).slice(1..2);
        drop(share);
        let other = budget.share();
        let error = other.cover(5).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("limit of 10 bytes"), "{error}");
        other.cover(4).unwrap();
        drop(slice);
        other.cover(10).unwrap();
        assert!(other.cover(u64::MAX).is_err());
    }
}
