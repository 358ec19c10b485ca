//! Which page to ask for next: segments of the key space, listed side by side and delivered in order.
//!
//! A segment is listed page by page up to its end. While there are fewer segments than requests allowed, the first one
//! that seems long is split: a new segment is opened by a full page from a place some pages ahead, so a request that
//! finds keys is never wasted. What can be wasted is one request for each segment: one that finds nothing, or the last,
//! which reads past the end. So the number of segments bounds the number of requests, and nothing else is counted.

use std::collections::VecDeque;

use oss_protocol::xml::listed::ListedObjects;

use super::key_space::{KeySpace, Run};
use crate::error::Error;

/// Segments that any listing may open, and pages for each further one: with the one request that a segment may waste, n
/// pages take at most 1.1 n + 64 requests.
const FREE_SEGMENTS: u64 = 62;
const PAGES_PER_SEGMENT: u64 = 10;

/// Pages from one segment's start to the next: few at first, so that short listings are split at all and the first
/// pages come early, then a little more than the ten that pay for a segment.
const SHORTEST_SEGMENT: u64 = 3;
const LONGEST_SEGMENT: u64 = 12;

/// Pages listed after which segments get one page longer. Half of the free segments are spent on the first hundred
/// pages.
const PAGES_PER_STEP: u64 = 12;

/// Ends of pages that a run keeps, from which distances are estimated. A run is longer than a segment, so that it
/// covers keys of which one directory takes a page.
const RUN: usize = 16;

/// Guesses that may build on each other while guesses are good. Each doubles the distance, so that a listing soon has
/// many segments.
const GUESSES: u32 = 3;

/// If fewer segments than this are still allowed, they get longer: estimates that are always too short must not use
/// them up.
const SCARCE: u64 = 24;

/// The alphabets are learned from one key in so many.
const LEARN_EVERY: usize = 16;

/// Pages of the first segment that may wait even if memory is full: one of them is being delivered.
const HEAD_PAGES: usize = 2;

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageRequest {
    pub(super) segment: u64,
    pub(super) start_after: Option<String>,
    pub(super) continuation: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Asked,
    Finished,
}

#[derive(Debug)]
struct Segment {
    id: u64,
    /// Keys after this.
    start: Option<String>,
    /// Keys up to this one, which is included.
    end: Option<String>,
    continuation: Option<String>,
    progress: Progress,
    /// The last key listed.
    last: Option<String>,
    /// Keys listed one after the other, with how many came before each: the first of this segment or of those before
    /// that it continues, and the last of each page.
    run: VecDeque<(String, u64)>,
    ready: VecDeque<ListedObjects>,
    failure: Option<Error>,
}

impl Segment {
    fn new(id: u64, start: Option<String>, end: Option<String>) -> Self {
        Self {
            id,
            start,
            end,
            continuation: None,
            progress: Progress::Waiting,
            last: None,
            run: VecDeque::new(),
            ready: VecDeque::new(),
            failure: None,
        }
    }

    fn is_finished(&self) -> bool {
        self.progress == Progress::Finished
    }

    fn request(&mut self) -> PageRequest {
        self.progress = Progress::Asked;
        PageRequest { segment: self.id, start_after: self.start.clone(), continuation: self.continuation.clone() }
    }

    /// Joins the run of the segment before with the run of this one.
    fn continue_run(&mut self, mut before: VecDeque<(String, u64)>) {
        let offset = before.back().map_or(0, |(_, count)| *count);
        // The first key of this run says no more than the last of the run before.
        before.extend(self.run.drain(..).skip(1).map(|(key, count)| (key, offset + count)));
        self.run = before;
        self.trim_run();
    }

    fn trim_run(&mut self) {
        let excess = self.run.len().saturating_sub(RUN);
        self.run.drain(..excess);
    }

    /// The longest run, a quarter of it, and the last page: a long one is right if directories follow each
    /// other, a short one if the keys have just changed.
    fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let most = self.run.len().saturating_sub(1);
        let mut lengths = [most, most.div_ceil(4), 1];
        if lengths[1] == lengths[0] {
            lengths[1] = 0;
        }
        if lengths[2] == lengths[0] || lengths[2] == lengths[1] {
            lengths[2] = 0;
        }
        lengths.into_iter().filter(move |&length| 0 < length && length <= most).map(|length| {
            let (first, before) = &self.run[self.run.len() - 1 - length];
            let (last, count) = &self.run[self.run.len() - 1];
            Run { first, last, keys: count - before }
        })
    }
}

/// The state of one listing; no I/O.
#[derive(Debug)]
pub(super) struct SegmentedListing {
    /// In key order, without those that are finished and delivered.
    segments: VecDeque<Segment>,
    keys: KeySpace,
    /// Keys of a full page.
    page: u64,
    next_id: u64,
    /// Segments opened after the first.
    opened: u64,
    /// Of these, how many have no answer yet.
    unanswered: u64,
    /// How many guesses may build on each other now.
    guesses: u32,
    pages: u64,
    listed: u64,
    asked: usize,
    most_asked: usize,
    memory: usize,
    memory_limit: usize,
    largest_page: usize,
}

