//! Ranges that are received into the caller's memory.

use std::{collections::VecDeque, fmt, sync::Mutex};

use crate::sync::lock;

/// One range: consecutive bytes that go to several places, or nowhere.
pub struct Job<B> {
    /// The first byte.
    pub(crate) start: u64,
    parts: Vec<Part<B>>,
}

enum Part<B> {
    Fill(B),
    /// The bytes of a gap, which are dropped: few, or the range would be divided.
    Skip(Vec<u8>),
}

impl<B: AsMut<[u8]>> Job<B> {
    /// A range that starts at byte `start` and takes nothing yet.
    pub fn new(start: u64) -> Self {
        Self { start, parts: Vec::new() }
    }

    /// The next bytes go to `target`.
    pub fn fill(&mut self, target: B) {
        self.parts.push(Part::Fill(target));
    }

    /// The next `length` bytes are not wanted.
    pub fn skip(&mut self, length: usize) {
        if length > 0 {
            self.parts.push(Part::Skip(vec![0; length]));
        }
    }

    /// The memory that is to be filled, in order.
    pub fn targets(&self) -> impl Iterator<Item = &B> {
        self.parts.iter().filter_map(|part| match part {
            Part::Fill(target) => Some(target),
            Part::Skip(_) => None,
        })
    }

    /// All memory that the range goes to, in order.
    pub(crate) fn slices(&mut self) -> Vec<&mut [u8]> {
        let parts = self.parts.iter_mut().map(|part| match part {
            Part::Fill(target) => target.as_mut(),
            Part::Skip(bytes) => &mut bytes[..],
        });
        parts.collect()
    }
}

impl<B> fmt::Debug for Job<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Job({} parts from byte {})", self.parts.len(), self.start)
    }
}

/// Ranges that wait to be fetched; any free client takes the next one.
#[derive(Debug)]
pub struct Jobs<B> {
    waiting: Mutex<VecDeque<Job<B>>>,
    /// Whether their bytes count for the checksum of the object.
    pub(crate) counted: bool,
}

impl<B> Jobs<B> {
    /// Ranges to be fetched in this order. Those whose bytes are checked by the caller, who may fetch them again, must
    /// not be `counted` for the checksum of the object.
    pub fn new(jobs: impl IntoIterator<Item = Job<B>>, counted: bool) -> Self {
        Self { waiting: Mutex::new(jobs.into_iter().collect()), counted }
    }

    pub(crate) fn next(&self) -> Option<Job<B>> {
        lock(&self.waiting).pop_front()
    }

    pub(crate) fn forget(&self) {
        lock(&self.waiting).clear();
    }
}
