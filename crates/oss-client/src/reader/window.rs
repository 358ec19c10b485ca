//! Which bytes of an object are in memory, and which are fetched next.
//!
//! ```text
//!   0                            position                                     size
//!   ├─ edge ─┤ …   │ behind │ want │ ahead: in flight or arrived │  …   ├─ edge ─┤
//!                  └──────────── at most `reader_window` ────────┘
//! ```
//!
//! The window is a set of pieces that do not overlap; each is one range, in flight or arrived. The life of one read:
//!
//! 1. If all of its bytes are in memory and nothing else is to be asked for, [`Window::at_hand`] returns them.
//! 2. Otherwise [`Window::steps_for`] looks for what is missing. The first access fetches both ends of the object too
//!    (`EDGE`): `torch.load` begins there.
//! 3. A small miss becomes pieces of at least 64 KiB (`LEAST`). A miss of a mebibyte or more (`DIRECT`) is not copied:
//!    it becomes a step [`Step::Direct`], which the caller receives into its own memory with as many requests as
//!    [`Window::split`] says.
//! 4. A read that begins at the end of the one before, or up to 64 KiB after it (`SKIP`), is sequential. The window
//!    then asks for what comes next: a mebibyte at first (`FIRST_AHEAD`), and twice as much each time, up to half of
//!    the window. A large read runs ahead only by what arrives in the time to a first byte (`AHEAD_RATE`), since what
//!    is ahead is copied.
//! 5. A jump stops reading ahead. Pieces that are still in flight before the new position are dropped.
//! 6. Room is made by dropping pieces: first before the position, then beyond what was asked for. 16 MiB before the
//!    position stay for a short way back (`BEHIND`).
//! 7. The caller works through the steps in order: it waits for each piece and copies from it, and receives direct
//!    ranges.
//! 8. If only a few bytes of the object have never been received (`REMAINDER`), [`Window::steps_for_remainder`] fetches
//!    them: then the checksum covers the whole object and can be compared.
//!
//! A piece whose request failed is forgotten, and fetched again when its bytes are wanted.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use tokio::runtime::Handle;

use super::{object::ObjectReader, piece::Piece};
use crate::{
    buffer::BufferPool,
    config::ClientConfig,
    memory::{Memory, ProcessBudget, WindowBytes},
};

/// Bytes of each end that the first access fetches. `torch.load` starts with the directory at the end and the pickle at
/// the start, and those of a model of a thousand tensors have about this size.
const EDGE: u64 = 128 << 10;

/// The least that is fetched: a connection receives it in about a millisecond, and waits 35 ms for the first byte.
const LEAST: u64 = 64 << 10;

/// A read that starts at most this far after the last one counts as sequential; the bytes between are fetched too. The
/// records of a zip file are up to 64 bytes apart.
const SKIP: u64 = 64 << 10;

/// Misses of at least this size go into the caller's memory. A smaller one is not worth a request of its own to save
/// the copy.
const DIRECT: u64 = 1 << 20;

/// Bytes that are fetched ahead of a sequential reader at first; they double from there.
const FIRST_AHEAD: u64 = 1 << 20;

/// Requests that one large read is split into, if each then has at least a mebibyte. They run at the same time, so that
/// their latencies overlap. A read of 128 MiB is split into ranges of the configured size.
const SPLIT: u64 = 16;
const SMALLEST_RANGE: u64 = 1 << 20;

/// In a very large read, each connection takes half its share of the rest, and at the end ranges of `part_size`. At 35
/// ms to the first byte and 50 MB/s, with parts of 8 MiB alone a connection waits for a sixth of its time.
const SHARES: u64 = 2;

/// The longest range of a very large read. It takes 2.7 s at 50 MB/s, and 35 ms to the first byte are a hundredth of
/// that; longer ranges gain no more.
const LONGEST_SHARE: u64 = 128 << 20;

/// Bytes per second that a large read fetches ahead for the next one, for the time that the service takes to the first
/// byte. This is two thirds more than two processors receive: 70 MB at the 35 ms of OSS. If the first byte comes at
/// once, nothing is gained and a copy is lost: `torch.load` took 1.16 s of processor time for each GB with a quarter of
/// the window ahead, and 0.67 s with a mebibyte.
const AHEAD_RATE: u64 = 2_000_000_000;

/// Bytes before the position that are kept for a short way back.
const BEHIND: u64 = 16 << 20;

/// If at most this many bytes of the object were never received, they are fetched to complete the checksum.
const REMAINDER: u64 = 64 << 10;

