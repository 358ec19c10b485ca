//! What this process has done so far: requests, bytes, retries, times to the first byte.
//!
//! Counted per process, because clients come and go with datasets. All are plain additions without order between them:
//! together they cost an object less than a hundredth of its time, so nothing switches them off.

use std::{
    array,
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use http::Method;

use crate::error::{Error, ErrorKind};

/// What a request does, by its method and whether it names an object.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Operation {
    Get,
    Head,
    /// Anything that is asked of a bucket or of the service; listings are the most of it.
    List,
    Put,
    Post,
    Delete,
}

/// What a request does: the names of its counts, in their order.
pub const OPERATIONS: [&str; 6] = ["get", "head", "list", "put", "post", "delete"];

impl Operation {
    pub(crate) fn of(method: &Method, names_object: bool) -> Self {
        match *method {
            Method::GET if !names_object => Self::List,
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::PUT => Self::Put,
            Method::POST => Self::Post,
            _ => Self::Delete,
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
enum Cause {
    Throttled,
    ServerError,
    Refused,
    Timeout,
    NoConnection,
    LostConnection,
    Corrupted,
    Other,
}

/// The names of the causes of failures, in the order of their counts.
pub const CAUSES: [&str; 8] =
    ["throttled", "server_error", "refused", "timeout", "no_connection", "lost_connection", "corrupted", "other"];

impl Cause {
    fn of(error: &Error) -> Self {
        match error.kind() {
            _ if error.is_throttle() => Self::Throttled,
            ErrorKind::Service { status, .. } if status.is_server_error() => Self::ServerError,
            ErrorKind::Service { .. } => Self::Refused,
            ErrorKind::Timeout(_) => Self::Timeout,
            ErrorKind::Connect(_) | ErrorKind::Untrusted(_) | ErrorKind::Proxy(_) => Self::NoConnection,
            ErrorKind::Transport(_) => Self::LostConnection,
            ErrorKind::Integrity(_) | ErrorKind::Changed(_) => Self::Corrupted,
            _ => Self::Other,
        }
    }
}

/// The name of the cause of a failure.
pub(crate) fn cause_of(error: &Error) -> &'static str {
    CAUSES[Cause::of(error) as usize]
}

/// Upper ends of the classes of times to the first byte, in microseconds; a last class has no end. Those from 5 ms on
/// are the ones that OpenTelemetry's conventions name for `http.client.request.duration`; OSS inside one region answers
/// faster.
pub const FIRST_BYTE_BOUNDS: [u64; 18] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000,
    2_500_000, 5_000_000, 7_500_000, 10_000_000,
];

const CLASSES: usize = FIRST_BYTE_BOUNDS.len() + 1;

/// One number of a process.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counts of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: [Counter; OPERATIONS.len()],
    retries: [Counter; CAUSES.len()],
    failures: [Counter; CAUSES.len()],
    first_byte: [Counter; CLASSES],
    first_byte_microseconds: Counter,
    pub(crate) received: Counter,
    pub(crate) compared: Counter,
    pub(crate) sent: Counter,
    pub(crate) connections: Counter,
    pub(crate) listed_pages: Counter,
    pub(crate) waited_nanoseconds: Counter,
}

pub(crate) static METRICS: Metrics = Metrics::new();

impl Metrics {
    const fn new() -> Self {
        Self {
            requests: [const { Counter::new() }; OPERATIONS.len()],
            retries: [const { Counter::new() }; CAUSES.len()],
            failures: [const { Counter::new() }; CAUSES.len()],
            first_byte: [const { Counter::new() }; CLASSES],
            first_byte_microseconds: Counter::new(),
            received: Counter::new(),
            compared: Counter::new(),
            sent: Counter::new(),
            connections: Counter::new(),
            listed_pages: Counter::new(),
            waited_nanoseconds: Counter::new(),
        }
    }

    /// Counts a request that was answered, whatever the answer.
    pub(crate) fn answered(&self, operation: Operation, waited: Duration, sent: usize) {
        self.requests[operation as usize].add(1);
        self.sent.add(sent as u64);
        let microseconds = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let class = FIRST_BYTE_BOUNDS.partition_point(|&bound| bound < microseconds);
        self.first_byte[class].add(1);
        self.first_byte_microseconds.add(microseconds);
    }

    /// Counts a request that got no answer.
    pub(crate) fn unanswered(&self, operation: Operation) {
        self.requests[operation as usize].add(1);
    }

    /// Counts a failure after which the request is sent again.
    pub(crate) fn retried(&self, error: &Error) {
        self.retries[Cause::of(error) as usize].add(1);
    }

