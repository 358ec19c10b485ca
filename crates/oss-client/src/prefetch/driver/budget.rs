//! How many bytes a stream may hold: all together, and before anybody takes them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{memory::StreamMemory, prefetch::queue::Load};

/// The bytes that a stream may hold, and those that its slots hold or expect.
pub(super) struct Budget {
    memory: Arc<StreamMemory>,
    reserved: AtomicUsize,
}

impl Budget {
    pub(super) fn new(memory: Arc<StreamMemory>) -> Self {
        Self { memory, reserved: AtomicUsize::new(0) }
    }

    /// Most bytes of the stream.
    pub(super) fn bytes(&self) -> usize {
        self.memory.most()
    }

    // Only the driver's task changes it; it is atomic so that requests, which are part of that task, can share it.
    pub(super) fn reserve(&self, bytes: usize) {
        self.memory.add(bytes);
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reserves bytes if there is room for them.
    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        let reserved = self.memory.try_add(bytes);
        if reserved {
            self.reserved.fetch_add(bytes, Ordering::Relaxed);
        }
        reserved
    }

    /// Returns reserved bytes.
    pub(super) fn release(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.release(bytes);
    }

    /// An object of which `expected` bytes were reserved has `bytes`.
    pub(super) fn correct(&self, expected: usize, bytes: usize) {
        match bytes.checked_sub(expected) {
            Some(more) => self.reserve(more),
            None => self.release(expected - bytes),
        }
    }

    /// The queue holds these bytes now.
    pub(super) fn hand_over(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The driver wakes when another stream returns bytes. It has to look once more before it waits.
    pub(super) fn wake_when_returned(&self) {
        self.memory.wake_when_returned();
    }

    /// Waits until there may be room.
    pub(super) async fn freed(&self) {
        self.memory.room().freed().await;
    }
}

impl Drop for Budget {
    /// The reader may keep the queue.
    fn drop(&mut self) {
        self.memory.release(*self.reserved.get_mut());
    }
}

/// The limit of bytes that have arrived and wait for the reader. It grows up to the budget if the reader needs more.
pub(super) struct Ahead {
    limit: usize,
    /// Bytes in the slots, after an object that is in flight.
    pub(super) arrived: usize,
    /// The limit has held requests back since the reader last waited.
    held_back: bool,
}

impl Ahead {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, arrived: 0, held_back: false }
    }

    pub(super) fn is_reached(&self, load: Load) -> bool {
        self.arrived + load.bytes >= self.limit
    }

    /// Notes that no request was sent, whatever the reason.
    pub(super) fn blocked(&mut self, load: Load) {
        self.held_back |= self.is_reached(load);
    }

    /// The reader had to wait. If it waited because the limit held requests back, the limit doubles.
    pub(super) fn waited(&mut self) {
        if std::mem::take(&mut self.held_back) {
            self.limit = self.limit.saturating_mul(2);
        }
    }
}

/// Bytes reserved for one object beyond its expected size, until it has arrived.
pub(super) struct Excess {
    budget: Arc<Budget>,
    expected: usize,
    bytes: usize,
}

impl Excess {
    pub(super) fn new(budget: Arc<Budget>, expected: usize) -> Self {
        Self { budget, expected, bytes: 0 }
    }

    /// Whether an object that turns out to have `size` bytes fits; if it does, the bytes are reserved.
    pub(super) fn fits(&mut self, size: u64, most: usize) -> bool {
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= most) else { return false };
        let more = size.saturating_sub(self.expected + self.bytes);
        let fits = more == 0 || self.budget.try_reserve(more);
        if fits {
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Excess {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
