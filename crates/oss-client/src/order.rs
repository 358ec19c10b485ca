//! Which object stands where: the order of a dataset as a formula, without state and without an index in memory.
//!
//! N entries are ordered by seed and epoch, shared out to R ranks in blocks of B, and each rank's blocks to W workers.
//! `docs/concepts/order.md` describes the formula for users.

/// How the entries of an epoch are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// As they are listed.
    No,
    /// Each entry can come anywhere. Nothing is known before all entries are.
    Full,
    /// Each entry stays within its block of so many.
    Blocks(u64),
    /// Whole blocks of so many change places, and each entry can come anywhere in its block. A last one that is shorter
    /// stays last. Nothing is known before all entries are.
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
    Uneven,
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
    pub batch: u64,
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
            batch: 1,
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
    /// Where in what is left they begin.
    tail_first: u64,
}

impl Order {
    /// How many positions this worker has, of `count` entries.
    pub fn length(&self, count: u64) -> u64 {
        let division = self.divide(count);
        let blocks = division.groups / self.workers + u64::from(division.groups % self.workers > self.worker);
        let tail = if division.groups % self.workers == self.worker { division.tail } else { 0 };
        (blocks * self.batch + tail).saturating_sub(self.skip)
    }

    /// The entry at one of this worker's positions, of `count` entries. The position is below [`Order::length`].
    pub fn entry(&self, position: u64, count: u64) -> u64 {
        let division = self.divide(count);
        let (group, offset) = self.place(position);
        if group < division.groups {
            return self.entry_at(self.in_group(group, offset), count);
        }
        let place = self.start + division.groups * self.world * self.batch + division.tail_first + offset;
        self.entry_at(if place < count { place } else { (place - count) % count }, count)
    }

    /// The entry at a position, where `known` entries that are not all of them already decide it.
    pub fn entry_among(&self, position: u64, known: u64) -> Option<u64> {
        let (group, offset) = self.place(position);
        let group_end = (group + 1).checked_mul(self.world)?.checked_mul(self.batch)?.checked_add(self.start)?;
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
        (self.worker + position / self.batch * self.workers, position % self.batch)
    }

    fn in_group(&self, group: u64, offset: u64) -> u64 {
        self.start + (group * self.world + self.rank) * self.batch + offset
    }

    fn divide(&self, count: u64) -> Division {
        let remaining = count.saturating_sub(self.start);
        let group = self.world * self.batch;
        let left = remaining % group;
        let (share, more) = (left / self.world, left % self.world);
        let (tail, tail_first) = match self.even {
            Even::Drop => (share, self.rank * share),
            Even::Pad => {
                let share = share + u64::from(more > 0);
                (share, self.rank * share)
            }
            Even::Uneven => (share + u64::from(self.rank < more), self.rank * share + self.rank.min(more)),
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

    /// The entry at a place of a block of `size` entries, or fewer where it is the last.
    fn within_block(&self, block: u64, offset: u64, size: u64, count: u64) -> u64 {
        let start = block * size;
        start + permute(offset, size.min(count - start), key(&[self.seed, self.epoch, block]))
    }
}

/// Rounds of the network. Four make a permutation that looks random to who cannot choose the inputs; twice that costs
/// ten nanoseconds.
const ROUNDS: usize = 8;

/// Bits of half a word at least, so that a round has something to mix where there are few entries.
const LEAST_HALF: u32 = 4;

/// The increment of splitmix64: an odd number without a pattern in its bits.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The permutation of `0..length` that `key` selects, at `position`: a Feistel network over the next larger power of
/// four, applied until the result lies inside.
fn permute(position: u64, length: u64, key: u64) -> u64 {
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
