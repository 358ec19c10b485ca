//! Reading an object by ranges, for the Python objects that do.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use oss_client::{
    catalogue::Entry,
    ops::head::ObjectMeta,
    prefetch,
    reader::{Job, Jobs, ObjectReader, Piece, Step, Window},
};
use pyo3::prelude::*;

use crate::{
    buffer::{LentBuffer, populate},
    connection::Connection,
    error,
    runtime::Reactor,
    wait::{SIGNAL_INTERVAL, Started, block_on, finish, start},
};

/// Bytes searched for a newline at a time where none are here yet; most lines are shorter.
const LINE_PIECE: usize = 4 << 10;

/// Ranges at most so far apart are one request: what is between costs less than a request does.
const MANY_GAP: u64 = 16 << 10;

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;

/// The least memory whose pages are made present beside the I/O threads: less has been received before.
const LEAST_POPULATED: usize = 1 << 20;

/// Pages made present in one call, which holds the lock of the process's memory for about a millisecond.
const POPULATED_AT_ONCE: usize = 2 << 20;

/// How [`Ranged::scattered`] reads.
#[derive(Clone, Copy)]
pub(crate) struct ScatteredOptions {
    /// Many such calls are made at the same time: none of them has to make many requests, nor asks for more.
    pub(crate) concurrent: bool,
    /// The bytes count for the checksum of the object.
    pub(crate) verify: bool,
}

/// Ranges that are received beside the window, so that several threads can at the same time.
#[must_use]
pub(crate) struct Scattered {
    lanes: Vec<(usize, Reactor)>,
    object: ObjectReader,
    jobs: Jobs<LentBuffer>,
    /// The larger memory that they go to.
    places: Vec<Range<usize>>,
    concurrency: usize,
}

impl Scattered {
    /// Waits until they are received.
    pub(crate) fn receive(self, py: Python<'_>) -> PyResult<()> {
        self.receive_beside(py, || Ok(()))
    }

    /// Does some work while they are received, and waits for them.
    fn receive_beside(self, py: Python<'_>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let jobs = Arc::new(self.jobs);
        let fetch = |lane| self.object.clone().work(lane, Arc::clone(&jobs), self.concurrency);
        let started: Vec<_> = self.lanes.iter().map(|(lane, reactor)| start(reactor, fetch(*lane))).collect();
        // Whatever happens from here on, the memory lent to the tasks is waited for.
        let done = work().and_then(|()| populate_while_running(py, &self.places, &started));
        finish(py, started, done)
    }
}

/// Has the pages of memory present that the I/O threads are filling: of fresh memory they take longer than its bytes, and
/// this thread would only wait.
fn populate_while_running(py: Python<'_>, places: &[Range<usize>], started: &[Started<()>]) -> PyResult<()> {
    let mut parts = places.iter().flat_map(|place| {
        let starts = place.clone().step_by(POPULATED_AT_ONCE);
        starts.map(|start| start..place.end.min(start + POPULATED_AT_ONCE))
    });
    loop {
        let until = Instant::now() + SIGNAL_INTERVAL;
        let mut populate_some = || {
            while Instant::now() < until && !started.iter().all(Started::is_over) {
                match parts.next() {
                    Some(part) => populate(&part),
                    None => return true,
                }
            }
            started.iter().all(Started::is_over)
        };
        if py.detach(&mut populate_some) {
            return Ok(());
        }
        py.check_signals()?;
    }
}

/// An object being read by ranges, with what is in memory of it.
pub(crate) struct Ranged {
    window: Window,
    /// Of the object's clients, in their order.
    reactors: Vec<Reactor>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// Whether a reader was told that the bytes are not the object's.
    told: bool,
}

