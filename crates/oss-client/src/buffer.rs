//! Memory that is used again, because to touch a fresh page costs as much as to copy its bytes.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, TryLockError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::sync::lock;

/// Smallest capacity kept. The C library keeps smaller buffers for each thread, and is as fast as the pool.
const SMALLEST: usize = 1 << 10;

/// Keeps buffers that were dropped, up to a number of bytes, for the next ones of about the same size.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    limit: AtomicUsize,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    bytes: usize,
    /// By capacity class; see [`class_of`].
    classes: Vec<Vec<Vec<u8>>>,
}

/// Two classes for each power of two, so that at most a third of a buffer is unused.
fn class_of(length: usize) -> (usize, usize) {
    let mut capacity = SMALLEST;
    let mut class = 0;
    while capacity < length {
        let half_step = capacity + capacity / 2;
        if class % 2 == 0 && half_step >= length {
            return (class + 1, half_step);
        }
        capacity *= 2;
        class += 2;
    }
    (class, capacity)
}

impl BufferPool {
    /// A pool that keeps at most `limit` bytes of buffers not in use.
    pub fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { limit: AtomicUsize::new(limit), free: Mutex::default() }) }
    }

    /// Keeps at least up to `limit` bytes.
    pub fn keep(&self, limit: usize) {
        self.shared.limit.fetch_max(limit, Ordering::Relaxed);
    }

    /// A buffer of `length` bytes of unspecified content; `None` if there is no memory for it.
    pub fn take(&self, length: usize) -> Option<PooledBuffer> {
        if length < SMALLEST {
            return Some(PooledBuffer { bytes: vec![0; length], length, pool: Weak::new() });
        }
        if length > self.shared.limit.load(Ordering::Relaxed) {
            // Such a buffer is never kept, so its size is not rounded up. Only here can a length exceed the memory.
            // Zeroed by the kernel, page by page: a large part of which little is written touches little memory.
            return bytemuck::allocation::try_zeroed_vec(length).ok().map(PooledBuffer::detached);
        }
        let (class, capacity) = class_of(length);
        let reused = {
            let mut free = lock(&self.shared.free);
            let reused = free.classes.get_mut(class).and_then(Vec::pop);
            if reused.is_some() {
                free.bytes -= capacity;
            }
            reused
        };
        let bytes = reused.unwrap_or_else(|| vec![0; capacity]);
        Some(PooledBuffer { bytes, length, pool: Arc::downgrade(&self.shared) })
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BufferPool({} bytes free)", lock(&self.shared.free).bytes)
    }
}

/// Bytes that return to their pool when dropped.
pub struct PooledBuffer {
    /// At least `length` bytes, rounded up to the capacity class.
    bytes: Vec<u8>,
    length: usize,
    pool: Weak<Shared>,
}

impl PooledBuffer {
    /// A buffer that belongs to no pool.
    pub fn detached(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len(), bytes, pool: Weak::new() }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let bytes = std::mem::take(&mut self.bytes);
        let (class, capacity) = class_of(bytes.len());
        // No wait for the lock: after a fork, the thread that holds it may not exist in this process.
        let mut free = match pool.free.try_lock() {
            Ok(free) => free,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if free.bytes + capacity > pool.limit.load(Ordering::Relaxed) {
            return;
        }
        free.bytes += capacity;
        if free.classes.len() <= class {
            free.classes.resize_with(class + 1, Vec::new);
        }
        free.classes[class].push(bytes);
    }
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PooledBuffer({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_length_with_little_waste() {
        for length in (SMALLEST..3 << 20).step_by(977) {
            let (class, capacity) = class_of(length);
            assert!(capacity >= length);
            assert!(capacity <= length + length / 2 + 1, "{length} takes {capacity}");
            assert_eq!(class_of(capacity), (class, capacity));
        }
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = BufferPool::new(1 << 20);
        let mut first = pool.take(100_000).unwrap();
        first[0] = 7;
        let address = first.as_ptr();
        drop(first);
        let second = pool.take(98_305).unwrap();
        assert_eq!(second.as_ptr(), address);
        assert_eq!(second.len(), 98_305);
    }

    #[test]
    fn a_buffer_is_dropped_without_waiting_for_the_pool() {
        let pool = BufferPool::new(1 << 20);
        let buffer = pool.take(100_000).unwrap();
        let held = lock(&pool.shared.free);
        drop(buffer);
        assert_eq!(held.bytes, 0);
    }

    #[test]
    fn more_than_memory_holds_is_refused() {
        let pool = BufferPool::new(1 << 20);
        assert!(pool.take(1 << 50).is_none());
        assert!(pool.take(usize::MAX).is_none());
        assert_eq!(pool.take(3 << 20).unwrap().len(), 3 << 20);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let pool = BufferPool::new(200_000);
        let buffers: Vec<_> = (0..8).map(|_| pool.take(100_000)).collect();
        drop(buffers);
        assert!(lock(&pool.shared.free).bytes <= 200_000);
    }
}
