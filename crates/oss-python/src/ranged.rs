//! Reads an object by ranges: waits, and copies. The core decides which ranges to request.

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
    error::ErrorKind,
    ops::head::ObjectMeta,
    prefetch,
    reader::{Gathered, Job, Jobs, ObjectReader, Piece, Step, Wanted, Window, gather},
};
use oss_protocol::crc64::Crc64;
use pyo3::prelude::*;

use crate::{
    buffer::{LentBuffer, populate},
    error,
    reactor_client::ReactorClient,
    runtime::Reactor,
    wait::{SIGNAL_INTERVAL, Started, block_on, finish, start},
};

/// Bytes that are fetched to search them for a newline if none are in memory. Most lines are shorter.
const LINE_PIECE: usize = 4 << 10;

/// Bytes that are fetched at a time to compare them with what was received before.
const COMPARED_AT_ONCE: usize = 8 << 20;

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;

/// The least memory whose pages are made present beside the I/O threads. Smaller memory is full before that helps.
pub(crate) const LEAST_POPULATED: usize = 1 << 20;

/// Bytes whose pages one call makes present. The call holds the lock of the process's memory for about a millisecond.
pub(crate) const POPULATED_AT_ONCE: usize = 2 << 20;

/// How [`Ranged::scattered`] reads.
#[derive(Clone, Copy)]
pub(crate) struct ScatteredOptions {
    /// Many such calls are made at the same time. So each makes few, long requests, and asks for nothing else.
    pub(crate) concurrent: bool,
    /// The bytes count for the checksum of the object.
    pub(crate) verify: bool,
}

/// Ranges that are received beside the window, so that several threads can receive at the same time.
#[must_use]
pub(crate) struct Scattered {
    lanes: Vec<(usize, Reactor)>,
    object: ObjectReader,
    jobs: Jobs<LentBuffer>,
    /// The addresses of the larger buffers that receive them.
    addresses: Vec<Range<usize>>,
    concurrency: usize,
}

impl Scattered {
    /// Waits until they are received.
    pub(crate) fn receive(self, py: Python<'_>) -> PyResult<()> {
        self.receive_beside(py, || Ok(()))
    }

    /// Does `work` while they are received, and waits for them.
    fn receive_beside(self, py: Python<'_>, work: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        let jobs = Arc::new(self.jobs);
        let fetch = |lane| self.object.clone().work(lane, Arc::clone(&jobs), self.concurrency);
        let started: Vec<_> = self.lanes.iter().map(|(lane, reactor)| start(reactor, fetch(*lane))).collect();
        // From here on, the call returns only when the tasks have given the memory back.
        let done = work().and_then(|()| populate_while_running(py, &self.addresses, &started));
        finish(py, started, done)
    }
}