    /// Counts a failure that the caller gets.
    pub(crate) fn failed(&self, error: &Error) {
        self.failures[Cause::of(error) as usize].add(1);
    }

    fn all(&self) -> impl Iterator<Item = &Counter> {
        let several = self.requests.iter().chain(&self.retries).chain(&self.failures).chain(&self.first_byte);
        several.chain([
            &self.first_byte_microseconds,
            &self.received,
            &self.compared,
            &self.sent,
            &self.connections,
            &self.listed_pages,
            &self.waited_nanoseconds,
        ])
    }
}

thread_local! {
    static WAITED_HERE: Cell<u64> = const { Cell::new(0) };
}

/// Waits for the I/O thread, which is to say for OSS; returns also how many nanoseconds.
pub fn waiting<T>(wait: impl FnOnce() -> T) -> (T, u64) {
    let began = Instant::now();
    let found = wait();
    let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    METRICS.waited_nanoseconds.add(waited);
    WAITED_HERE.set(WAITED_HERE.get().wrapping_add(waited));
    (found, waited)
}

/// Nanoseconds that this thread has waited so.
pub fn waited_here() -> u64 {
    WAITED_HERE.get()
}

/// The counts of this process at one moment. What happens meanwhile may be in some of them and not yet in others.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Requests by what they do, as [`OPERATIONS`] has them. Each attempt is one.
    pub requests: [u64; OPERATIONS.len()],
    /// Attempts after which the request was sent again, by cause, as [`CAUSES`] has them.
    pub retries: [u64; CAUSES.len()],
    /// Operations that failed, by the cause of the last attempt.
    pub failures: [u64; CAUSES.len()],
    /// Answers by the time to their first byte, as [`FIRST_BYTE_BOUNDS`] has it; not cumulative.
    pub first_byte: [u64; CLASSES],
    /// All these times together.
    pub first_byte_microseconds: u64,
    /// Bytes of objects received; bytes that were requested twice count twice.
    pub received: u64,
    /// Bytes of whole objects whose CRC-64 was compared with the one that OSS stores, and was equal.
    pub compared: u64,
    /// Bytes of request bodies.
    pub sent: u64,
    /// Connections opened.
    pub connections: u64,
    /// Pages of listings received.
    pub listed_pages: u64,
    /// How long threads of the program waited for OSS, all together.
    pub waited_nanoseconds: u64,
}

impl Counts {
    /// What this process has counted so far.
    pub fn so_far() -> Self {
        let of = |counters: &'static [Counter]| move |index: usize| counters[index].get();
        Self {
            requests: array::from_fn(of(&METRICS.requests)),
            retries: array::from_fn(of(&METRICS.retries)),
            failures: array::from_fn(of(&METRICS.failures)),
            first_byte: array::from_fn(of(&METRICS.first_byte)),
            first_byte_microseconds: METRICS.first_byte_microseconds.get(),
            received: METRICS.received.get(),
            compared: METRICS.compared.get(),
            sent: METRICS.sent.get(),
            connections: METRICS.connections.get(),
            listed_pages: METRICS.listed_pages.get(),
            waited_nanoseconds: METRICS.waited_nanoseconds.get(),
        }
    }

    /// Begins at zero, in a process that was forked and has counted nothing of its own.
    pub fn begin() {
        for counter in METRICS.all() {
            counter.0.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_the_class_that_ends_at_it() {
        let metrics = Metrics::new();
        for microseconds in [0, 250, 251, 10_000_000, 10_000_001] {
            metrics.answered(Operation::Get, Duration::from_micros(microseconds), 3);
        }
        let counted: Vec<u64> = metrics.first_byte.iter().map(Counter::get).collect();
        assert_eq!((counted[0], counted[1], counted[17], counted[18]), (2, 1, 1, 1));
        assert_eq!(metrics.requests[Operation::Get as usize].get(), 5);
        assert_eq!(metrics.sent.get(), 15);
        assert_eq!(metrics.first_byte_microseconds.get(), 20_000_502);
    }

    #[test]
    fn each_cause_has_a_name() {
        let named = |kind: ErrorKind| CAUSES[Cause::of(&kind.into()) as usize];
        assert_eq!(named(ErrorKind::Timeout(String::new())), "timeout");
        assert_eq!(named(ErrorKind::Connect(String::new())), "no_connection");
        assert_eq!(named(ErrorKind::Transport(String::new())), "lost_connection");
        assert_eq!(named(ErrorKind::Integrity(String::new())), "corrupted");
        assert_eq!(named(ErrorKind::Config(String::new())), "other");
    }
}
