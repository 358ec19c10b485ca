//! The task that keeps the requests of one stream in flight.

mod archives;
mod budget;
mod slots;

use std::{future::Future, sync::Arc, time::Instant};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use self::{
    archives::Archives,
    budget::{Ahead, Budget, Excess},
    slots::{Slot, Slots},
};
use super::{Entry, Item, Outcome, Queue, Sequence, queue::Load, spans};
use crate::{
    client::Client,
    concurrency::{MaySend, StreamRequests},
    config::ClientConfig,
    error::{Error, ErrorKind, Result},
    memory::{ProcessBudget, StreamMemory},
    ops::get::FetchedObject,
};

/// Objects between the one being delivered and the one being requested. The byte budget bounds what they hold; this
/// bounds their number if they are tiny.
const MOST_OBJECTS: usize = 4096;

/// Bytes that may have arrived and wait for the reader, at first. Fresh memory costs more than to receive into it, and
/// a reader that keeps up needs little. A reader that pauses is served from these bytes for the time of some requests.
const FIRST_AHEAD: usize = 16 << 20;

/// Share of the budget above which an object is not prefetched: it would push all others out.
const LARGE_SHARE: usize = 4;

/// Share of the budget for one batch that the reader has taken.
const BATCH_SHARE: usize = 8;

/// The order in which objects are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// In the order of the sequence.
    Ordered,
    /// As they arrive.
    Arrival,
}

/// The part of a stream's budget that is kept for reading a large object by ranges.
pub fn kept_for_large(budget: usize) -> usize {
    budget / LARGE_SHARE
}

/// What all streams of a process may hold by the settings of one client.
pub fn process_budget(config: &ClientConfig) -> ProcessBudget {
    ProcessBudget { all: config.prefetch_bytes, for_windows: kept_for_large(config.prefetch_bytes) }
}

/// Starts fetching what `sequence` names, within `budget` bytes, of which a quarter is kept for a large object being
/// read.
///
/// Returns the queue to take it from, and the task that fills it: spawn it on the client's runtime.
pub fn start(
    client: Client,
    sequence: Sequence,
    budget: usize,
    delivery: DeliveryOrder,
) -> (Arc<Queue>, impl Future<Output = ()> + Send + 'static) {
    let large = kept_for_large(budget);
    let memory = Arc::clone(client.memory());
    let memory = Arc::new(StreamMemory::new(memory, budget - large, process_budget(client.config())));
    let queue = Arc::new(Queue::new(budget / BATCH_SHARE, Arc::clone(&memory)));
    // The caller of a batch waits for all of it.
    let limit = if sequence.is_batch() { budget } else { FIRST_AHEAD };
    let driver = Driver {
        requests: StreamRequests::new(Arc::clone(client.concurrency()), client.config().max_concurrency),
        client,
        sequence,
        ahead: Ahead::new(limit),
        budget: Arc::new(Budget::new(memory)),
        queue: Arc::clone(&queue),
        large,
        delivery,
        slots: Slots::default(),
        archives: Archives::default(),
        end: Ok(()),
    };
    (queue, driver.run())
}

struct Driver {
    client: Client,
    sequence: Sequence,
    queue: Arc<Queue>,
    requests: StreamRequests,
    budget: Arc<Budget>,
    ahead: Ahead,
    /// A larger object is not prefetched.
    large: usize,
    delivery: DeliveryOrder,
    slots: Slots,
    archives: Archives,
    /// The error that ended the sequence.
    end: Result<()>,
}

/// The result of a request: an object, or members of an archive.
#[expect(
    clippy::large_enum_variant,
    reason = "single objects are the common case; a box would cost each an allocation"
)]
enum FetchedEntry {
    One(spans::Fetched),
    Many(Vec<spans::Fetched>),
}

/// Why no further request is sent now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocked {
    ByConcurrency,
    /// By the stream's own setting.
    BySetting,
    ByBudget,
    BySequence,
    AtEnd,
    /// Nobody reads any more.
    Abandoned,
}

/// Whether members of archives were requested or grouped.
enum Admitted {
    Yes,
    NoRoom,
    /// Nobody reads any more.
    Abandoned,
}

/// The object to be requested next, as far as its size matters.
enum Next {
    Nothing,
    OfUnknownSize,
    OfSize(usize),
}

