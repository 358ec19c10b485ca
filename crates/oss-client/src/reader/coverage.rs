//! Which bytes of an object have been received, and the checksum of each range of them.

use std::{collections::BTreeMap, ops::Range};

use oss_protocol::crc64::combine;

/// The received ranges of one object with their CRC-64, in any order. Neighbours are folded together.
///
/// Bytes that are received twice count only the first time.
#[derive(Debug)]
pub(crate) struct Coverage {
    size: u64,
    received: u64,
    /// By first byte; none touches another.
    ranges: BTreeMap<u64, Received>,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    end: u64,
    crc: u64,
}

impl Coverage {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, received: 0, ranges: BTreeMap::new() }
    }

    /// Bytes not received yet.
    pub(crate) fn left(&self) -> u64 {
        self.size - self.received
    }

    /// The ranges within `range` that are not received yet, in order.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        let before = self.ranges.range(..=range.start).next_back().map(|(_, known)| known.end);
        at = at.max(before.unwrap_or(at));
        for (start, known) in self.ranges.range(range.start..range.end) {
            if *start > at {
                missing.push(at..*start);
            }
            at = at.max(known.end);
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    /// Takes in a received range with its checksum; `checksum_of` computes that of the new bytes if some were known.
    pub(crate) fn record(&mut self, range: Range<u64>, crc: u64, mut checksum_of: impl FnMut(Range<u64>) -> u64) {
        for new in self.missing(range.clone()) {
            let crc = if new == range { crc } else { checksum_of(new.clone()) };
            self.insert(new, crc);
        }
    }

    /// Adds a range of which nothing has been received.
    fn insert(&mut self, new: Range<u64>, crc: u64) {
        self.received += new.end - new.start;
        let mut start = new.start;
        let mut known = Received { end: new.end, crc };
        if let Some((&before, left)) = self.ranges.range(..new.start).next_back()
            && left.end == new.start
        {
            start = before;
            known.crc = combine(left.crc, crc, new.end - new.start);
        }
        if let Some(right) = self.ranges.remove(&new.end) {
            known = Received { end: right.end, crc: combine(known.crc, right.crc, right.end - new.end) };
        }
        self.ranges.insert(start, known);
    }

    /// The received ranges with their CRC-64, in order.
    pub(crate) fn received(&self) -> Vec<(Range<u64>, u64)> {
        self.ranges.iter().map(|(start, known)| (*start..known.end, known.crc)).collect()
    }

    /// CRC-64 of the object, once every byte of it has been received.
    pub(crate) fn checksum(&self) -> Option<u64> {
        if self.received < self.size {
            return None;
        }
        Some(self.ranges.first_key_value().map_or(0, |(_, known)| known.crc))
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges, some of which have one")]
mod tests {
    use oss_protocol::crc64::checksum;

    use super::*;

    fn record(coverage: &mut Coverage, bytes: &[u8], range: Range<usize>) {
        let received = range.start as u64..range.end as u64;
        coverage
            .record(received, checksum(&bytes[range]), |new| checksum(&bytes[new.start as usize..new.end as usize]));
    }

    #[test]
    fn any_order_folds_to_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..1000_u32).map(|index| ((index * index) >> 3) as u8).collect();
        let orders: [&[Range<usize>]; 5] = [
            &[0..1000],
            &[0..500, 500..1000],
            &[900..1000, 0..100, 100..500, 700..900, 500..700],
            &[300..600, 0..1000],
            &[100..200, 150..400, 0..120, 390..1000],
        ];
        for order in orders {
            let mut coverage = Coverage::new(1000);
            for range in order {
                assert_eq!(coverage.checksum(), None);
                record(&mut coverage, &bytes, range.clone());
            }
            assert_eq!(coverage.checksum(), Some(checksum(&bytes)), "{order:?}");
            assert_eq!((coverage.left(), coverage.ranges.len()), (0, 1));
        }
    }

    #[test]
    fn random_ranges_fold_to_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..500_u32).map(|index| ((index * 7919) >> 5) as u8).collect();
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut below = |limit: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % limit
            };
            let mut coverage = Coverage::new(500);
            let mut known = [false; 500];
            while coverage.checksum().is_none() {
                let start = below(500);
                let end = start + 1 + below((500 - start).min(120));
                record(&mut coverage, &bytes, start..end);
                known[start..end].fill(true);
                let left = known.iter().filter(|known| !**known).count();
                assert_eq!(coverage.left(), left as u64);
                let missing: u64 = coverage.missing(0..500).iter().map(|gap| gap.end - gap.start).sum();
                assert_eq!(missing, left as u64);
            }
            assert_eq!(coverage.checksum(), Some(checksum(&bytes)));
        }
    }

    #[test]
    fn what_is_missing_is_reported() {
        let mut coverage = Coverage::new(100);
        assert_eq!(coverage.missing(10..20), [10..20]);
        coverage.record(10..20, 0, |_| 0);
        coverage.record(30..40, 0, |_| 0);
        assert_eq!(coverage.missing(0..100), [0..10, 20..30, 40..100]);
        assert_eq!(coverage.missing(15..35), [20..30]);
        assert_eq!(coverage.missing(10..20), []);
        assert_eq!(coverage.received(), [(10..20, 0), (30..40, 0)]);
    }

    #[test]
    fn an_empty_object_is_complete() {
        assert_eq!(Coverage::new(0).checksum(), Some(0));
    }
}