impl Ranged {
    /// Opens an object whose description is known, to be read over these connections.
    pub(crate) fn new<'a>(
        py: Python<'_>,
        connections: impl IntoIterator<Item = &'a Arc<Connection>>,
        entry: &Entry,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        let (mut clients, mut reactors) = (Vec::new(), Vec::new());
        for connection in connections {
            let (client, reactor) = connection.get(py)?;
            clients.push(client.clone());
            reactors.push(reactor.clone());
        }
        let object = ObjectReader::of_entry(clients, entry, meta);
        let handles = reactors.iter().map(|reactor| reactor.handle.clone()).collect();
        Ok(Self { window: Window::new(object, handles), reactors, turn: AtomicUsize::new(0), told: false })
    }

    /// The same for an object of a stream, within the share of the stream's budget that is kept for it.
    pub(crate) fn of_stream(
        py: Python<'_>,
        connection: &Arc<Connection>,
        entry: &Entry,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        let (client, reactor) = connection.get(py)?;
        let limit = client.config().reader_window.min(prefetch::kept_for_large(client.config().prefetch_bytes));
        let object = ObjectReader::of_entry(vec![client.clone()], entry, meta);
        let window = Window::within(limit, object, vec![reactor.handle.clone()]);
        Ok(Self { window, reactors: vec![reactor.clone()], turn: AtomicUsize::new(0), told: false })
    }

    /// The same version of the object, with nothing read.
    pub(crate) fn anew(&self) -> Self {
        Self { window: self.window.anew(), reactors: self.reactors.clone(), turn: AtomicUsize::new(0), told: false }
    }

    pub(crate) fn meta(&self) -> &ObjectMeta {
        self.window.object().meta()
    }

    /// Fills `target` from byte `start`; the range lies within the object.
    pub(crate) fn read(&mut self, py: Python<'_>, start: u64, target: LentBuffer) -> PyResult<usize> {
        let length = target.len();
        if length == 0 {
            return Ok(0);
        }
        let want = start..start + length as u64;
        match self.window.at_hand(&want) {
            Some(bytes) => copy(py, bytes, target),
            None => self.gather(py, want, target)?,
        }
        self.check(py)?;
        Ok(length)
    }

    /// Fills `target` from memory and from the network.
    fn gather(&mut self, py: Python<'_>, want: Range<u64>, mut target: LentBuffer) -> PyResult<()> {
        let mut copies = Vec::new();
        let (mut jobs, mut places) = (Vec::new(), Vec::new());
        let mut at = want.start;
        for step in self.window.steps_for(want.clone()) {
            match step {
                Step::Piece(piece) => {
                    let end = piece.range().end.min(want.end);
                    copies.push((piece, at, target.split_front((end - at) as usize)));
                    at = end;
                }
                Step::Direct(range) => {
                    places.push(target.place((range.end - at) as usize));
                    for part in self.window.split(range) {
                        let from = at.clamp(part.start, part.end);
                        let mut job = Job::new(part.start);
                        job.skip((from - part.start) as usize);
                        job.fill(target.split_front((part.end - from) as usize));
                        jobs.push(job);
                        // The range may begin before what is wanted, by more than a part of it.
                        at = at.max(part.end);
                    }
                }
            }
        }
        self.spread(jobs, places, true).receive_beside(py, || {
            copies.into_iter().try_for_each(|(piece, at, target)| self.copy_from(py, &piece, at, target))
        })
    }

    /// What fills each target from the byte it is for; the ranges lie within the object. What lies side by side, or nearly so,
    /// is one request.
    pub(crate) fn scattered(
        &self,
        py: Python<'_>,
        mut parts: Vec<(u64, LentBuffer)>,
        options: ScatteredOptions,
    ) -> Scattered {
        parts.retain(|(_, target)| target.len() > 0);
        parts.sort_by_key(|(start, _)| *start);
        let total: u64 = parts.iter().map(|(_, target)| target.len() as u64).sum();
        let longest = if options.concurrent { self.window.longest_range() } else { self.window.range_length(total) };
        let (mut jobs, mut places) = (Vec::<Job<LentBuffer>>::new(), Vec::new());
        // Where the last job starts and ends.
        let (mut first, mut end) = (0, 0);
        for (start, mut target) in parts {
            let bytes = self.window.ready(start).and_then(|ready| ready.get(..target.len()));
            if let Some(bytes) = bytes {
                copy(py, bytes, target);
                continue;
            }
            places.push(target.place(target.len()));
            let mut at = start;
            while target.len() > 0 {
                let joins = !jobs.is_empty() && at >= end && at - end <= MANY_GAP && at < first + longest;
                let room = if joins { first + longest - at } else { longest };
                let front = target.split_front(usize::try_from(room).unwrap_or(usize::MAX));
                let length = front.len() as u64;
                if !joins {
                    jobs.push(Job::new(at));
                    (first, end) = (at, at);
                }
                if let Some(job) = jobs.last_mut() {
                    job.skip((at - end) as usize);
                    job.fill(front);
                }
                at += length;
                end = at;
            }
        }
        self.spread(jobs, places, options.verify)
    }

    /// What fetches ranges, into memory at these places, over as many I/O threads as help, beginning with the next one in turn.
    fn spread(&self, jobs: Vec<Job<LentBuffer>>, mut places: Vec<Range<usize>>, counted: bool) -> Scattered {
        places.retain(|place| place.len() >= LEAST_POPULATED);
        let concurrency = self.window.concurrency_per_client().min(jobs.len());
        let turn = self.turn.fetch_add(jobs.len(), Ordering::Relaxed);
        let lanes = (0..self.reactors.len().min(jobs.len())).map(|index| (turn + index) % self.reactors.len());
        Scattered {
            lanes: lanes.map(|lane| (lane, self.reactors[lane].clone())).collect(),
            object: self.window.object().clone(),
            jobs: Jobs::new(jobs, counted),
            places,
            concurrency,
        }
    }

    /// Fills `target` from a piece, once it has arrived.
    fn copy_from(&self, py: Python<'_>, piece: &Arc<Piece>, at: u64, target: LentBuffer) -> PyResult<()> {
        self.await_arrival(py, piece)?;
        copy(py, piece.bytes_from(at).unwrap_or_default(), target);
        Ok(())
    }

    fn await_arrival(&self, py: Python<'_>, piece: &Arc<Piece>) -> PyResult<()> {
        if matches!(piece.outcome(), Some(Ok(_))) {
            return Ok(());
        }
        let piece = Arc::clone(piece);
        block_on(py, &self.reactors[0], async move { piece.arrival().await })
    }

    /// Raises where all bytes have been received and are not the object's; receives the last few that nobody asked for.
    pub(crate) fn check(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.window.object().left() > 0 {
            for step in self.window.steps_for_remainder() {
                if let Step::Piece(piece) = step {
                    self.await_arrival(py, &piece)?;
                }
            }
        }
        self.verify(py)
    }

    /// Raises where all bytes have been received and are not the object's.
    pub(crate) fn verify(&mut self, py: Python<'_>) -> PyResult<()> {
        self.window.object().verify().map_err(|cause| {
            self.told = true;
            error::to_python(py, &cause)
        })
    }

    /// Raises what [`Self::read`] would, unless it has.
    pub(crate) fn close(mut self, py: Python<'_>) -> PyResult<()> {
        if self.told { Ok(()) } else { self.verify(py) }
    }

    /// Where the line that starts at `start` ends, at most `limit` bytes on and before `total`.
    pub(crate) fn end_of_line(&mut self, py: Python<'_>, start: u64, total: u64, limit: usize) -> PyResult<u64> {
        let mut piece = [0; LINE_PIECE];
        let stop = total.min(start.saturating_add(limit as u64));
        let mut at = start;
        while at < stop {
            let left = usize::try_from(stop - at).unwrap_or(usize::MAX);
            let bytes = match self.window.ready(at) {
                Some(ready) => &ready[..ready.len().min(left)],
                None => {
                    let length = LINE_PIECE.min(left);
                    self.read(py, at, LentBuffer::of_slice(&mut piece[..length]))?;
                    &piece[..length]
                }
            };
            let found = line_length(bytes);
            at += found as u64;
            if bytes[found - 1] == b'\n' {
                break;
            }
        }
        Ok(at.max(start))
    }

    /// How many bytes from `start` on are in memory together.
    pub(crate) fn ready(&self, start: u64) -> usize {
        self.window.ready(start).map_or(0, <[u8]>::len)
    }
}

/// Bytes up to and with the first newline, or all.
pub(crate) fn line_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |newline| newline + 1)
}

fn copy(py: Python<'_>, bytes: &[u8], mut target: LentBuffer) {
    let count = bytes.len().min(target.len());
    let mut copy = move || target.as_mut_slice()[..count].copy_from_slice(&bytes[..count]);
    if count < COPY_DETACHED { copy() } else { py.detach(copy) }
}