/// Makes the pages present of memory that the I/O threads fill. The pages of fresh memory take longer than its bytes,
/// and this thread would only wait.
fn populate_while_running(py: Python<'_>, addresses: &[Range<usize>], started: &[Started<()>]) -> PyResult<()> {
    let mut pieces = addresses.iter().flat_map(|range| {
        let starts = range.clone().step_by(POPULATED_AT_ONCE);
        starts.map(|start| start..range.end.min(start + POPULATED_AT_ONCE))
    });
    loop {
        let until = Instant::now() + SIGNAL_INTERVAL;
        let mut populate_some = || {
            while Instant::now() < until && !started.iter().all(Started::is_over) {
                match pieces.next() {
                    Some(piece) => populate(&piece),
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

/// An object that is read by ranges, with its window.
pub(crate) struct Ranged {
    window: Window,
    /// One for each of the object's clients, in their order.
    reactors: Vec<Reactor>,
    /// The number of the reactor whose turn it is.
    turn: AtomicUsize,
    /// Whether a call has raised that the checksum differs.
    reported: bool,
}

impl Ranged {
    /// Opens an object whose description is known. It is read over these clients.
    pub(crate) fn new<'a>(
        py: Python<'_>,
        reactor_clients: impl IntoIterator<Item = &'a Arc<ReactorClient>>,
        entry: &Entry,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        let (mut clients, mut reactors) = (Vec::new(), Vec::new());
        for reactor_client in reactor_clients {
            let (client, reactor) = reactor_client.get(py)?;
            clients.push(client);
            reactors.push(reactor.clone());
        }
        let object = ObjectReader::of_entry(clients, entry, meta);
        let handles = reactors.iter().map(|reactor| reactor.handle.clone()).collect();
        Ok(Self { window: Window::new(object, handles), reactors, turn: AtomicUsize::new(0), reported: false })
    }

    /// The same for an object of a stream. Its window is the part of the stream's budget that is kept for large
    /// objects.
    pub(crate) fn of_stream(
        py: Python<'_>,
        reactor_client: &Arc<ReactorClient>,
        entry: &Entry,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        let (client, reactor) = reactor_client.get(py)?;
        let limit = client.config().reader_window.min(prefetch::kept_for_large(client.config().prefetch_bytes));
        let object = ObjectReader::of_entry(vec![client.clone()], entry, meta);
        let shared = (Arc::clone(client.memory()), prefetch::process_budget(client.config()));
        let window = Window::within(limit, Some(shared), object, vec![reactor.handle.clone()]);
        Ok(Self { window, reactors: vec![reactor.clone()], turn: AtomicUsize::new(0), reported: false })
    }

    /// The same version of the object, with an empty window.
    pub(crate) fn reopened(&self) -> Self {
        Self {
            window: self.window.reopened(),
            reactors: self.reactors.clone(),
            turn: AtomicUsize::new(0),
            reported: false,
        }
    }

    /// The ranges that were received, with the CRC-64 of what came first.
    pub(crate) fn received(&self) -> Vec<(Range<u64>, u64)> {
        self.window.object().received()
    }

    /// Fetches once more what was received, if that was not all of the object, which [`Ranged::close`] verifies. Raises
    /// if it differs.
    pub(crate) fn compare_again(&mut self, py: Python<'_>, uri: &str) -> PyResult<()> {
        if self.reported || self.window.object().left() == 0 {
            return Ok(());
        }
        let again = self.reopened();
        let mut piece = vec![0; COMPARED_AT_ONCE];
        for (range, checksum) in self.received() {
            let mut found = Crc64::new();
            let mut at = range.start;
            while at < range.end {
                let length = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(COMPARED_AT_ONCE);
                let wanted = Wanted { start: at, target: LentBuffer::of_slice(&mut piece[..length]) };
                let options = ScatteredOptions { concurrent: false, verify: false };
                again.scattered(py, vec![wanted], options).receive(py)?;
                py.detach(|| found.update(&piece[..length]));
                at += length as u64;
            }
            if found.value() != checksum {
                self.reported = true;
                let (start, end) = (range.start, range.end);
                let text = format!(
                    "bytes {start} to {end} of {uri} were corrupted on the way, so that they could not be understood; \
                     load it again"
                );
                return Err(error::to_python(py, &ErrorKind::Integrity(text).into()));
            }
        }
        Ok(())
    }

    pub(crate) fn meta(&self) -> &ObjectMeta {
        self.window.object().meta()
    }

    /// The version of the object, with what was received of it.
    pub(crate) fn object(&self) -> &ObjectReader {
        self.window.object()
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
            None => self.gather(py, &want, target)?,
        }
        self.check(py)?;
        Ok(length)
    }

    /// Fills `target` from memory and from the network.
    fn gather(&mut self, py: Python<'_>, want: &Range<u64>, target: LentBuffer) -> PyResult<()> {
        let Gathered { copies, jobs } = self.window.gather(want, target);
        self.spread(jobs, true).receive_beside(py, || {
            copies.into_iter().try_for_each(|(piece, wanted)| self.copy_from(py, &piece, wanted))
        })
    }

    /// Prepares to fill each target from its own first byte. The ranges lie within the object. Ranges that lie close
    /// together are one request.
    pub(crate) fn scattered(
        &self,
        py: Python<'_>,
        wanted: Vec<Wanted<LentBuffer>>,
        options: ScatteredOptions,
    ) -> Scattered {
        let total: u64 = wanted.iter().map(|one| one.target.len() as u64).sum();
        let longest = if options.concurrent { self.window.longest_range() } else { self.window.range_length(total) };
        let mut missing = Vec::with_capacity(wanted.len());
        for one in wanted {
            match self.window.ready(one.start).and_then(|ready| ready.get(..one.target.len())) {
                Some(bytes) => copy(py, bytes, one.target),
                None => missing.push(one),
            }
        }
        self.spread(gather(missing, longest), options.verify)
    }

    /// Prepares requests over as many I/O threads as help, beginning with the next one in turn.
    fn spread(&self, jobs: Vec<Job<LentBuffer>>, counted: bool) -> Scattered {
        let mut addresses = addresses_of(jobs.iter().flat_map(Job::targets));
        addresses.retain(|range| range.len() >= LEAST_POPULATED);
        let concurrency = self.window.concurrency_per_client().min(jobs.len());
        let turn = self.turn.fetch_add(jobs.len(), Ordering::Relaxed);
        let lanes = (0..self.reactors.len().min(jobs.len())).map(|index| (turn + index) % self.reactors.len());
        Scattered {
            lanes: lanes.map(|lane| (lane, self.reactors[lane].clone())).collect(),
            object: self.window.object().clone(),
            jobs: Jobs::new(jobs, counted),
            addresses,
            concurrency,
        }
    }

    /// Fills `target` from a piece, once it has arrived.
    fn copy_from(&self, py: Python<'_>, piece: &Arc<Piece>, wanted: Wanted<LentBuffer>) -> PyResult<()> {
        self.await_arrival(py, piece)?;
        copy(py, piece.bytes_from(wanted.start).unwrap_or_default(), wanted.target);
        Ok(())
    }

    fn await_arrival(&self, py: Python<'_>, piece: &Arc<Piece>) -> PyResult<()> {
        if matches!(piece.outcome(), Some(Ok(_))) {
            return Ok(());
        }
        let piece = Arc::clone(piece);
        block_on(py, &self.reactors[0], async move { piece.arrival().await })
    }

    /// Raises if all bytes have been received and the checksum differs. A few bytes that nobody asked for are received
    /// first.
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

    /// Raises if all bytes have been received and the checksum differs.
    pub(crate) fn verify(&mut self, py: Python<'_>) -> PyResult<()> {
        self.window.object().verify().map_err(|cause| {
            self.reported = true;
            error::to_python(py, &cause)
        })
    }

    /// Raises if the checksum differs and no call has said so.
    pub(crate) fn close(mut self, py: Python<'_>) -> PyResult<()> {
        if self.reported { Ok(()) } else { self.verify(py) }
    }

    /// Returns the end of the line that starts at `start`: at most `limit` bytes after it, and at most `total`.
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

    /// How many bytes from `start` on are in memory, without a gap.
    pub(crate) fn ready(&self, start: u64) -> usize {
        self.window.ready(start).map_or(0, <[u8]>::len)
    }
}

/// The addresses of targets. Neighbours are one range.
fn addresses_of<'a>(targets: impl Iterator<Item = &'a LentBuffer>) -> Vec<Range<usize>> {
    let mut addresses: Vec<Range<usize>> = Vec::new();
    for range in targets.map(LentBuffer::addresses) {
        match addresses.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => addresses.push(range),
        }
    }
    addresses
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