impl SegmentedListing {
    /// A full page has `page` keys. At most `memory_limit` bytes of rows wait to be delivered, besides a page or two of
    /// the first segment and the pages that are asked for before the size of a page is known.
    pub(super) fn new(prefix: &str, start_after: Option<String>, page: u64, memory_limit: usize) -> Self {
        Self {
            segments: VecDeque::from([Segment::new(0, start_after, None)]),
            keys: KeySpace::new(prefix, page),
            page,
            next_id: 1,
            opened: 0,
            unanswered: 0,
            guesses: 0,
            pages: 0,
            listed: 0,
            asked: 0,
            most_asked: 1,
            memory: 0,
            memory_limit,
            largest_page: 0,
        }
    }

    /// Whether everything has been delivered.
    pub(super) fn is_done(&self) -> bool {
        self.segments.is_empty()
    }

    /// The next page in key order, if it has arrived; an error is the last.
    pub(super) fn pop(&mut self) -> Option<Result<ListedObjects, Error>> {
        let first = self.segments.front_mut()?;
        if let Some(page) = first.ready.pop_front() {
            self.memory -= page.memory();
            self.drop_delivered();
            return Some(Ok(page));
        }
        let failure = first.failure.take()?;
        self.segments.clear();
        Some(Err(failure))
    }

    /// Whether [`SegmentedListing::pop`] has something.
    pub(super) fn is_ready(&self) -> bool {
        self.segments.front().is_some_and(|first| !first.ready.is_empty() || first.failure.is_some())
    }

    fn drop_delivered(&mut self) {
        while self
            .segments
            .front()
            .is_some_and(|first| first.is_finished() && first.ready.is_empty() && first.failure.is_none())
        {
            self.segments.pop_front();
        }
    }

    /// The next page to ask for while `most` requests may be in flight; the nearest to the reader first.
    pub(super) fn next(&mut self, most: usize) -> Option<PageRequest> {
        self.most_asked = most.max(1);
        if self.asked >= self.most_asked {
            return None;
        }
        let mut rank = 0;
        for index in 0..self.segments.len() {
            if self.segments[index].is_finished() {
                continue;
            }
            if !self.has_room(index, rank) {
                return None;
            }
            if self.segments[index].progress == Progress::Waiting {
                self.asked += 1;
                return Some(self.segments[index].request());
            }
            if self.may_open()
                && let Some(after) = self.split(index)
            {
                return Some(self.open(index, after));
            }
            rank += 1;
        }
        None
    }

    /// Whether there is memory for another page. Far segments leave half of it to near ones, which are delivered
    /// earlier.
    fn has_room(&self, index: usize, rank: usize) -> bool {
        let expected = self.memory + (self.asked + 1) * self.largest_page;
        let share = self.memory_limit - self.memory_limit / 2 * rank.min(self.most_asked) / self.most_asked;
        expected <= share || (index == 0 && self.segments[0].ready.len() < HEAD_PAGES)
    }

    fn may_open(&self) -> bool {
        // Listings of a page or two are the most frequent: no more guesses than pages that proved there is more.
        self.unanswered < self.pages && self.opened < 2 * self.pages && self.allowance() > 0
    }

    /// How many segments may still be opened.
    fn allowance(&self) -> u64 {
        (FREE_SEGMENTS + self.listed / self.page / PAGES_PER_SEGMENT).saturating_sub(self.opened)
    }

    /// Keys from one segment's start to the next.
    fn length(&self) -> u64 {
        let pages = (self.pages / PAGES_PER_STEP).clamp(SHORTEST_SEGMENT, LONGEST_SEGMENT);
        match self.allowance() {
            allowance if allowance >= SCARCE => pages * self.page,
            allowance if allowance >= SCARCE / 2 => 2 * pages * self.page,
            _ => 4 * pages * self.page,
        }
    }

    fn open(&mut self, index: usize, after: String) -> PageRequest {
        let end = self.segments[index].end.replace(after.clone());
        let mut segment = Segment::new(self.next_id, Some(after), end);
        self.next_id += 1;
        self.opened += 1;
        self.unanswered += 1;
        self.asked += 1;
        let request = segment.request();
        self.segments.insert(index + 1, segment);
        request
    }

