//! How many bytes a stream may hold: all together, and before anybody takes them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::prefetch::queue::{Load, Queue};

/// What a stream may hold, and what it holds.
pub(super) struct Budget {
    pub(super) bytes: usize,
    /// Bytes that the slots hold or expect.
    reserved: AtomicUsize,
    queue: Arc<Queue>,
}

impl Budget {
    pub(super) fn new(bytes: usize, queue: Arc<Queue>) -> Self {
        Self { bytes, reserved: AtomicUsize::new(0), queue }
    }

    // Only the driver's task changes it; it is atomic so that requests, which are part of that task, can share it.
    pub(super) fn reserve(&self, bytes: usize) {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for so many bytes more.
    pub(super) fn has_room(&self, bytes: usize, load: Load) -> bool {
        self.reserved.load(Ordering::Relaxed) + load.bytes + bytes <= self.bytes
    }
}

/// How much may have arrived before anybody takes it. The budget allows more, for a reader that turns out to need it.
pub(super) struct Ahead {
    limit: usize,
    /// Bytes in the slots, behind an object that is in flight.
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

/// What is reserved for one object beyond what was expected, until it has arrived.
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
        let fits = more == 0 || self.budget.queue.load().is_some_and(|load| self.budget.has_room(more, load));
        if fits {
            self.budget.reserve(more);
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
