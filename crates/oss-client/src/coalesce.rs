//! Joins ranges that lie close together, so that one request fetches them.
//!
//! Reading some bytes and dropping them is cheaper than another request, up to a gap that depends on the caller:
//! members of archives, gathered reads and distributed checkpoints each measured their own.

use std::ops::Range;

/// Something that lies at a range of bytes of some object.
pub trait Located {
    /// The bytes.
    fn range(&self) -> Range<u64>;

    /// Whether both lie in the same version of the same object.
    fn is_beside(&self, other: &Self) -> bool;
}

/// A range of an object that is known from the context.
impl Located for Range<u64> {
    fn range(&self) -> Range<u64> {
        self.clone()
    }

    fn is_beside(&self, _other: &Self) -> bool {
        true
    }
}

/// Groups items into runs. Nothing is lost, and the order stays as it is: sort the items by object and first byte
/// before.
///
/// An item joins the run before it if it lies in the same object, at most `largest_gap` bytes behind the end of that
/// run, and if the run then spans at most `largest_run` bytes. An item that overlaps the run begins a new one, and so
/// does one that lies before it. A single item may be longer than `largest_run`.
pub fn coalesce<T: Located>(items: impl IntoIterator<Item = T>, largest_gap: u64, largest_run: u64) -> Vec<Vec<T>> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some(run) if joins(run, &item, largest_gap, largest_run) => run.push(item),
            _ => runs.push(vec![item]),
        }
    }
    runs
}

fn joins<T: Located>(run: &[T], item: &T, largest_gap: u64, largest_run: u64) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
    let range = item.range();
    last.is_beside(item)
        && range.start.checked_sub(last.range().end).is_some_and(|gap| gap <= largest_gap)
        && range.end - first.range().start <= largest_run
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Item {
        object: u8,
        start: u64,
        length: u64,
    }

    impl Located for Item {
        fn range(&self) -> Range<u64> {
            self.start..self.start + self.length
        }

        fn is_beside(&self, other: &Self) -> bool {
            self.object == other.object
        }
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let item = (0_u8..3, 0_u64..1000, 0_u64..80).prop_map(|(object, start, length)| Item { object, start, length });
        prop::collection::vec(item, 0..60)
    }

    /// The bytes that a request for a run fetches.
    fn span(run: &[Item]) -> u64 {
        run.iter().map(|item| item.range().end).max().unwrap() - run.iter().map(|item| item.start).min().unwrap()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_is_kept(items in items(), gap in 0_u64..50, largest in 0_u64..300) {
            prop_assert_eq!(coalesce(items.clone(), gap, largest).concat(), items);
        }

        #[test]
        fn a_run_is_longer_than_allowed_only_if_a_single_item_is(
            items in items(), gap in 0_u64..50, largest in 0_u64..300,
        ) {
            for run in coalesce(items, gap, largest) {
                prop_assert!(run.len() == 1 || span(&run) <= largest);
            }
        }

        #[test]
        fn the_items_of_a_run_follow_each_other_closely_in_one_object(
            mut items in items(), gap in 0_u64..50, largest in 0_u64..300,
        ) {
            items.sort();
            for run in coalesce(items, gap, largest) {
                for pair in run.windows(2) {
                    let between = pair[1].start.checked_sub(pair[0].range().end);
                    prop_assert!(pair[0].object == pair[1].object && between.is_some_and(|between| between <= gap));
                }
            }
        }

        #[test]
        fn two_runs_could_not_be_one(mut items in items(), gap in 0_u64..50, largest in 0_u64..300) {
            items.sort();
            for pair in coalesce(items, gap, largest).windows(2) {
                let (run, next) = (&pair[0], &pair[1][0]);
                let last = run.last().unwrap();
                let apart = next.start.checked_sub(last.range().end).is_none_or(|between| between > gap);
                prop_assert!(next.object != last.object || apart || next.range().end - run[0].start > largest);
            }
        }
    }

    /// The number of items of each run.
    fn lengths(ranges: &[Range<u64>], largest_gap: u64, largest_run: u64) -> Vec<usize> {
        coalesce(ranges.to_vec(), largest_gap, largest_run).iter().map(Vec::len).collect()
    }

    #[test]
    fn neighbours_within_the_gap_and_the_limit_are_one_run() {
        assert_eq!(lengths(&[0..10, 10..20, 25..30, 36..40], 5, 30), [3, 1]);
        assert_eq!(lengths(&[0..10, 10..20, 20..30], 0, 20), [2, 1]);
        assert_eq!(lengths(&[0..100, 100..110], 5, 20), [1, 1]);
    }

    #[test]
    fn what_overlaps_or_lies_before_begins_a_new_run() {
        assert_eq!(lengths(&[0..10, 5..15, 0..1], 5, 100), [1, 1, 1]);
    }
}
