//! Divides the memory of a read among the requests, and the pieces of the window, that fill it. No I/O.

use std::{ops::Range, sync::Arc};

use super::{
    job::Job,
    piece::Piece,
    window::{Step, Window},
};
use crate::coalesce::{Located, coalesce};

/// Ranges at most so far apart are one request: receiving the bytes between them costs less than another request.
const GAP: u64 = 16 << 10;

/// Memory that can be divided.
pub trait Target: AsMut<[u8]> + Sized {
    /// Its bytes.
    fn length(&self) -> usize;

    /// Takes the first `length` bytes of it as a target of their own.
    #[must_use]
    fn split_front(&mut self, length: usize) -> Self;
}

/// Memory that is to be filled from byte `start` of an object.
#[derive(Debug)]
pub struct Wanted<B> {
    /// The first byte.
    pub start: u64,
    /// Receives the bytes.
    pub target: B,
}

impl<B: Target> Located for Wanted<B> {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.target.length() as u64
    }

    fn is_beside(&self, _other: &Self) -> bool {
        true
    }
}

/// How one read of consecutive bytes is filled.
#[derive(Debug)]
pub struct Gathered<B> {
    /// What is copied from pieces of the window, each once it has arrived.
    pub copies: Vec<(Arc<Piece>, Wanted<B>)>,
    /// What is received into the memory itself.
    pub jobs: Vec<Job<B>>,
}

impl Window {
    /// Divides `target`, which `want` fills, as the window says. What is missing is asked for.
    pub fn gather<B: Target>(&mut self, want: &Range<u64>, mut target: B) -> Gathered<B> {
        let mut gathered = Gathered { copies: Vec::new(), jobs: Vec::new() };
        let mut at = want.start;
        for step in self.steps_for(want.clone()) {
            match step {
                Step::Piece(piece) => {
                    let end = piece.range().end.min(want.end);
                    let front = target.split_front((end - at) as usize);
                    gathered.copies.push((piece, Wanted { start: at, target: front }));
                    at = end;
                }
                Step::Direct(range) => {
                    for part in self.split(range) {
                        // The range may begin before the wanted bytes, by more than a part of it.
                        let from = at.clamp(part.start, part.end);
                        let mut job = Job::new(part.start);
                        job.skip((from - part.start) as usize);
                        job.fill(target.split_front((part.end - from) as usize));
                        gathered.jobs.push(job);
                        at = at.max(part.end);
                    }
                }
            }
        }
        gathered
    }
}

/// Divides memory that is filled from several places of an object into requests of at most `longest` bytes each. Ranges
/// that lie close together are one request.
pub fn gather<B: Target>(mut wanted: Vec<Wanted<B>>, longest: u64) -> Vec<Job<B>> {
    wanted.retain(|one| one.target.length() > 0);
    wanted.sort_by_key(|one| one.start);
    coalesce(wanted, GAP, u64::MAX).into_iter().flat_map(|run| requests(run, longest)).collect()
}

/// Divides neighbouring ranges into requests.
fn requests<B: Target>(run: Vec<Wanted<B>>, longest: u64) -> Vec<Job<B>> {
    let mut jobs = Vec::<Job<B>>::new();
    // The end of the last request, and the most that it may reach to.
    let (mut end, mut limit) = (0, 0);
    for Wanted { start, mut target } in run {
        let mut at = start;
        while target.length() > 0 {
            if jobs.is_empty() || at >= limit {
                jobs.push(Job::new(at));
                (end, limit) = (at, at + longest.max(1));
            }
            let front = target.split_front(usize::try_from(limit - at).unwrap_or(usize::MAX));
            let length = front.length() as u64;
            if let Some(job) = jobs.last_mut() {
                job.skip((at - end) as usize);
                job.fill(front);
            }
            at += length;
            end = at;
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes `from` and following of the memory with this number.
    #[derive(Debug)]
    struct Memory {
        number: usize,
        from: usize,
        bytes: Vec<u8>,
    }

    impl AsMut<[u8]> for Memory {
        fn as_mut(&mut self) -> &mut [u8] {
            &mut self.bytes
        }
    }

    impl Target for Memory {
        fn length(&self) -> usize {
            self.bytes.len()
        }

        fn split_front(&mut self, length: usize) -> Self {
            let rest = self.bytes.split_off(length.min(self.bytes.len()));
            let bytes = std::mem::replace(&mut self.bytes, rest);
            let front = Self { number: self.number, from: self.from, bytes };
            self.from += front.bytes.len();
            front
        }
    }

    fn byte_at(position: u64) -> u8 {
        (position ^ (position >> 8)) as u8
    }

    fn wanted(ranges: &[(u64, usize)]) -> Vec<Wanted<Memory>> {
        let memory = |number, length| Memory { number, from: 0, bytes: vec![0; length] };
        ranges
            .iter()
            .enumerate()
            .map(|(number, (start, length))| Wanted { start: *start, target: memory(number, *length) })
            .collect()
    }

    /// First byte and length of each request, in the order of the requests.
    fn lengths(jobs: &mut [Job<Memory>]) -> Vec<(u64, usize)> {
        jobs.iter_mut().map(|job| (job.start, job.slices().iter().map(|slice| slice.len()).sum())).collect()
    }

    /// Fills every request with the object's bytes, and returns what each memory then holds.
    fn received(jobs: &mut [Job<Memory>], ranges: &[(u64, usize)]) -> Vec<Vec<Option<u8>>> {
        let mut memories: Vec<Vec<Option<u8>>> = ranges.iter().map(|(_, length)| vec![None; *length]).collect();
        for job in jobs {
            let mut position = job.start;
            for slice in job.slices() {
                for byte in slice {
                    *byte = byte_at(position);
                    position += 1;
                }
            }
            for target in job.targets() {
                for (index, byte) in target.bytes.iter().enumerate() {
                    assert_eq!(memories[target.number][target.from + index].replace(*byte), None);
                }
            }
        }
        memories
    }

    proptest! {
        #[test]
        fn each_memory_gets_its_bytes_once(
            ranges in prop::collection::vec((0_u64..200_000, 0_usize..3000), 0..30), longest in 1_u64..5000,
        ) {
            let mut jobs = gather(wanted(&ranges), longest);
            prop_assert!(lengths(&mut jobs).iter().all(|(_, length)| (1..=longest as usize).contains(length)));
            for (number, memory) in received(&mut jobs, &ranges).into_iter().enumerate() {
                let start = ranges[number].0;
                for (index, byte) in memory.into_iter().enumerate() {
                    prop_assert_eq!(byte, Some(byte_at(start + index as u64)));
                }
            }
        }
    }

    #[test]
    fn neighbours_are_one_request_up_to_the_longest() {
        let mut jobs = gather(wanted(&[(1000, 500), (0, 1000), (1500, 1000)]), 2000);
        assert_eq!(lengths(&mut jobs), [(0, 2000), (2000, 500)]);
        let far = 2500 + GAP + 1;
        let mut jobs = gather(wanted(&[(0, 100), (100 + GAP, 100), (far + 100 + GAP, 7)]), 1 << 20);
        assert_eq!(lengths(&mut jobs), [(0, 200 + GAP as usize), (far + 100 + GAP, 7)]);
    }

    #[test]
    fn a_request_that_would_end_in_a_gap_ends_before_it() {
        let mut jobs = gather(wanted(&[(0, 90), (110, 50)]), 100);
        assert_eq!(lengths(&mut jobs), [(0, 90), (110, 50)]);
    }

    #[test]
    fn memory_of_no_length_is_not_asked_for() {
        assert!(gather(wanted(&[(5, 0)]), 100).is_empty());
    }
}
