//! What to reserve for an object of which nobody knows the size.

use std::sync::Mutex;

use crate::sync::lock;

/// Reserved before sizes have been seen.
const UNKNOWN: usize = 1 << 20;

/// The least that is reserved: small objects are bounded in number anyway.
const LEAST: usize = 128 << 10;

/// Objects in one count. The largest of so many is hardly exceeded by half in the sizes that images have: of a hundred
/// thousand log-normal ones with a deviation of 0.5, 18 were; each costs one more request.
const COUNT: usize = 256;

/// The largest sizes of late, by which the next ones are guessed. Shared by the streams of a client.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    before: Option<usize>,
    now: usize,
    count: usize,
}

impl Sizes {
    /// Records the size of an object that was unknown.
    pub(crate) fn record(&self, size: u64) {
        let mut seen = lock(&self.0);
        seen.now = seen.now.max(usize::try_from(size).unwrap_or(usize::MAX));
        seen.count += 1;
        if seen.count >= COUNT {
            *seen = Seen { before: Some(seen.now), now: 0, count: 0 };
        }
    }

    /// Bytes to reserve for the next one.
    pub(crate) fn guess(&self) -> usize {
        let seen = lock(&self.0);
        let generous = |largest: usize| largest.saturating_add(largest / 2).max(LEAST);
        match seen.before {
            Some(before) => generous(before.max(seen.now)),
            None => generous(seen.now).max(UNKNOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_by_the_largest_of_late() {
        let sizes = Sizes::default();
        assert_eq!(sizes.guess(), UNKNOWN);
        for _ in 0..COUNT {
            sizes.record(200_000);
        }
        assert_eq!(sizes.guess(), 300_000);
        sizes.record(800_000);
        assert_eq!(sizes.guess(), 1_200_000);
        for _ in 0..2 * COUNT {
            sizes.record(10);
        }
        assert_eq!(sizes.guess(), LEAST);
    }

    #[test]
    fn a_larger_one_counts_before_the_first_are_complete() {
        let sizes = Sizes::default();
        sizes.record(4 << 20);
        assert_eq!(sizes.guess(), 6 << 20);
    }
}
