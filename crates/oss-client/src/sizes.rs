//! What to reserve for an object of unknown size.

use std::sync::Mutex;

use crate::sync::lock;

/// Reserved before sizes have been seen.
const UNKNOWN: usize = 1 << 20;

/// The least that is reserved: small objects are bounded in number anyway.
const LEAST: usize = 128 << 10;

/// Objects in one count. Images have log-normal sizes with a deviation of 0.5; the mean of so many is off by 3 %.
const COUNT: usize = 256;

/// Objects after which a new count is used too, so that a change to larger objects is noticed.
const ENOUGH: usize = 8;

/// The mean of the latest sizes, as a guess for the next ones. Many are in flight, and what one needs beyond the guess
/// is reserved once its size is known. Shared by the streams of a client.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    before: Option<usize>,
    sum: usize,
    count: usize,
}

impl Sizes {
    /// Records the size of an object that was unknown.
    pub(crate) fn record(&self, size: u64) {
        let mut seen = lock(&self.0);
        seen.sum = seen.sum.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        seen.count += 1;
        if seen.count >= COUNT {
            *seen = Seen { before: Some(seen.sum / seen.count), sum: 0, count: 0 };
        }
    }

    /// Bytes to reserve for the next one.
    pub(crate) fn guess(&self) -> usize {
        let seen = lock(&self.0);
        let now = if seen.count >= ENOUGH { seen.sum / seen.count } else { 0 };
        let mean = now.max(seen.before.unwrap_or_default());
        // A half more, so that few have to reserve more.
        mean.saturating_add(mean / 2).max(if seen.before.is_some() { LEAST } else { UNKNOWN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_by_the_mean_of_late() {
        let sizes = Sizes::default();
        assert_eq!(sizes.guess(), UNKNOWN);
        for index in 0..COUNT as u64 {
            sizes.record(100_000 + 200_000 * (index % 2));
        }
        assert_eq!(sizes.guess(), 300_000);
        for _ in 0..ENOUGH {
            sizes.record(800_000);
        }
        assert_eq!(sizes.guess(), 1_200_000);
        for _ in 0..2 * COUNT {
            sizes.record(10);
        }
        assert_eq!(sizes.guess(), LEAST);
    }

    #[test]
    fn larger_ones_count_before_the_first_count_is_complete() {
        let sizes = Sizes::default();
        for _ in 0..ENOUGH {
            sizes.record(4 << 20);
        }
        assert_eq!(sizes.guess(), 6 << 20);
    }
}
