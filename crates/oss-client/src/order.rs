//! The order of a dataset as a formula, without state and without an index in memory.
//!
//! N entries are ordered by seed and epoch, divided among R ranks in blocks of B, and each rank's blocks among W
//! workers. `docs/concepts/order.md` describes the formula for users. For R = 2, B = 3, W = 2:
//!
//! ```text
//!  place     0  1  2 │ 3  4  5 │ 6  7  8 │ 9 10 11 │12 13 14 │15 16 17 │18 19
//!  rank         0    │    1    │    0    │    1    │    0    │    1    │ the tail: no full group
//!  worker       0    │    0    │    1    │    1    │    0    │    0    │
//!            └──── a group ────┘
//! ```
//!
//! The life of one position, the number of an object in what one worker delivers ([`Order::entry`]):
//!
//! 1. The positions that the worker consumed before (`skip`) are added.
//! 2. Block and offset follow by division: a worker has every W-th group of its rank, so its batches come in turn with
//!    those of the other workers, and a DataLoader delivers the same batches with any number of workers.
//! 3. Group, rank and offset give the place: the number in the sequence that all ranks share. Places below `start` were
//!    consumed before, by any number of ranks; so a cursor needs one number only.
//! 4. Places behind the last full group are the tail. `even` decides about them: [`Even::Pad`] gives all ranks as many
//!    and repeats the first entries, [`Even::Drop`] leaves some out, [`Even::None`] gives the first ranks one more.
//! 5. The shuffle maps the place to an entry: a permutation that the seed and the epoch select. It is a Feistel network
//!    over the next larger power of four, which is applied until the result lies inside; it takes no memory, and some
//!    ten nanoseconds. Eight rounds (`ROUNDS`) look random to statistical tests. A shuffle by blocks permutes within
//!    blocks, one by chunks also permutes whole blocks.
//!
//! [`Order::entry_among`] does the same while a listing still grows: it returns an entry only if no row to come could
//! change it. A full shuffle needs all rows; without a shuffle, or within a block, the full groups that are known
//! suffice.
//!
//! The formula is a promise: a cursor of an earlier release must mean the same entries, so no constant may ever change.

/// How the entries of an epoch are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// As they are listed.
    No,
    /// Each entry can come anywhere. No entry is decided before all are known.
    Full,
    /// Each entry stays within its block of so many.
    Blocks(u64),
    /// Whole blocks of so many change places, and each entry can come anywhere in its block. A last one that is shorter
    /// stays last. No entry is decided before all are known.
    Chunks(u64),
}

/// How the entries that are no full group (a block for each rank) are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Even {
    /// All ranks get as many; some of the first entries come twice.
    Pad,
    /// All ranks get as many; fewer entries than ranks are left out.
    Drop,
    /// Each entry comes once; the first ranks may get one more.
    None,
}

/// All numbers of the formula but the number of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What the mixing depends on, with the epoch.
    pub seed: u64,
    /// What differs from one pass over the data to the next.
    pub epoch: u64,
    /// How entries are mixed.
    pub shuffle: Shuffle,
    /// Positions of the whole sequence that were consumed before.
    pub start: u64,
    /// Which of the `world` shares.
    pub rank: u64,
    /// Number of shares, at least 1.
    pub world: u64,
    /// Entries that stay together, at least 1: a batch.
    pub batch_size: u64,
    /// What becomes of the last entries.
    pub even: Even,
    /// Which of the `workers` of this rank.
    pub worker: u64,
    /// Number of workers, at least 1.
    pub workers: u64,
    /// Positions of this worker that were consumed before.
    pub skip: u64,
}

impl Default for Order {
    /// All entries as they are listed, one by one, to a single reader.
    fn default() -> Self {
        Self {
            seed: 0,
            epoch: 0,
            shuffle: Shuffle::No,
            start: 0,
            rank: 0,
            world: 1,
            batch_size: 1,
            even: Even::Pad,
            worker: 0,
            workers: 1,
            skip: 0,
        }
    }
}

/// The positions of the sequence behind `start`, divided.
struct Division {
    /// Full groups: a block for each rank.
    groups: u64,
    /// Positions of this rank in what is left.
    tail: u64,
    /// The first of them in what is left.
    tail_first: u64,
}

