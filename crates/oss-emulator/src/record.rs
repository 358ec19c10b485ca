//! The log of requests, for assertions in tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use parking_lot::Mutex;

use crate::route::Operation;

/// Records kept before the oldest is forgotten: the requests of any one test, in at most a few megabytes.
const CAPACITY: usize = 16_384;

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestRecord {
    /// Method on the wire.
    pub method: Method,
    /// The operation; `None` if the request could not be understood.
    pub operation: Option<Operation>,
    /// Bucket addressed.
    pub bucket: Option<String>,
    /// Key addressed, decoded.
    pub key: Option<String>,
    /// The `Range` header as sent.
    pub range: Option<String>,
    /// Status answered; that of an answer which was lost on purpose too. 0 where none was made.
    pub status: u16,
    /// Error code answered, such as `NoSuchKey`.
    pub error_code: Option<String>,
    /// Size of the response body as announced.
    pub response_bytes: u64,
    /// Request identifier answered.
    pub request_id: String,
    /// How many requests were in flight when this one came, with itself.
    pub concurrency: u64,
    /// The faults that acted on it.
    pub faults: Vec<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    recent: VecDeque<RequestRecord>,
    total: u64,
    totals: Totals,
}

/// Counts since the start or the last [`clear`](RequestLog::clear).
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) per_operation: BTreeMap<Operation, u64>,
    pub(crate) per_status: BTreeMap<u16, u64>,
    pub(crate) response_bytes: u64,
}

/// Handle to the requests answered so far. Clones share one log. The latest 16,384 records are kept, the counts are exact.
#[derive(Debug, Clone, Default)]
pub struct RequestLog {
    inner: Arc<Mutex<Inner>>,
    flight: Arc<Flight>,
}

/// Requests in flight.
#[derive(Debug, Default)]
struct Flight {
    now: AtomicU64,
    peak: AtomicU64,
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    flight: Arc<Flight>,
    /// How many there were when it came, with itself.
    pub(crate) concurrency: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.flight.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RequestLog {
    /// Counts a request as in flight.
    pub(crate) fn arrive(&self) -> InFlight {
        let concurrency = self.flight.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.flight.peak.fetch_max(concurrency, Ordering::Relaxed);
        InFlight { flight: Arc::clone(&self.flight), concurrency }
    }

    /// The most requests that were in flight at once since the start or the last [`clear`](Self::clear). A request is in
    /// flight from its head until its answer has been handed to the connection.
    pub fn peak_concurrency(&self) -> u64 {
        self.flight.peak.load(Ordering::Relaxed)
    }

    pub(crate) fn push(&self, record: RequestRecord) {
        let mut inner = self.inner.lock();
        inner.total += 1;
        if let Some(operation) = record.operation {
            *inner.totals.per_operation.entry(operation).or_default() += 1;
        }
        *inner.totals.per_status.entry(record.status).or_default() += 1;
        inner.totals.response_bytes += record.response_bytes;
        if inner.recent.len() == CAPACITY {
            inner.recent.pop_front();
        }
        inner.recent.push_back(record);
    }

    /// The kept records, oldest first.
    pub fn records(&self) -> Vec<RequestRecord> {
        self.inner.lock().recent.iter().cloned().collect()
    }

    /// How many requests were answered since the start or the last [`clear`](Self::clear).
    pub fn total(&self) -> u64 {
        self.inner.lock().total
    }

    /// How many requests of one kind were answered.
    pub fn count(&self, operation: Operation) -> u64 {
        self.inner.lock().totals.per_operation.get(&operation).copied().unwrap_or(0)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.inner.lock().totals.clone()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.flight.now.load(Ordering::Relaxed)
    }

    /// Forgets records and counts.
    pub fn clear(&self) {
        *self.inner.lock() = Inner::default();
        self.flight.peak.store(self.flight.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize) -> RequestRecord {
        RequestRecord {
            method: Method::GET,
            operation: Some(Operation::GetObject),
            bucket: Some("bucket".to_owned()),
            key: Some(number.to_string()),
            range: None,
            status: 200,
            error_code: None,
            response_bytes: 1,
            request_id: String::new(),
            concurrency: 1,
            faults: Vec::new(),
        }
    }

    #[test]
    fn keeps_the_latest_and_counts_all() {
        let log = RequestLog::default();
        for number in 0..CAPACITY + 3 {
            log.push(record(number));
        }
        let records = log.records();
        assert_eq!(records.len(), CAPACITY);
        assert_eq!(records[0].key.as_deref(), Some("3"));
        assert_eq!(log.total(), CAPACITY as u64 + 3);
        assert_eq!(log.count(Operation::GetObject), CAPACITY as u64 + 3);
        assert_eq!(log.count(Operation::PutObject), 0);
        log.clear();
        assert_eq!((log.total(), log.records().len()), (0, 0));
    }

    #[test]
    fn the_peak_is_the_most_at_once() {
        let log = RequestLog::default();
        let first = log.arrive();
        let second = log.arrive();
        assert_eq!((first.concurrency, second.concurrency, log.peak_concurrency()), (1, 2, 2));
        drop(first);
        log.clear();
        assert_eq!(log.peak_concurrency(), 1);
        drop(second);
        assert_eq!((log.arrive().concurrency, log.peak_concurrency()), (1, 1));
    }
}