impl Next {
    fn new(entry: &Entry) -> Self {
        entry.size.map_or(Self::OfUnknownSize, |size| Self::OfSize(usize::try_from(size).unwrap_or(usize::MAX)))
    }
}

impl Driver {
    async fn run(mut self) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let blocked = self.admit(&mut in_flight);
            if blocked == Blocked::Abandoned {
                return;
            }
            let waited = self.hand_over();
            if self.slots.is_empty() && (self.sequence.is_exhausted() || self.end.is_err()) {
                self.queue.finish(std::mem::replace(&mut self.end, Ok(())));
                return;
            }
            tokio::select! {
                biased;
                Some(fetched) = in_flight.next(), if !in_flight.is_empty() => {
                    let mut count = 1;
                    self.finish(fetched);
                    // Everything that is ready goes to the reader at once.
                    while let Some(Some(fetched)) = in_flight.next().now_or_never() {
                        self.finish(fetched);
                        count += 1;
                    }
                    self.requests.in_flight(in_flight.len());
                    let starved = || self.queue.load().is_some_and(|load| load.items == 0);
                    let hungry = blocked == Blocked::ByConcurrency && (waited || starved());
                    // The pauses before and after a batch would be measured too.
                    if !self.sequence.is_batch() {
                        self.client.concurrency().completed(count, hungry, Instant::now());
                    }
                }
                filled = self.sequence.fill(), if blocked == Blocked::BySequence => {
                    if let Err(error) = filled {
                        self.end = Err(error);
                    }
                }
                () = self.budget.freed() => {}
            }
        }
    }

    /// Requests as many of the next objects as concurrency and budget allow, and says what stopped it.
    fn admit(&mut self, in_flight: &mut FuturesUnordered<FetchFuture>) -> Blocked {
        loop {
            let Some(mut load) = self.queue.load() else { return Blocked::Abandoned };
            self.requests.in_flight(in_flight.len());
            match self.requests.may_send(self.most_in_flight()) {
                MaySend::Yes => {}
                MaySend::NotNow => return Blocked::ByConcurrency,
                MaySend::OwnLimit => return Blocked::BySetting,
            }
            let deferred = self.slots.first_deferred();
            if deferred.is_none() && self.members_are_next() {
                match self.admit_members(in_flight, load) {
                    Admitted::Yes => continue,
                    Admitted::NoRoom => return Blocked::ByBudget,
                    Admitted::Abandoned => return Blocked::Abandoned,
                }
            }
            let (reserve, large) = match self.next_object(deferred) {
                Next::OfSize(size) if size > self.large => (0, true),
                Next::OfSize(size) => (size, false),
                Next::OfUnknownSize => (self.client.sizes().guess().min(self.large), false),
                Next::Nothing if self.sequence.is_exhausted() || self.end.is_err() => return Blocked::AtEnd,
                Next::Nothing => return Blocked::BySequence,
            };
            if !self.reserved(deferred, reserve, load) {
                let Some(now) = self.queue.load_before_waiting() else { return Blocked::Abandoned };
                self.budget.wake_when_returned();
                load = now;
                if !self.reserved(deferred, reserve, load) {
                    self.ahead.blocked(load);
                    return Blocked::ByBudget;
                }
            }
            let Some((position, entry)) = self.take_next(deferred) else {
                self.budget.release(reserve);
                continue;
            };
            let slot = if large {
                Slot::Done(Item { entry, outcome: Ok(Outcome::Large(None)) })
            } else {
                if in_flight.is_empty() {
                    self.client.concurrency().begin(Instant::now());
                }
                let excess = Excess::new(Arc::clone(&self.budget), reserve);
                in_flight.push(fetch(self.client.clone(), position, entry, excess, self.large));
                Slot::InFlight(reserve)
            };
            self.slots.set(position, slot);
        }
    }

    fn most_in_flight(&self) -> usize {
        let concurrency = self.client.concurrency();
        if self.sequence.is_batch() { concurrency.burst() } else { concurrency.limit() }
    }

    fn next_object(&mut self, deferred: Option<u64>) -> Next {
        if let Some(position) = deferred {
            return match self.slots.get(position) {
                Some(Slot::Deferred(entry)) => Next::new(entry),
                _ => Next::Nothing,
            };
        }
        if self.end.is_err() { Next::Nothing } else { self.sequence.peek().map_or(Next::Nothing, Next::new) }
    }

    /// Reserves `bytes` for an object if budget and slots have room for it.
    fn reserved(&self, deferred: Option<u64>, bytes: usize, load: Load) -> bool {
        // One object is always allowed, or an object larger than the budget would stop the stream. The first slot
        // counts as that one: everything after it waits for it.
        let first_in_line = match deferred {
            Some(position) => position == self.slots.first(),
            None => self.slots.is_empty() && load.items == 0,
        };
        let has_slot = deferred.is_some() || self.slots.len() + load.items < MOST_OBJECTS;
        if first_in_line {
            self.budget.reserve(bytes);
        }
        first_in_line || (has_slot && !self.ahead.is_reached(load) && self.budget.try_reserve(bytes))
    }

    fn take_next(&mut self, deferred: Option<u64>) -> Option<(u64, Entry)> {
        match deferred {
            Some(position) => Some((position, self.slots.take_deferred(position)?)),
            None => {
                let entry = self.sequence.pop()?;
                Some((self.slots.push(), entry))
            }
        }
    }

    fn finish(&mut self, fetched: FetchedEntry) {
        match fetched {
            FetchedEntry::One(fetched) => self.finish_one(fetched),
            FetchedEntry::Many(fetched) => fetched.into_iter().for_each(|fetched| self.finish_one(fetched)),
        }
    }

    fn finish_one(&mut self, (position, mut entry, result): spans::Fetched) {
        let Some(slot) = self.slots.get(position) else { return };
        let reserve = if let Slot::InFlight(reserve) = slot { *reserve } else { 0 };
        let arrived = match &result {
            Ok(FetchedObject { bytes: Some(bytes), .. }) => bytes.len(),
            _ => 0,
        };
        self.budget.correct(reserve, arrived);
        if entry.size.is_none()
            && let Ok(FetchedObject { meta, .. }) = &result
        {
            self.client.sizes().record(meta.size);
        }
        let next = match result {
            Ok(FetchedObject { meta, bytes: Some(bytes) }) => {
                self.ahead.arrived += arrived;
                Slot::Done(Item { entry, outcome: Ok(Outcome::Fetched(meta, bytes)) })
            }
            Ok(FetchedObject { meta, bytes: None }) => {
                let size = usize::try_from(meta.size).unwrap_or(usize::MAX);
                if size > self.large {
                    Slot::Done(Item { entry, outcome: Ok(Outcome::Large(Some(meta))) })
                } else {
                    entry.size = Some(meta.size);
                    Slot::Deferred(entry)
                }
            }
            Err(error) => Slot::Done(Item { entry, outcome: Err(error) }),
        };
        self.slots.set(position, next);
    }

    /// Hands over the finished objects that are due; returns whether the reader was waiting.
    fn hand_over(&mut self) -> bool {
        let mut handed = 0;
        let waited = match self.delivery {
            DeliveryOrder::Ordered => {
                let Some(items) = self.slots.take_front() else { return false };
                self.queue.put(items.inspect(|item| handed += item.held()))
            }
            DeliveryOrder::Arrival => {
                let items = self.slots.take_arrived();
                !items.is_empty() && self.queue.put(items.into_iter().inspect(|item| handed += item.held()))
            }
        };
        self.budget.hand_over(handed);
        self.ahead.arrived -= handed;
        if waited {
            self.ahead.waited();
        }
        waited
    }
}

type FetchFuture = futures_util::future::BoxFuture<'static, FetchedEntry>;

fn fetch(client: Client, position: u64, entry: Entry, mut excess: Excess, most: usize) -> FetchFuture {
    async move {
        let result = client.get_where(&entry.bucket, &entry.key, move |size| excess.fits(size, most)).await;
        FetchedEntry::One((position, entry, result))
    }
    .boxed()
}

impl Drop for Driver {
    /// A cancelled driver must not leave its reader waiting for ever.
    fn drop(&mut self) {
        let cancelled = ErrorKind::Cancelled("the stream was stopped".to_owned());
        self.queue.finish(Err(Error::new(cancelled)));
    }
}