impl Order {
    /// How many positions this worker has, of `count` entries.
    pub fn length(&self, count: u64) -> u64 {
        let division = self.divide(count);
        let blocks = division.groups / self.workers + u64::from(division.groups % self.workers > self.worker);
        let tail = if division.groups % self.workers == self.worker { division.tail } else { 0 };
        (blocks * self.batch_size + tail).saturating_sub(self.skip)
    }

    /// The entry at one of this worker's positions, of `count` entries. The position is below [`Order::length`].
    pub fn entry(&self, position: u64, count: u64) -> u64 {
        let division = self.divide(count);
        let (group, offset) = self.place(position);
        if group < division.groups {
            return self.entry_at(self.in_group(group, offset), count);
        }
        let place = self.start + division.groups * self.world * self.batch_size + division.tail_first + offset;
        self.entry_at(if place < count { place } else { (place - count) % count }, count)
    }

    /// The entry at a position, if the first `known` entries already decide it.
    pub fn entry_among(&self, position: u64, known: u64) -> Option<u64> {
        let (group, offset) = self.place(position);
        let group_end = (group + 1).checked_mul(self.world)?.checked_mul(self.batch_size)?.checked_add(self.start)?;
        if group_end > known {
            return None;
        }
        let place = self.in_group(group, offset);
        match self.shuffle {
            Shuffle::No => Some(place),
            Shuffle::Full | Shuffle::Chunks(_) => None,
            Shuffle::Blocks(size) => {
                ((place / size + 1).checked_mul(size)? <= known).then(|| self.entry_at(place, known))
            }
        }
    }

    /// Group of the rank's positions, and the offset in it.
    fn place(&self, position: u64) -> (u64, u64) {
        let position = position + self.skip;
        (self.worker + position / self.batch_size * self.workers, position % self.batch_size)
    }

    fn in_group(&self, group: u64, offset: u64) -> u64 {
        self.start + (group * self.world + self.rank) * self.batch_size + offset
    }

    fn divide(&self, count: u64) -> Division {
        let remaining = count.saturating_sub(self.start);
        let group = self.world * self.batch_size;
        let left = remaining % group;
        let (share, more) = (left / self.world, left % self.world);
        let (tail, tail_first) = match self.even {
            Even::Drop => (share, self.rank * share),
            Even::Pad => {
                let share = share + u64::from(more > 0);
                (share, self.rank * share)
            }
            Even::None => (share + u64::from(self.rank < more), self.rank * share + self.rank.min(more)),
        };
        Division { groups: remaining / group, tail, tail_first }
    }

    /// The entry at a place of the whole sequence.
    fn entry_at(&self, place: u64, count: u64) -> u64 {
        match self.shuffle {
            Shuffle::No => place,
            Shuffle::Full => permute(place, count, key(&[self.seed, self.epoch])),
            Shuffle::Blocks(size) => self.within_block(place / size, place % size, size, count),
            Shuffle::Chunks(size) => {
                let (full, place_of_block) = (count / size, place / size);
                let block = if place_of_block < full {
                    permute(place_of_block, full, key(&[self.seed, self.epoch]))
                } else {
                    place_of_block
                };
                self.within_block(block, place % size, size, count)
            }
        }
    }

    /// The entry at a place of a block of `size` entries; the last block may have fewer.
    fn within_block(&self, block: u64, offset: u64, size: u64, count: u64) -> u64 {
        let start = block * size;
        start + permute(offset, size.min(count - start), key(&[self.seed, self.epoch, block]))
    }
}

/// Rounds of the network. Four make a permutation that looks random if the inputs are not chosen; twice as many cost
/// ten nanoseconds.
const ROUNDS: usize = 8;

/// Bits of half a word at least, so that a round has something to mix if there are few entries.
const LEAST_HALF: u32 = 4;

