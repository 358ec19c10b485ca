//! Finished objects on their way from the I/O thread to the reading thread.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::Item;
use crate::{error::Error, sync::lock};

/// Most items of one batch: enough that the lock and a wake-up cost each object next to nothing.
const BATCH_ITEMS: usize = 64;

/// Finished objects in order. One thread takes; the driver task puts.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Tells the driver that there is room again.
    pub(super) room: Notify,
    batch_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
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
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), room: Notify::new(), batch_bytes }
    }

    /// Takes the next batch, waiting for it at most `patience`.
    pub fn take(&self, patience: Duration) -> Taken {
        let mut state = lock(&self.state);
        if state.items.is_empty() && state.end.is_none() {
            state.reader_waits = true;
            // After a wake-up without items, the caller asks again.
            let waited = self.filled.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.reader_waits = false;
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
        if std::mem::take(&mut state.driver_waits) {
            self.room.notify_one();
        }
        Taken::Items(batch)
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
        state.bytes = 0;
        self.room.notify_one();
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

    /// The same, and asks for a notification through `room` when the next batch has been taken.
    pub(super) fn load_before_waiting(&self) -> Option<Load> {
        let mut state = lock(&self.state);
        state.driver_waits = true;
        (!state.abandoned).then(|| Load { bytes: state.bytes, items: state.items.len() })
    }
}
