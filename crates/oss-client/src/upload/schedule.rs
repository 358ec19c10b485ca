//! How large the parts of an object are.

/// Most parts of one object.
pub(super) const MAX_PARTS: usize = 10_000;

/// Smallest part that OSS accepts before the last one.
const MIN_PART_SIZE: u64 = 100 << 10;

/// Largest part that OSS accepts.
const MAX_PART_SIZE: u64 = 5 << 30;

/// Largest object: what OSS calls 48.8 TB.
pub const MAX_OBJECT_SIZE: u64 = MAX_PARTS as u64 * MAX_PART_SIZE;

/// If the size is not known, a part is about a thousandth of what was written before it. Parts that start at 8 MiB then
/// stay there for 8 GiB and hold more than 8 TiB in the end, while no part is more than a small share of the object.
const GROWTH: u64 = 1_000;

/// If the size is known, the object takes at most so many equal parts. The rest is for objects that are longer than
/// hinted: a thousand more parts, which grow, hold twice as much again.
const HINTED_PARTS: u64 = 9_000;

/// The size of each part, which depends on the bytes written before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    least: u64,
    hint: u64,
}

impl Schedule {
    pub(super) fn new(part_size: usize, size_hint: Option<u64>) -> Self {
        let hint = size_hint.unwrap_or(0);
        let least = (part_size as u64).max(round(hint.div_ceil(HINTED_PARTS)));
        Self { least: least.clamp(MIN_PART_SIZE, MAX_PART_SIZE), hint }
    }

    /// Bytes of the part that begins after `written` bytes.
    pub(super) fn part_size(&self, written: u64) -> u64 {
        if written < self.hint {
            return self.least;
        }
        round(written / GROWTH).clamp(self.least, MAX_PART_SIZE)
    }
}

/// The next larger of 2, 3, 4, 6, 8, 12, ...: sizes that buffers are kept in, so that parts use theirs whole.
fn round(size: u64) -> u64 {
    let power = size.max(2).next_power_of_two();
    let between = power / 4 * 3;
    if size <= between { between } else { power }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(schedule: Schedule) -> u64 {
        (0..MAX_PARTS).fold(0, |written, _| written + schedule.part_size(written))
    }

    #[test]
    fn the_default_reaches_eight_tebibytes_without_a_hint() {
        assert!(capacity(Schedule::new(8 << 20, None)) >= 8 << 40);
    }

    #[test]
    fn a_hint_reaches_the_limit_of_the_service() {
        assert_eq!(capacity(Schedule::new(8 << 20, Some(MAX_OBJECT_SIZE))), MAX_OBJECT_SIZE);
    }

    #[test]
    fn a_hint_may_be_exceeded_twice() {
        for hint in [100 << 30, 1 << 40, 10 << 40] {
            let capacity = capacity(Schedule::new(100 << 10, Some(hint)));
            assert!(capacity >= 2 * hint, "{hint}: {capacity}");
        }
    }

    #[test]
    fn parts_are_what_the_service_accepts_and_stay_small_shares() {
        let schedule = Schedule::new(8 << 20, None);
        let mut written = 0;
        while written < 8 << 40 {
            let part = schedule.part_size(written);
            assert!((MIN_PART_SIZE..=MAX_PART_SIZE).contains(&part));
            assert!(part == 8 << 20 || part <= written / 600, "{part} after {written}");
            written += part;
        }
    }

    #[test]
    fn a_hint_makes_larger_parts_only_where_they_are_needed() {
        assert_eq!(Schedule::new(8 << 20, Some(10 << 30)).part_size(0), 8 << 20);
        assert_eq!(Schedule::new(8 << 20, Some(1 << 40)).part_size(0), 128 << 20);
    }

    #[test]
    fn sizes_are_rounded_up_to_those_of_buffers() {
        assert_eq!([5, 6, 7, 8, 9, 12, 13].map(round), [6, 6, 8, 8, 12, 12, 16]);
    }
}
