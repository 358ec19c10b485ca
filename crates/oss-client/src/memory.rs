//! The bytes that a process reads ahead: one count for all its streams, of which each knows its own part.
//!
//! ```text
//!   0                                               3/4                    all
//!   ├── objects of streams ───────────────────────────┼── windows over large objects ──┤
//!                                                     └── objects of streams that hold less than their share
//! ```
//!
//! The last quarter is kept for reading large objects by ranges. What they leave of it belongs to streams that hold
//! less than their share: another one, which fills the rest, may be read by a program that pauses for ever.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::sync::lock;

/// What all streams of a process hold together.
#[derive(Debug, Default)]
pub struct Memory {
    held: AtomicUsize,
    /// Bytes in windows over large objects.
    windows: AtomicUsize,
    streams: AtomicUsize,
    /// Whether `waiting` has any.
    wanted: AtomicBool,
    waiting: Mutex<Vec<Arc<Room>>>,
}

/// Tells one stream that there is room again: in its own queue, or in the memory of the process.
#[derive(Debug, Default)]
pub struct Room {
    notify: Notify,
    listed: AtomicBool,
}

impl Room {
    /// Wakes the stream.
    pub(crate) fn free(&self) {
        self.notify.notify_one();
    }

    /// Waits until there may be room.
    pub(crate) async fn freed(&self) {
        self.notify.notified().await;
    }
}

impl Memory {
    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn wake_when_returned(&self, room: &Arc<Room>) {
        let mut waiting = lock(&self.waiting);
        if !room.listed.swap(true, Ordering::Relaxed) {
            waiting.push(Arc::clone(room));
        }
        // Either the stream sees what is returned, or who returns it sees this.
        self.wanted.store(true, Ordering::SeqCst);
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.wake_waiting();
    }

    fn wake_waiting(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        let mut waiting = lock(&self.waiting);
        self.wanted.store(false, Ordering::SeqCst);
        for room in waiting.drain(..) {
            room.listed.store(false, Ordering::Relaxed);
            room.free();
        }
    }
}

/// What a process may hold while a stream asks for more: the setting of that stream's client.
#[derive(Clone, Copy, Debug)]
pub struct ProcessBudget {
    /// All bytes.
    pub all: usize,
    /// Of these, the part for windows over large objects.
    pub for_windows: usize,
}

/// The part of one stream.
#[derive(Debug)]
pub struct StreamMemory {
    memory: Arc<Memory>,
    own: AtomicUsize,
    /// Most bytes of this stream.
    most: usize,
    process: ProcessBudget,
    room: Arc<Room>,
}

impl StreamMemory {
    /// A stream that may hold `most` bytes.
    pub fn new(memory: Arc<Memory>, most: usize, process: ProcessBudget) -> Self {
        memory.streams.fetch_add(1, Ordering::Relaxed);
        Self { memory, own: AtomicUsize::new(0), most, process, room: Arc::default() }
    }

    /// Most bytes of this stream.
    pub fn most(&self) -> usize {
        self.most
    }

