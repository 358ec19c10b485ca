//! Keeps the requests of one stream in flight.

use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use super::{
    Entry, Item, Outcome, Queue, Source,
    queue::Load,
    spans::{self, Member, Run},
};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::get::FetchedObject,
};

/// Objects between the one being delivered and the one being requested. The byte budget bounds what they hold; this
/// bounds their number where they are tiny.
const WINDOW: usize = 4096;

/// Bytes that may have arrived before anybody takes them, at first. Fresh memory costs more than to receive into it, and a
/// reader that keeps up needs little; one that does not is served from this for the time of some requests.
const FIRST_AHEAD: usize = 16 << 20;

/// Share of the budget above which an object is not fetched ahead: it would push all others out.
const LARGE_SHARE: usize = 4;

/// Share of the budget that planned members of archives have: while those planned before are delivered, the next fit too.
const HORIZON_SHARE: u64 = 2;

/// Share of the planned positions, at their end, from which runs wait for what comes next: a shuffled chunk of which only
/// a part is planned lies scattered, and so does its rest. A half, so that a chunk of up to half a plan is read whole.
const HELD_SHARE: u64 = 2;

/// Share of the budget that one batch may hold in the reader's hands.
const BATCH_SHARE: usize = 8;

/// In which order objects are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In the order of the source.
    Ordered,
    /// As they arrive.
    Arrival,
}

/// The part of a stream's budget that is kept for reading a large object by ranges.
pub fn kept_for_large(budget: usize) -> usize {
    budget / LARGE_SHARE
}

/// Starts fetching what `source` names, within `budget` bytes, of which a quarter is kept for a large object being read.
///
/// Returns the queue to take it from, and the task that fills it: spawn it on the client's runtime.
pub fn start(
    client: Client,
    source: Source,
    budget: usize,
    delivery: Delivery,
) -> (Arc<Queue>, impl Future<Output = ()> + Send + 'static) {
    let queue = Arc::new(Queue::new(budget / BATCH_SHARE));
    let large = kept_for_large(budget);
    // Of a batch, somebody waits for all.
    let limit = if source.is_batch() { budget } else { FIRST_AHEAD };
    let ahead = Ahead { limit, arrived: 0, held_back: false };
    let driver = Driver {
        client,
        source,
        queue: Arc::clone(&queue),
        ahead,
        budget: Arc::new(Budget { bytes: budget - large, reserved: AtomicUsize::new(0), queue: Arc::clone(&queue) }),
        large,
        delivery,
        window: VecDeque::new(),
        arrived: Vec::new(),
        first: 0,
        deferred: BTreeSet::new(),
        planned: VecDeque::new(),
        held: Vec::new(),
        end: Ok(()),
    };
    (queue, driver.run())
}

struct Driver {
    client: Client,
    source: Source,
    queue: Arc<Queue>,
    budget: Arc<Budget>,
    ahead: Ahead,
    /// An object above this is not fetched ahead.
    large: usize,
    delivery: Delivery,
    /// Objects requested and not handed over yet, in order.
    window: VecDeque<Slot>,
    /// Positions of the objects that have arrived since the last were handed over; used where they go as they arrive.
    arrived: Vec<u64>,
    /// Position in the stream of `window[0]`.
    first: u64,
    /// Positions of the objects to be requested again.
    deferred: BTreeSet<u64>,
    /// Members of archives that are to be requested, in the order of their first positions.
    planned: VecDeque<Run>,
    /// Members that wait to be planned with those that come next.
    held: Vec<Member>,
    end: Result<()>,
}

/// What a stream may hold, and what it does.
struct Budget {
    bytes: usize,
    /// Bytes that the window holds or expects.
    reserved: AtomicUsize,
    queue: Arc<Queue>,
}

impl Budget {
    // Only the task of the driver changes it; it is atomic so that requests, which are part of that task, can share it.
    fn reserve(&self, bytes: usize) {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for so many bytes more.
    fn has_room(&self, bytes: usize, load: Load) -> bool {
        self.reserved.load(Ordering::Relaxed) + load.bytes + bytes <= self.bytes
    }
}

/// How much may have arrived before anybody takes it. The budget allows more, for a reader that turns out to need it.
struct Ahead {
    limit: usize,
    /// Bytes in the window, behind an object that is on its way.
    arrived: usize,
    /// The limit has held requests back since the reader last waited.
    held_back: bool,
}

impl Ahead {
    fn is_reached(&self, load: Load) -> bool {
        self.arrived + load.bytes >= self.limit
    }