/// A source of some bytes of a read.
#[derive(Debug)]
pub enum Step {
    /// From a piece of the window, once it has arrived.
    Piece(Arc<Piece>),
    /// From the network into the caller's memory. The range may start before what was asked for.
    Direct(Range<u64>),
}

/// The bytes of an object that are in memory, or on their way there, for one reader.
#[derive(Debug)]
pub struct Window {
    object: ObjectReader,
    /// The I/O thread of each of the object's clients.
    reactors: Vec<Handle>,
    buffers: BufferPool,
    /// Most bytes held.
    limit: u64,
    /// Longest range of one request.
    longest: u64,
    /// Most requests in flight.
    concurrency: usize,
    /// By first byte; they do not overlap.
    pieces: BTreeMap<u64, Arc<Piece>>,
    held: WindowBytes,
    stream: Stream,
    touched: bool,
    turn: usize,
}

/// A sequence of reads that follow each other.
#[derive(Debug, Default)]
struct Stream {
    /// Bytes before this have been asked for.
    end: u64,
    /// A reader that gets here needs more to be in flight.
    mark: u64,
    /// Bytes to request ahead of the reader.
    ahead: u64,
}

impl Window {
    /// A window over an object; nothing is fetched yet. `reactors` are the I/O threads of the object's clients, in
    /// their order.
    pub fn new(object: ObjectReader, reactors: Vec<Handle>) -> Self {
        let limit = object.clients()[0].config().reader_window;
        Self::within(limit, None, object, reactors)
    }

    /// The same, holding at most `limit` bytes: alone, or as a part of the memory of the process.
    pub fn within(
        limit: usize,
        shared: Option<(Arc<Memory>, ProcessBudget)>,
        object: ObjectReader,
        reactors: Vec<Handle>,
    ) -> Self {
        let config = object.clients()[0].config();
        let limit = limit.max(4) as u64;
        Self {
            limit,
            longest: longest_within(config, limit),
            concurrency: config.prefetch_concurrency.max(1),
            // A pool of its own, so that the memory is free when the reader is closed. It can keep every piece.
            buffers: BufferPool::new(limit as usize / 4),
            object,
            reactors,
            pieces: BTreeMap::new(),
            held: WindowBytes::new(shared),
            stream: Stream::default(),
            touched: false,
            turn: 0,
        }
    }

    /// The object.
    pub fn object(&self) -> &ObjectReader {
        &self.object
    }

    /// A window over the same version of the object with nothing in it.
    #[must_use]
    pub fn reopened(&self) -> Self {
        Self::within(self.limit as usize, self.held.shared(), self.object.reopened(), self.reactors.clone())
    }

    /// Most requests in flight for one read, over one of the clients.
    pub fn concurrency_per_client(&self) -> usize {
        self.concurrency.div_ceil(self.object.clients().len())
    }

    /// The requests that a large range is split into.
    pub fn split(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let least = self.range_length(range.end - range.start);
        let shares = SHARES * self.concurrency as u64;
        let mut rest = range;
        std::iter::from_fn(move || {
            let left = length_of(&rest);
            let share = (left / shares).next_multiple_of(LEAST).min(LONGEST_SHARE).max(least);
            let request = rest.start..rest.start + share.min(left);
            rest.start = request.end;
            (left > 0).then_some(request)
        })
    }

    /// The longest request of all.
    pub fn longest_range(&self) -> u64 {
        self.longest
    }

    /// The longest request if `total` bytes are wanted at once.
    pub fn range_length(&self, total: u64) -> u64 {
        total.div_ceil(SPLIT).next_multiple_of(LEAST).max(SMALLEST_RANGE).min(self.longest)
    }

    /// The bytes of `want`, if they are in memory together and nothing else is to be requested.
    pub fn at_hand(&self, want: &Range<u64>) -> Option<&[u8]> {
        if want.end > self.stream.mark && want.start < self.stream.end {
            return None;
        }
        self.ready(want.start)?.get(..usize::try_from(length_of(want)).ok()?)
    }

    /// The bytes from `at` on that are in memory.
    pub fn ready(&self, at: u64) -> Option<&[u8]> {
        let (_, piece) = self.pieces.range(..=at).next_back()?;
        piece.bytes_from(at).filter(|bytes| !bytes.is_empty())
    }