    /// What tells this stream that there is room again.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Takes bytes if there is room for them.
    pub fn try_add(&self, bytes: usize) -> bool {
        let own = self.own.load(Ordering::Relaxed) + bytes;
        if own > self.most {
            return false;
        }
        let streams = self.memory.streams.load(Ordering::Relaxed).max(1);
        let ProcessBudget { all, for_windows } = self.process;
        let limit = if streams > 1 && own <= (all - for_windows) / streams {
            all - for_windows.min(self.memory.windows.load(Ordering::SeqCst))
        } else {
            all - for_windows
        };
        let taken = self.memory.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
            held.checked_add(bytes).filter(|held| *held <= limit)
        });
        if taken.is_ok() {
            self.own.fetch_add(bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Takes bytes, also if there is no room for them: a stream may always hold one object.
    pub fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.memory.held.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Returns bytes.
    pub fn release(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.release(bytes);
    }

    /// Wakes this stream when another one returns bytes. It has to look once more before it waits.
    pub(crate) fn wake_when_returned(&self) {
        if self.memory.streams.load(Ordering::Relaxed) > 1 {
            self.memory.wake_when_returned(&self.room);
        }
    }
}

impl Drop for StreamMemory {
    fn drop(&mut self) {
        self.memory.streams.fetch_sub(1, Ordering::Relaxed);
        self.memory.release(*self.own.get_mut());
        // What is left to others has become less.
        self.memory.wake_waiting();
    }
}

/// The bytes of one window.
#[derive(Debug)]
pub struct WindowBytes {
    shared: Option<(Arc<Memory>, ProcessBudget)>,
    own: u64,
}

impl WindowBytes {
    /// The bytes of a window that is part of the memory of the process, or has a limit of its own.
    pub fn new(shared: Option<(Arc<Memory>, ProcessBudget)>) -> Self {
        Self { shared, own: 0 }
    }

    /// What the window is a part of.
    pub fn shared(&self) -> Option<(Arc<Memory>, ProcessBudget)> {
        self.shared.clone()
    }

    /// Bytes of this window.
    pub fn own(&self) -> u64 {
        self.own
    }

    /// Bytes of the part for windows that others hold.
    pub fn of_others(&self) -> u64 {
        let Some((memory, budget)) = &self.shared else { return 0 };
        let windows = (memory.windows.load(Ordering::Relaxed) as u64).saturating_sub(self.own);
        windows + memory.held().saturating_sub(budget.all - budget.for_windows) as u64
    }

    /// Takes bytes.
    pub fn add(&mut self, bytes: u64) {
        self.own += bytes;
        if let Some((memory, _)) = &self.shared {
            memory.windows.fetch_add(bytes as usize, Ordering::Relaxed);
        }
    }

    /// Returns bytes.
    pub fn release(&mut self, bytes: u64) {
        self.own -= bytes;
        if let Some((memory, _)) = &self.shared {
            memory.windows.fetch_sub(bytes as usize, Ordering::SeqCst);
            memory.wake_waiting();
        }
    }
}

impl Drop for WindowBytes {
    fn drop(&mut self) {
        self.release(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: ProcessBudget = ProcessBudget { all: 100, for_windows: 20 };

    fn stream(memory: &Arc<Memory>) -> StreamMemory {
        StreamMemory::new(Arc::clone(memory), 80, BUDGET)
    }

    #[test]
    fn one_stream_may_hold_everything_but_the_part_for_windows() {
        let memory = Arc::new(Memory::default());
        let stream = stream(&memory);
        assert!(stream.try_add(60));
        assert!(stream.try_add(20));
        assert!(!stream.try_add(1));
        stream.release(50);
        assert!(stream.try_add(50));
        drop(stream);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_stream_below_its_share_has_what_windows_leave() {
        let memory = Arc::new(Memory::default());
        let one = stream(&memory);
        assert!(one.try_add(80));
        let other = stream(&memory);
        let mut window = WindowBytes::new(Some((Arc::clone(&memory), BUDGET)));
        window.add(5);
        assert!(other.try_add(15));
        other.wake_when_returned();
        assert!(!other.try_add(1));
        window.release(5);
        assert!(lock(&memory.waiting).is_empty());
        window.add(5);
        assert_eq!(window.of_others(), 15);
        other.add(10);
        assert_eq!(memory.held(), 105);
        drop(other);
        assert!(!one.try_add(1));
        assert_eq!(window.of_others(), 0);
    }

    #[test]
    fn a_stream_never_holds_more_than_its_own_limit() {
        let memory = Arc::new(Memory::default());
        let stream = StreamMemory::new(Arc::clone(&memory), 50, BUDGET);
        assert!(!stream.try_add(51));
        assert!(stream.try_add(50));
    }

    #[test]
    fn returned_bytes_wake_those_who_wait() {
        let memory = Arc::new(Memory::default());
        let (one, other) = (stream(&memory), stream(&memory));
        one.add(100);
        for _ in 0..2 {
            other.wake_when_returned();
            assert!(!other.try_add(20));
        }
        assert_eq!(lock(&memory.waiting).len(), 1);
        one.release(60);
        assert!(lock(&memory.waiting).is_empty());
        assert!(other.try_add(20));
    }

    #[test]
    fn windows_know_what_the_others_hold() {
        let memory = Arc::new(Memory::default());
        let window = || WindowBytes::new(Some((Arc::clone(&memory), BUDGET)));
        let (mut one, mut other) = (window(), window());
        one.add(10);
        other.add(5);
        assert_eq!((one.of_others(), other.of_others()), (5, 10));
        drop(one);
        assert_eq!(other.of_others(), 0);
    }
}