    /// The reader had to wait. Where that is for want of requests, it may not happen again.
    fn waited(&mut self) {
        if std::mem::take(&mut self.held_back) {
            self.limit = self.limit.saturating_mul(2);
        }
    }
}

/// What is reserved for one object beyond what was expected, until it has arrived.
struct Excess {
    budget: Arc<Budget>,
    expected: usize,
    bytes: usize,
}

impl Excess {
    /// Whether an object that turns out to have `size` bytes fits.
    fn fits(&mut self, size: u64, most: usize) -> bool {
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= most) else { return false };
        let more = size.saturating_sub(self.expected + self.bytes);
        let fits = more == 0 || self.budget.queue.load().is_some_and(|load| self.budget.has_room(more, load));
        if fits {
            self.budget.reserve(more);
            self.bytes += more;
        }
        fits
    }
}

impl Drop for Excess {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

enum Slot {
    /// Requested; so many bytes are reserved for it.
    InFlight(usize),
    /// To be requested again, now that its size is known.
    Deferred(Entry),
    /// A member of an archive, to be requested with its neighbours.
    Planned,
    Done(Item),
    /// Handed over before those in front of it.
    Gone,
}

/// What a request brought: an object, or members of an archive.
#[expect(
    clippy::large_enum_variant,
    reason = "single objects are the common case; a box would cost each an allocation"
)]
enum Fetched {
    One(spans::Fetched),
    Many(Vec<spans::Fetched>),
}

