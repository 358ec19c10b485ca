//! Finished objects on their way from the I/O thread to the reading thread.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::Item;
use crate::{error::Error, memory::StreamMemory, metrics::waiting, sync::lock};

/// Most items of one batch: enough that the lock and a wake-up cost each object next to nothing.
const BATCH_ITEMS: usize = 64;

/// Finished objects in order. One thread takes; the driver task puts.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// What the stream holds, the batch that was taken last included.
    memory: Arc<StreamMemory>,
    batch_bytes: usize,
    /// How long its reader has waited, in nanoseconds.
    waited: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Bytes of the batch that was taken last. The reader has used it up when it takes the next one.
    taken: usize,
    reader_waits: bool,
    driver_waits: bool,
    end: Option<Result<(), Error>>,
    abandoned: bool,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) bytes: usize,
    pub(super) items: usize,
}

/// What [`Queue::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// The next objects, in order.
    Items(VecDeque<Item>),
    /// Nothing within the time given.
    Nothing,
    /// No object is left; the error is the listing's.
    End(Result<(), Error>),
}

impl Queue {
    /// An empty queue whose batches hold at most `batch_bytes` (or one object).
    pub(super) fn new(batch_bytes: usize, memory: Arc<StreamMemory>) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), memory, batch_bytes, waited: AtomicU64::new(0) }
    }

    /// Takes the next batch, waiting for it at most `patience`.
    pub fn take(&self, patience: Duration) -> Taken {
        let mut state = lock(&self.state);
        let used_up = std::mem::take(&mut state.taken);
        self.memory.release(used_up);
        if used_up > 0 && std::mem::take(&mut state.driver_waits) {
            self.memory.room().free();
        }
        if state.items.is_empty() && state.end.is_none() {
            state.reader_waits = true;
            // After a wake-up without items, the caller asks again.
            let (woken, waited) = waiting(|| self.filled.wait_timeout(state, patience));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.reader_waits = false;
            self.waited.fetch_add(waited, Ordering::Relaxed);
        }
        if state.items.is_empty() {
            return match &state.end {
                Some(end) => Taken::End(end.clone()),
                None => Taken::Nothing,
            };
        }
        let mut batch = VecDeque::with_capacity(state.items.len().min(BATCH_ITEMS));
        let mut bytes = 0;
        while batch.len() < BATCH_ITEMS
            && let Some(next) = state.items.front()
            && (batch.is_empty() || bytes + next.held() <= self.batch_bytes)
            && let Some(item) = state.items.pop_front()
        {
            bytes += item.held();
            batch.push_back(item);
        }
        state.bytes -= bytes;
        state.taken = bytes;
        if std::mem::take(&mut state.driver_waits) {
            self.memory.room().free();
        }
        Taken::Items(batch)
    }

    /// How long its reader has waited for objects.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Bytes that are ready and not taken yet.
    pub fn held(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Tells the driver that nobody reads any more.
    pub fn abandon(&self) {
        let mut state = lock(&self.state);
        state.abandoned = true;
        state.items.clear();
        let held = std::mem::take(&mut state.bytes) + std::mem::take(&mut state.taken);
        self.memory.release(held);
        self.memory.room().free();
    }

    /// Whether nobody reads any more, or nothing is left to be read.
    pub fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.abandoned || (state.end.is_some() && state.items.is_empty())
    }

    /// Appends finished objects; returns whether the reader was waiting for them.
    pub(super) fn put(&self, items: impl Iterator<Item = Item>) -> bool {
        let mut state = lock(&self.state);
        if state.abandoned {
            items.for_each(|item| self.memory.release(item.held()));
            return false;
        }
        for item in items {
            state.bytes += item.held();
            state.items.push_back(item);
        }
        let waited = state.reader_waits && !state.items.is_empty();
        if waited {
            self.filled.notify_one();
        }
        waited
    }

    /// Declares the end; what is in the queue is delivered first.
    pub(super) fn finish(&self, end: Result<(), Error>) {
        let mut state = lock(&self.state);
        state.end.get_or_insert(end);
        self.filled.notify_all();
    }

    /// What is not taken yet, or `None` once abandoned.
    pub(super) fn load(&self) -> Option<Load> {
        let state = lock(&self.state);
        (!state.abandoned).then(|| Load { bytes: state.bytes, items: state.items.len() })
    }

    /// The same, and asks for a notification through its room when the next batch has been taken.
    pub(super) fn load_before_waiting(&self) -> Option<Load> {
        let mut state = lock(&self.state);
        state.driver_waits = true;
        (!state.abandoned).then(|| Load { bytes: state.bytes, items: state.items.len() })
    }
}