    /// The key after which to split a segment that seems to have enough left.
    fn split(&self, index: usize) -> Option<String> {
        let segment = &self.segments[index];
        let end = segment.end.as_deref();
        let from = segment.last.as_deref().or(segment.start.as_deref())?;
        // A segment without a run is a guess; only the segments before it are known.
        let mut known = index;
        let mut guesses = u32::from(segment.last.is_none());
        while self.segments[known].run.len() < 2 {
            known = known.checked_sub(1)?;
            guesses += u32::from(self.segments[known].last.is_none());
        }
        if guesses > self.guesses {
            return None;
        }
        let length = self.length();
        let ahead = (length << guesses) as f64;
        let mut reached = false;
        // A segment that has just begun knows one page, which may be one directory: a longer run before it knows more.
        let marks = |index: usize| self.segments[index].run.len();
        let longest = (0..known).rev().max_by_key(|&before| marks(before));
        let longest = longest.filter(|&before| marks(before) > 2 * marks(known));
        let borrowed = longest.and_then(|before| self.segments[before].runs().next());
        for run in borrowed.into_iter().chain(self.segments[known].runs()) {
            if let Some(split) = self.keys.ahead(run, from, ahead, end) {
                reached = true;
                if split.beyond >= length as f64 / 2.0 {
                    return Some(split.after);
                }
            }
        }
        if reached || end.is_some() || guesses > 0 {
            return None;
        }
        self.keys.past_alike(from).map(|split| split.after)
    }

    /// Takes in the answer to a request. An answer that breaks the order changes nothing; the listing cannot continue.
    pub(super) fn answer(&mut self, id: u64, answer: Result<ListedObjects, Error>) -> Result<(), Disorder> {
        self.asked -= 1;
        let Some(index) = self.segments.iter().position(|segment| segment.id == id) else { return Ok(()) };
        let segment = &mut self.segments[index];
        let opening = id != 0 && segment.last.is_none() && segment.continuation.is_none();
        if opening {
            self.unanswered -= 1;
        }
        let mut page = match answer {
            Ok(page) => page,
            Err(error) => {
                self.fail(id, error);
                return Ok(());
            }
        };
        if page.continuation.is_some() && page.continuation == segment.continuation {
            return Err(Disorder);
        }
        let mut before = segment.last.as_deref().or(segment.start.as_deref()).unwrap_or_default();
        let mut kept = 0;
        let mut passed = false;
        for object in page.iter() {
            if object.key <= before {
                return Err(Disorder);
            }
            if segment.end.as_deref().is_some_and(|end| object.key > end) {
                passed = true;
                break;
            }
            before = object.key;
            kept += 1;
        }
        if opening {
            self.guesses = if kept == 0 { 0 } else { GUESSES.min(self.guesses + 1) };
        }
        segment.continuation = page.continuation.take();
        let finished = passed || segment.continuation.is_none();
        segment.progress = if finished { Progress::Finished } else { Progress::Waiting };
        page.truncate(kept);
        let previous = segment.run.back().map(|(key, _)| key.as_str());
        self.keys.learn(previous.into_iter().chain(page.iter().step_by(LEARN_EVERY).map(|object| object.key)));
        if let (Some(first), Some(last)) = (page.get(0), page.last()) {
            self.pages += 1;
            self.listed += kept as u64;
            if segment.run.is_empty() {
                segment.run.push_back((first.key.to_owned(), 0));
            }
            let count = segment.run.back().map_or(0, |(_, count)| *count) + kept as u64;
            segment.run.push_back((last.key.to_owned(), count));
            segment.trim_run();
            segment.last = Some(last.key.to_owned());
            self.memory += page.memory();
            self.largest_page = self.largest_page.max(page.memory());
            segment.ready.push_back(page);
        }
        self.pass_runs_on(index);
        self.drop_delivered();
        Ok(())
    }

    /// Ends the listing with this error, behind everything that comes before the segment's next page.
    pub(super) fn fail(&mut self, id: u64, error: Error) {
        let Some(index) = self.segments.iter().position(|segment| segment.id == id) else { return };
        let segment = &mut self.segments[index];
        segment.failure = Some(error);
        segment.progress = Progress::Finished;
        // The segments behind are never delivered.
        self.segments.truncate(index + 1);
        self.memory = self.segments.iter().flat_map(|segment| &segment.ready).map(ListedObjects::memory).sum();
    }

    /// The run of a finished segment is continued in the next.
    fn pass_runs_on(&mut self, index: usize) {
        let first = if index > 0 && self.segments[index - 1].is_finished() { index - 1 } else { index };
        for index in first..self.segments.len() - 1 {
            let segment = &mut self.segments[index];
            if !segment.is_finished() {
                break;
            }
            let run = std::mem::take(&mut segment.run);
            if let Some((last, _)) = run.back() {
                let next = &mut self.segments[index + 1];
                if let Some((first, _)) = next.run.front() {
                    self.keys.learn([last.as_str(), first].into_iter());
                }
                next.continue_run(run);
            }
        }
    }
}

/// The server does not list in key order, or not to the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disorder;

#[cfg(test)]
mod simulation;