impl Driver {
    async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let Some(blocked) = self.admit(&mut in_flight) else { return };
            let waited = self.hand_over();
            if self.window.is_empty() && (self.source.is_exhausted() || self.end.is_err()) {
                self.queue.finish(std::mem::replace(&mut self.end, Ok(())));
                return;
            }
            tokio::select! {
                biased;
                Some(fetched) = in_flight.next(), if !in_flight.is_empty() => {
                    let mut count = 1;
                    self.finish(fetched);
                    // All that is ready crosses to the reader in one go.
                    while let Some(Some(fetched)) = in_flight.next().now_or_never() {
                        self.finish(fetched);
                        count += 1;
                    }
                    let starved = || self.queue.load().is_some_and(|load| load.items == 0);
                    let hungry = blocked == Blocked::ByConcurrency && (waited || starved());
                    // Of a batch, the pauses before and after it would be measured too.
                    if !self.source.is_batch() {
                        self.client.concurrency().completed(count, hungry, Instant::now());
                    }
                }
                filled = self.source.fill(), if blocked == Blocked::BySource => {
                    if let Err(error) = filled {
                        self.end = Err(error);
                    }
                }
                () = self.queue.room.notified() => {}
            }
        }
    }

    /// Requests as many of the next objects as concurrency and budget allow, and says what stopped it; `None` once
    /// nobody reads any more.
    fn admit(&mut self, in_flight: &mut FuturesUnordered<FetchFuture>) -> Option<Blocked> {
        loop {
            let mut load = self.queue.load()?;
            if in_flight.len() >= self.most_in_flight() {
                return Some(Blocked::ByConcurrency);
            }
            let deferred = self.deferred.first().copied();
            if deferred.is_none() && (!self.planned.is_empty() || self.next_is_member() || self.release_held()) {
                let admitted = if self.planned.is_empty() { self.plan(load) } else { self.admit_run(in_flight, load) };
                if !admitted? {
                    return Some(Blocked::ByBudget);
                }
                continue;
            }
            let Some(size) = self.next_size(deferred) else {
                let at_end = self.source.is_exhausted() || self.end.is_err();
                return Some(if at_end { Blocked::AtEnd } else { Blocked::BySource });
            };
            let size = size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
            let large = size.is_some_and(|size| size > self.large);
            let reserve = if large { 0 } else { size.unwrap_or_else(|| self.client.sizes().guess().min(self.large)) };
            if !self.fits(deferred, reserve, load) {
                load = self.queue.load_before_waiting()?;
                if !self.fits(deferred, reserve, load) {
                    self.ahead.held_back |= self.ahead.is_reached(load);
                    return Some(Blocked::ByBudget);
                }
            }
            let Some((position, entry)) = self.take_next(deferred) else { continue };
            let slot = if large {
                Slot::Done(Item { entry, outcome: Ok(Outcome::Large(None)) })
            } else {
                self.budget.reserve(reserve);
                if in_flight.is_empty() {
                    self.client.concurrency().begin(Instant::now());
                }
                let excess = Excess { budget: Arc::clone(&self.budget), expected: reserve, bytes: 0 };
                in_flight.push(fetch(self.client.clone(), position, entry, excess, self.large));
                Slot::InFlight(reserve)
            };
            self.set(position, slot);
        }
    }

    fn most_in_flight(&self) -> usize {
        let concurrency = self.client.concurrency();
        if self.source.is_batch() { concurrency.burst() } else { concurrency.limit() }
    }

    fn next_is_member(&mut self) -> bool {
        self.end.is_ok() && self.source.peek().is_some_and(|next| next.span.is_some())
    }

    /// Takes the next members of archives from the source, as many as half the budget holds, and plans their requests, so
    /// that also those come together that lie further apart in the stream than in the archive. False where the window has
    /// no room, `None` once nobody reads any more.
    fn plan(&mut self, load: Load) -> Option<bool> {
        let full = |load: Load| self.window.len() + load.items > WINDOW / 2;
        if full(load) && full(self.queue.load_before_waiting()?) {
            return Some(false);
        }
        let most = self.budget.bytes as u64 / HORIZON_SHARE;
        let mut members = std::mem::take(&mut self.held);
        let mut bytes: u64 = members.iter().map(Member::size).sum();
        while members.len() < WINDOW / 2
            && let Some(next) = self.source.peek().filter(|next| next.span.is_some())
            && (members.is_empty() || bytes + next.size.unwrap_or_default() <= most)
            && let Some((position, entry)) = self.take_next(None)
        {
            match Member::of(position, entry) {
                Ok(member) if member.size() > (self.large) as u64 => {
                    self.set(position, Slot::Done(Item { entry: member.entry, outcome: Ok(Outcome::Large(None)) }));
                }
                Ok(member) => {
                    bytes += member.size();
                    self.set(position, Slot::Planned);
                    members.push(member);
                }
                Err(entry) => {
                    let text = "a member of an archive needs a size; make the index again".to_owned();
                    let error = Error::from(ErrorKind::Config(text)).on(Some(&entry.bucket), Some(&entry.key));
                    self.set(position, Slot::Done(Item { entry, outcome: Err(error) }));
                }
            }
        }
        let positions = members.iter().map(|member| member.position);
        let span = positions.clone().min().zip(positions.max());
        let mut runs = spans::runs(members, self.budget.bytes);
        if let Some((first, last)) = span
            && self.more_may_come()
        {
            let hold_from = last + 1 - (last + 1 - first) / HELD_SHARE;
            let kept = runs.partition_point(|run| run.first() < hold_from);
            self.held.extend(runs.drain(kept..).flat_map(|run| run.members));
        }
        self.planned.extend(runs);
        Some(true)
    }

    /// Whether members of archives follow, as far as is known.
    fn more_may_come(&mut self) -> bool {
        self.end.is_ok() && !self.source.is_exhausted() && self.source.peek().is_none_or(|next| next.span.is_some())
    }

    /// Plans the members that wait for others, once none can come; whether there are any.
    fn release_held(&mut self) -> bool {
        if self.held.is_empty() || self.more_may_come() {
            return false;
        }
        let held = std::mem::take(&mut self.held);
        self.planned.extend(spans::runs(held, self.budget.bytes));
        true
    }

    /// Requests the next planned members. False where the budget has no room, `None` once nobody reads any more.
    fn admit_run(&mut self, in_flight: &mut FuturesUnordered<FetchFuture>, load: Load) -> Option<bool> {
        let Some(run) = self.planned.front() else { return Some(true) };
        let (bytes, next) = (run.bytes() as usize, run.first() == self.first);
        // Everything waits for the next one, so it is let in once the reader has taken all that is there.
        let fits = |load: Load| (next && load.items == 0) || self.budget.has_room(bytes, load);
        if !fits(load) && !fits(self.queue.load_before_waiting()?) {
            return Some(false);
        }
        if let Some(run) = self.planned.pop_front() {
            for member in &run.members {
                self.set(member.position, Slot::InFlight(member.size() as usize));
            }
            self.budget.reserve(bytes);
            let fetched = spans::fetch(self.client.clone(), run);
            in_flight.push(fetched.map(Fetched::Many).boxed());
        }
        Some(true)
    }

    /// Size of the object to be requested next; the inner `None` where it is unknown, the outer where there is none.
    fn next_size(&mut self, deferred: Option<u64>) -> Option<Option<u64>> {
        if let Some(position) = deferred {
            return match self.window.get((position - self.first) as usize) {
                Some(Slot::Deferred(entry)) => Some(entry.size),
                _ => None,
            };
        }
        if self.end.is_err() { None } else { self.source.peek().map(|entry| entry.size) }
    }

    /// Whether budget and window have room for an object of `reserve` bytes.
    fn fits(&self, deferred: Option<u64>, reserve: usize, load: Load) -> bool {
        // One object is always allowed, or an object larger than the budget would stop the stream. The first of the
        // window counts as that one: everything behind it waits for it.
        let first_in_line = match deferred {
            Some(position) => position == self.first,
            None => self.window.is_empty() && load.items == 0,
        };
        let in_window = deferred.is_some() || self.window.len() + load.items < WINDOW;
        first_in_line || (in_window && !self.ahead.is_reached(load) && self.budget.has_room(reserve, load))
    }

    fn take_next(&mut self, deferred: Option<u64>) -> Option<(u64, Entry)> {
        if let Some(position) = deferred {
            self.deferred.remove(&position);
            let slot = self.window.get_mut((position - self.first) as usize)?;
            return match std::mem::replace(slot, Slot::InFlight(0)) {
                Slot::Deferred(entry) => Some((position, entry)),
                other => {
                    *slot = other;
                    None
                }
            };
        }
        let entry = self.source.pop()?;
        self.window.push_back(Slot::InFlight(0));
        Some((self.first + self.window.len() as u64 - 1, entry))
    }

    fn set(&mut self, position: u64, slot: Slot) {
        if matches!(slot, Slot::Done(_)) {
            self.arrived.push(position);
        }
        if let Some(place) = self.window.get_mut((position - self.first) as usize) {
            *place = slot;
        }
    }

    fn finish(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::One(fetched) => self.finish_one(fetched),
            Fetched::Many(fetched) => fetched.into_iter().for_each(|fetched| self.finish_one(fetched)),
        }
    }

    fn finish_one(&mut self, (position, mut entry, result): spans::Fetched) {
        let Some(slot) = self.window.get_mut((position - self.first) as usize) else { return };
        if let Slot::InFlight(reserve) = slot {
            self.budget.release(*reserve);
        }
        if entry.size.is_none()
            && let Ok(FetchedObject { meta, .. }) = &result
        {
            self.client.sizes().record(meta.size);
        }
        let next = match result {
            Ok(FetchedObject { meta, bytes: Some(bytes) }) => {
                self.budget.reserve(bytes.len());
                self.ahead.arrived += bytes.len();
                Slot::Done(Item { entry, outcome: Ok(Outcome::Fetched(meta, bytes)) })
            }
            Ok(FetchedObject { meta, bytes: None }) => {
                let size = usize::try_from(meta.size).unwrap_or(usize::MAX);
                if size > self.large {
                    Slot::Done(Item { entry, outcome: Ok(Outcome::Large(Some(meta))) })
                } else {
                    entry.size = Some(meta.size);
                    self.deferred.insert(position);
                    Slot::Deferred(entry)
                }
            }
            Err(error) => Slot::Done(Item { entry, outcome: Err(error) }),
        };
        self.set(position, next);
    }

    /// Hands over what is finished and due; returns whether the reader was waiting.
    fn hand_over(&mut self) -> bool {
        let waited = match self.delivery {
            Delivery::Ordered => self.hand_over_front(),
            Delivery::Arrival => self.hand_over_arrived(),
        };
        if waited {
            self.ahead.waited();
        }
        waited
    }

    fn hand_over_arrived(&mut self) -> bool {
        let (window, first) = (&mut self.window, self.first);
        let mut handed = 0;
        let items: Vec<Item> = (self.arrived.drain(..))
            .filter_map(|position| match std::mem::replace(window.get_mut((position - first) as usize)?, Slot::Gone) {
                Slot::Done(item) => {
                    handed += item.held();
                    Some(item)
                }
                _ => None,
            })
            .collect();
        while let Some(Slot::Gone) = self.window.front() {
            self.window.pop_front();
            self.first += 1;
        }
        self.budget.release(handed);
        self.ahead.arrived -= handed;
        !items.is_empty() && self.queue.put(items.into_iter())
    }

    fn hand_over_front(&mut self) -> bool {
        self.arrived.clear();
        let done = self.window.iter().take_while(|slot| matches!(slot, Slot::Done(_))).count();
        if done == 0 {
            return false;
        }
        self.first += done as u64;
        let mut handed = 0;
        let items = self.window.drain(..done).filter_map(|slot| match slot {
            Slot::Done(item) => {
                handed += item.held();
                Some(item)
            }
            _ => None,
        });
        let waited = self.queue.put(items);
        self.budget.release(handed);
        self.ahead.arrived -= handed;
        waited
    }
}

/// Why no further request is started now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocked {
    ByConcurrency,
    ByBudget,
    BySource,
    AtEnd,
}

type FetchFuture = futures_util::future::BoxFuture<'static, Fetched>;

fn fetch(client: Client, position: u64, entry: Entry, mut excess: Excess, most: usize) -> FetchFuture {
    async move {
        let result = client.get_where(&entry.bucket, &entry.key, move |size| excess.fits(size, most)).await;
        Fetched::One((position, entry, result))
    }
    .boxed()
}

impl Drop for Driver {
    /// A cancelled driver must not leave its reader waiting for ever.
    fn drop(&mut self) {
        let cancelled = crate::error::ErrorKind::Cancelled("the stream was stopped".to_owned());
        self.queue.finish(Err(Error::new(cancelled)));
    }
}