    /// Divides `want`, a range within the object, into steps, in their order. Requests what is missing, and what a
    /// sequential reader wants next.
    pub fn steps_for(&mut self, want: Range<u64>) -> Vec<Step> {
        if want.is_empty() {
            return Vec::new();
        }
        self.forget_failed();
        let first = !std::mem::replace(&mut self.touched, true);
        let missing = self.missing(&want);
        let mut direct = Vec::new();
        if let Some(gap) = missing.first() {
            let missed: u64 = missing.iter().map(length_of).sum();
            let large = missed >= DIRECT.min(self.limit / 4);
            let next = self.stream.end;
            let sequential = (next..=next.saturating_add(SKIP)).contains(&gap.start) && !first;
            if !sequential {
                self.forget_useless(want.start);
            }
            // What a sequential reader skipped just now is not in the window either.
            let skipped = next..gap.start;
            let begin = if sequential && self.overlapping(&skipped).next().is_none() { next } else { gap.start };
            if large {
                direct.clone_from(&missing);
                direct[0].start = begin;
                self.stream.end = want.end;
            } else {
                self.fetch_missing(begin, &missing, first, &want);
            }
            self.set_mark(&want);
            if sequential {
                self.run_ahead(&want, if large { missed } else { 0 });
            } else {
                self.stream.ahead = 0;
            }
        } else if want.end > self.stream.mark && want.start < self.stream.end {
            self.run_ahead(&want, 0);
        }
        self.forget_behind(&want);
        self.steps(&want, direct)
    }

    /// The bytes of the object that were never received, as steps, if they are few enough to fetch for the checksum.
    pub fn steps_for_remainder(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for gap in self.object.remainder(REMAINDER.min(self.limit / 4)) {
            self.forget_failed();
            self.fetch_all(gap.clone(), &gap);
            steps.extend(self.steps(&gap, Vec::new()));
        }
        steps
    }

    /// Fetches a small miss whose first gap is to be fetched from `begin`, and a bit more than that.
    fn fetch_missing(&mut self, begin: u64, missing: &[Range<u64>], first: bool, want: &Range<u64>) {
        let size = self.object.meta().size;
        let (least, edge) = (LEAST.min(self.limit / 4), EDGE.min(self.limit / 4));
        let small = length_of(want) <= edge;
        if first && small && (want.start < edge || want.end > size.saturating_sub(edge)) {
            let middle = size.saturating_sub(edge);
            self.fetch_all(0..if middle <= edge { size } else { edge }, want);
            self.fetch_all(middle..size, want);
        }
        for (index, gap) in missing.iter().enumerate() {
            let start = if index == 0 { begin } else { gap.start };
            // A reader that moves backwards has the following bytes already, and wants those before.
            let start =
                if self.pieces.contains_key(&gap.end) { start.min(gap.end.saturating_sub(least)) } else { start };
            let end = gap.end.max(start + least).min(size);
            self.fetch_all(start..end, want);
            self.stream.end = end;
        }
        // The start may have been fetched further than was asked.
        while let Some(piece) = self.pieces.range(..=self.stream.end).next_back().map(|(_, piece)| piece)
            && piece.range().end > self.stream.end
        {
            self.stream.end = piece.range().end;
        }
    }

    /// Fetches what is missing of `range`.
    fn fetch_all(&mut self, range: Range<u64>, want: &Range<u64>) {
        for missing in self.missing(&range) {
            self.make_room(length_of(&missing), want);
            self.fetch(missing);
        }
    }

    /// A reader that comes half the way to the end of what has been asked for wants more.
    fn set_mark(&mut self, want: &Range<u64>) {
        let end = self.stream.end;
        let complete = end >= self.object.meta().size;
        self.stream.mark = if complete { u64::MAX } else { end - end.saturating_sub(want.end) / 2 };
    }

    /// Asks for what a sequential reader wants after `want`, of which `direct` bytes go into its own memory. What is
    /// asked ahead costs a copy, and keeps the connections busy between two reads. So a large read runs ahead by what
    /// arrives in the time to a first byte, and smaller ones come from the window.
    fn run_ahead(&mut self, want: &Range<u64>, direct: u64) {
        let most = if direct > 0 { self.worth_ahead() } else { self.limit_now() / 2 };
        self.stream.ahead = (self.stream.ahead * 2).max(direct / 4).max(FIRST_AHEAD).min(most);
        let target = want.end.saturating_add(self.stream.ahead).min(self.object.meta().size);
        let length = (self.stream.ahead / SPLIT).max(4 * LEAST).min(self.longest);
        let mut under_way = self.pieces.values().filter(|piece| piece.is_under_way()).count();
        while self.stream.end < target {
            let rest = self.stream.end..target;
            let Some(gap) = self.missing(&rest).into_iter().next() else {
                self.stream.end = target;
                break;
            };
            let range = gap.start..gap.end.min(gap.start + length);
            if under_way >= self.concurrency || !self.make_room(length_of(&range), want) {
                break;
            }
            self.stream.end = range.end;
            self.fetch(range);
            under_way += 1;
        }
        self.set_mark(want);
    }

