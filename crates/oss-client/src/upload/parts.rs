//! The parts of one upload that are in flight.

use std::future::Future;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::{JoinError, JoinSet};

use super::Lane;
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::multipart::Part,
};

/// The destination of the object.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) bucket: Arc<str>,
    pub(super) key: Arc<str>,
}

impl Destination {
    pub(super) fn name(&self, error: Error) -> Error {
        error.on(Some(&self.bucket), Some(&self.key))
    }
}

/// Parts in flight, and those that arrived.
#[derive(Debug)]
pub(super) struct PartsInFlight {
    lanes: Vec<Lane>,
    concurrency: usize,
    budget: u64,
    tasks: JoinSet<Sent>,
    started: usize,
    bytes: u64,
    lent: usize,
    arrived: Vec<Part>,
    failed: Arc<AtomicBool>,
}

/// A part that is no longer in flight.
#[derive(Debug)]
struct Sent {
    number: u32,
    length: u64,
    lent: bool,
    outcome: Result<Part>,
}

impl PartsInFlight {
    pub(super) fn new(lanes: Vec<Lane>, concurrency: usize, budget: u64) -> Self {
        Self {
            lanes,
            concurrency: concurrency.max(1),
            budget,
            tasks: JoinSet::new(),
            started: 0,
            bytes: 0,
            lent: 0,
            arrived: Vec::new(),
            failed: Arc::default(),
        }
    }

    /// Continues after parts that have arrived, which are the first ones.
    pub(super) fn continue_after(&mut self, arrived: Vec<Part>) {
        self.started = arrived.len();
        self.arrived = arrived;
    }

    /// Takes out what is in flight.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Vec::new(), self.concurrency, self.budget))
    }

    /// Parts begun so far.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    /// Whether a part in flight has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// How many parts of this size are in flight at most.
    pub(super) fn most_in_flight(&self, part_size: u64) -> usize {
        let fit = usize::try_from(self.budget / part_size.max(1)).unwrap_or(usize::MAX);
        self.concurrency.min(fit.max(1))
    }

    /// Waits until `length` more bytes are within the budget; one part always is.
    pub(super) async fn make_room(&mut self, length: u64) -> Result<()> {
        while self.bytes + length > self.budget || self.has_failed() {
            if !self.collect().await? {
                break;
            }
        }
        Ok(())
    }

    /// Calls `send` with the number of the next part, on the next lane. Waits while the allowed number of parts is in
    /// flight.
    pub(super) async fn start<F>(&mut self, length: u64, lent: bool, send: impl FnOnce(Client, u32) -> F) -> Result<()>
    where
        F: Future<Output = Result<Part>> + Send + 'static,
    {
        while self.tasks.len() >= self.concurrency || self.has_failed() {
            if !self.collect().await? {
                break;
            }
        }
        let Some(lane) = self.lanes.get(self.started % self.lanes.len().max(1)) else {
            return Err(ErrorKind::Cancelled("the upload has ended".to_owned()).into());
        };
        self.started += 1;
        self.bytes += length;
        self.lent += usize::from(lent);
        let number = self.started as u32;
        let sending = send(lane.client.clone(), number);
        let failed = Arc::clone(&self.failed);
        let send = async move {
            let outcome = sending.await;
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            Sent { number, length, lent, outcome }
        };
        self.tasks.spawn_on(send, &lane.runtime);
        Ok(())
    }

    /// Waits for all parts that are sent from memory of the caller's.
    pub(super) async fn collect_lent(&mut self) -> Result<()> {
        while self.lent > 0 && self.collect().await? {}
        Ok(())
    }

    /// Waits for all parts and returns them in order.
    pub(super) async fn collect_all(&mut self) -> Result<Vec<Part>> {
        while self.collect().await? {}
        let mut parts = std::mem::take(&mut self.arrived);
        parts.sort_unstable_by_key(|part| part.number);
        Ok(parts)
    }

    /// Cancels the parts in flight and waits until all have stopped.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
        (self.bytes, self.lent) = (0, 0);
    }

    /// Waits for one part; false if none is in flight. If it failed, the others are stopped.
    async fn collect(&mut self) -> Result<bool> {
        let Some(joined) = self.tasks.join_next().await else { return Ok(false) };
        let sent = joined.map_err(stopped)?;
        self.bytes -= sent.length;
        self.lent -= usize::from(sent.lent);
        match sent.outcome {
            Ok(part) => self.arrived.push(part),
            Err(error) => return Err(error.with(self.other_failures().await)),
        }
        Ok(true)
    }

    async fn other_failures(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        self.tasks.abort_all();
        while let Some(joined) = self.tasks.join_next().await {
            if let Ok(Sent { number, outcome: Err(error), .. }) = joined {
                failures.push(format!("part {number} failed too: {error}"));
            }
        }
        (self.bytes, self.lent) = (0, 0);
        failures
    }
}

fn stopped(_: JoinError) -> Error {
    ErrorKind::Cancelled("a part of the upload was stopped".to_owned()).into()
}