/// The increment of splitmix64: an odd number without a pattern in its bits.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The permutation of `0..length` that `key` selects, at `position`: a Feistel network over the next larger power of
/// four, applied until the result lies inside.
fn permute(position: u64, length: u64, key: u64) -> u64 {
    // Inside comes round once in 256 times; a block of one entry is all that a full shuffle by chunks of one has.
    if length == 1 {
        return position;
    }
    let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
    let half = bits.div_ceil(2).max(LEAST_HALF);
    let mask = (1 << half) - 1;
    let keys: [u64; ROUNDS] =
        std::array::from_fn(|round| mix(key.wrapping_add((round as u64 + 1).wrapping_mul(GAMMA))));
    let mut value = position;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for key in keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        value = (left << half) | right;
        if value < length {
            return value;
        }
    }
}

/// One word that depends on all of these.
fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |key, part| mix((key ^ part).wrapping_add(GAMMA)))
}

/// The output function of splitmix64 (<https://prng.di.unimi.it/splitmix64.c>).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn whole(order: &Order, count: u64) -> Vec<u64> {
        (0..order.length(count)).map(|position| order.entry(position, count)).collect()
    }

    /// What each rank reads: the batches of its workers, in the order in which a loader asks them.
    fn rank(order: &Order, count: u64) -> Vec<u64> {
        let mut workers: Vec<_> = (0..order.workers)
            .map(|worker| {
                let worker = Order { worker, ..*order };
                whole(&worker, count).into_iter()
            })
            .collect();
        let mut entries = Vec::new();
        for turn in (0..order.workers as usize).cycle() {
            let before = entries.len();
            entries.extend(workers[turn].by_ref().take(order.batch_size as usize));
            if entries.len() - before < order.batch_size as usize {
                break;
            }
        }
        assert!(workers.iter_mut().all(|worker| worker.next().is_none()), "a worker has more than its turn");
        entries
    }

    fn shuffles() -> impl Strategy<Value = Shuffle> {
        prop_oneof![Just(Shuffle::No), Just(Shuffle::Full), (1u64..50).prop_map(Shuffle::Blocks)]
    }

    fn evens() -> impl Strategy<Value = Even> {
        prop_oneof![Just(Even::Pad), Just(Even::Drop), Just(Even::None)]
    }

    prop_compose! {
        fn orders()(
            seed in any::<u64>(), epoch in 0u64..5, shuffle in shuffles(), world in 1u64..6, batch_size in 1u64..9,
            even in evens(), workers in 1u64..5,
        ) -> Order {
            Order { seed, epoch, shuffle, world, batch_size, even, workers, ..Order::default() }
        }
    }

    proptest! {
        #[test]
        fn a_permutation_is_one(length in 1u64..3000, seed in any::<u64>()) {
            let mut image: Vec<u64> = (0..length).map(|position| permute(position, length, seed)).collect();
            image.sort_unstable();
            prop_assert!(image.into_iter().eq(0..length));
        }

        #[test]
        fn a_shuffle_stays_in_its_blocks(order in orders(), count in 0u64..400) {
            let all = Order { world: 1, workers: 1, batch_size: 1, ..order };
            let entries = whole(&all, count);
            let mut sorted = entries.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..count));
            if let Shuffle::Blocks(size) = order.shuffle {
                prop_assert!(entries.iter().zip(0..).all(|(entry, place)| entry / size == place / size));
            }
        }

        #[test]
        fn ranks_cover_what_they_promise(order in orders(), count in 0u64..400, start in 0u64..450) {
            let order = Order { start, ..order };
            let shares: Vec<Vec<u64>> =
                (0..order.world).map(|index| rank(&Order { rank: index, ..order }, count)).collect();
            let mut times: BTreeMap<u64, usize> = BTreeMap::new();
            for entry in shares.iter().flatten() {
                *times.entry(*entry).or_default() += 1;
            }
            let sequence = Order { world: 1, workers: 1, batch_size: 1, start: 0, ..order };
            let remaining: Vec<u64> = whole(&sequence, count).into_iter().skip(start as usize).collect();
            let total: usize = shares.iter().map(Vec::len).sum();
            let lengths: Vec<usize> = shares.iter().map(Vec::len).collect();
            match order.even {
                Even::None => {
                    prop_assert!(times.keys().eq(remaining.iter().collect::<std::collections::BTreeSet<_>>()));
                    prop_assert!(times.values().all(|times| *times == 1));
                    prop_assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
                }
                Even::Drop => {
                    prop_assert!(times.values().all(|times| *times == 1));
                    prop_assert!(times.keys().all(|entry| remaining.contains(entry)));
                    prop_assert!(remaining.len() - total < order.world as usize);
                    prop_assert!(lengths.iter().all(|length| *length == lengths[0]));
                }
                Even::Pad => {
                    prop_assert!(remaining.iter().all(|entry| times.contains_key(entry)));
                    prop_assert!(total - remaining.len() < order.world as usize);
                    prop_assert!(lengths.iter().all(|length| *length == lengths[0]));
                }
            }
        }

        #[test]
        fn the_number_of_workers_does_not_change_the_batches(order in orders(), count in 0u64..400, workers in 1u64..9) {
            prop_assert_eq!(rank(&order, count), rank(&Order { workers, ..order }, count));
        }

        /// All ranks at the same step: what they consumed, and what a new start on another topology gives, are all.
        #[test]
        fn a_new_start_goes_on_where_the_old_one_stopped(
            order in orders(), count in 0u64..400, steps in 0u64..20, world in 1u64..6, batch in 1u64..9,
        ) {
            let order = Order { even: Even::None, workers: 1, ..order };
            let groups = count / (order.world * order.batch_size);
            let consumed = steps.min(groups) * order.batch_size;
            let mut seen: Vec<u64> = (0..order.world)
                .flat_map(|index| {
                    let order = Order { rank: index, ..order };
                    (0..consumed).map(move |position| order.entry(position, count))
                })
                .collect();
            let next = Order { start: consumed * order.world, world, batch_size: batch, ..order };
            seen.extend((0..world).flat_map(|index| whole(&Order { rank: index, ..next }, count)));
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..count));
        }

        #[test]
        fn skipping_leaves_out_the_first(order in orders(), count in 0u64..400, skip in 0u64..100) {
            let rest: Vec<u64> = whole(&order, count).into_iter().skip(skip as usize).collect();
            prop_assert_eq!(rest, whole(&Order { skip, ..order }, count));
        }

        /// What is decided early is what it is in the end, and all of it is decided once all is known.
        #[test]
        fn a_growing_listing_never_changes_what_was_read(order in orders(), known in 0u64..300, more in 0u64..300) {
            let count = known + more;
            for position in 0..order.length(count) {
                if let Some(entry) = order.entry_among(position, known) {
                    prop_assert_eq!(entry, order.entry(position, count));
                    prop_assert!(entry < known);
                }
            }
        }
    }

    #[test]
    fn each_entry_comes_to_each_place_equally_often() {
        // 16 places, 16 entries, 20,000 seeds: chi-square with 15 degrees of freedom each, 99.99% below 44.3; of 16
        // rows and a fixed set of seeds none is above.
        let (length, seeds) = (16u64, 20_000u64);
        for place in 0..length {
            let mut counts = [0u64; 16];
            for seed in 0..seeds {
                counts[permute(place, length, key(&[seed, 0])) as usize] += 1;
            }
            let expected = seeds as f64 / length as f64;
            let chi: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
            assert!(chi < 44.3, "place {place}: {chi}");
        }
    }

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        let length = 100_000;
        let near = (1..length)
            .filter(|place| permute(*place, length, 7).abs_diff(permute(place - 1, length, 7)) <= 10)
            .count();
        // Two places at random are so near in 20 of 100,000 cases.
        assert!((5..45).contains(&near), "{near}");
    }

    #[test]
    fn the_formula_stays_as_it_is() {
        let shuffled = Order { seed: 1, epoch: 2, shuffle: Shuffle::Full, ..Order::default() };
        let blocks = Order { shuffle: Shuffle::Blocks(4), ..shuffled };
        assert_eq!(whole(&shuffled, 10), FULL);
        assert_eq!(whole(&blocks, 10), IN_BLOCKS);
    }

    // A cursor of an earlier release continues the order that it began with.
    const FULL: [u64; 10] = [2, 3, 0, 7, 1, 9, 4, 8, 5, 6];
    const IN_BLOCKS: [u64; 10] = [0, 2, 1, 3, 7, 5, 4, 6, 9, 8];
}