    /// Most bytes to hold while others hold what they do.
    fn limit_now(&self) -> u64 {
        self.limit.saturating_sub(self.held.of_others()).max(self.longest)
    }

    fn worth_ahead(&self) -> u64 {
        let most = self.limit_now() / 4;
        let wait = self.object.first_byte().map(|wait| wait.as_secs_f64() * AHEAD_RATE as f64);
        wait.map_or(most, |bytes| (bytes as u64).clamp(FIRST_AHEAD.min(most), most))
    }

    fn fetch(&mut self, range: Range<u64>) {
        let lane = self.turn % self.reactors.len();
        self.turn += 1;
        self.held.add(length_of(&range));
        let piece = Piece::fetch(self.object.clone(), lane, &self.reactors[lane], range.clone(), &self.buffers);
        self.pieces.insert(range.start, Arc::new(piece));
    }

    fn steps(&self, want: &Range<u64>, direct: Vec<Range<u64>>) -> Vec<Step> {
        let mut steps: Vec<_> = self.overlapping(want).map(|piece| Step::Piece(Arc::clone(piece))).collect();
        steps.extend(direct.into_iter().map(Step::Direct));
        steps.sort_by_key(|step| match step {
            Step::Piece(piece) => piece.range().start,
            Step::Direct(range) => range.start,
        });
        steps
    }

    fn overlapping(&self, want: &Range<u64>) -> impl Iterator<Item = &Arc<Piece>> {
        let before = self.pieces.range(..want.start).next_back().map(|(_, piece)| piece);
        let before = before.filter(|piece| piece.range().end > want.start);
        before.into_iter().chain(self.pieces.range(want.clone()).map(|(_, piece)| piece))
    }

    /// The ranges within `range` that no piece has.
    fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        for piece in self.overlapping(range) {
            if piece.range().start > at {
                missing.push(at..piece.range().start);
            }
            at = piece.range().end;
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    fn forget(&mut self, useless: impl Fn(&Piece) -> bool) {
        let held = &mut self.held;
        self.pieces.retain(|_, piece| {
            let keep = !useless(piece);
            if !keep {
                held.release(piece.length());
            }
            keep
        });
    }

    /// A request that failed while nobody waited for it is made again when its bytes are wanted.
    fn forget_failed(&mut self) {
        self.forget(Piece::has_failed);
    }

    /// The reader jumped: ranges in flight before the new position are dropped.
    fn forget_useless(&mut self, position: u64) {
        self.forget(|piece| piece.range().end <= position && piece.is_under_way());
    }

    fn forget_behind(&mut self, want: &Range<u64>) {
        let keep_from = want.start.saturating_sub(BEHIND.min(self.limit / 8));
        let edge = EDGE.min(self.limit / 4);
        self.forget(|piece| piece.range().end <= keep_from && piece.range().start >= edge);
    }

    /// Makes room for `length` bytes beside what is wanted now; false if nothing else can be dropped.
    fn make_room(&mut self, length: u64, want: &Range<u64>) -> bool {
        while self.held.own() + length > self.limit_now() {
            let behind = self.pieces.values().find(|piece| piece.range().end <= want.start);
            let beyond = || {
                let last = self.pieces.values().next_back();
                last.filter(|piece| piece.range().start >= self.stream.end.max(want.end))
            };
            let Some(start) = behind.or_else(beyond).map(|piece| piece.range().start) else { return false };
            if let Some(piece) = self.pieces.remove(&start) {
                self.held.release(piece.length());
            }
        }
        true
    }
}

/// The longest request for a range of an object that is not read through a window.
pub fn longest_request(config: &ClientConfig) -> u64 {
    longest_within(config, config.reader_window as u64)
}

fn longest_within(config: &ClientConfig, limit: u64) -> u64 {
    (config.part_size as u64).clamp(1, limit.max(4) / 4)
}

fn length_of(range: &Range<u64>) -> u64 {
    range.end - range.start
}
