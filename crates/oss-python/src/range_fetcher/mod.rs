//! Many ranges of many objects at once, within a budget of memory, as a Python iterator.

mod run;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use oss_client::{
    Client,
    coalesce::{Located, coalesce},
    reader::longest_request,
};
use pyo3::{buffer::PyUntypedBuffer, exceptions::PyValueError, prelude::*, types::PyIterator};
use tokio::sync::OnceCell;

use crate::{
    buffer::{LentBuffer, populate},
    oss_reader::PyOssReader,
    process::{ForkLock, ProcessBound},
    ranged::{LEAST_POPULATED, POPULATED_AT_ONCE},
    reactor_client::ReactorClient,
    runtime::Reactor,
    wait::{Bell, SIGNAL_INTERVAL, start_ringing},
};

use run::{AskedRange, Object, RangeRun, Received, Request};

/// Times that a range is received at most: bytes that were damaged on the way may be right the second time.
const ATTEMPTS: usize = 2;

/// A range as Python asks for it: tag, bucket, key, what is known of the object, first byte, length, CRC-64 if it is
/// known, and the memory that receives the bytes, if there is one.
type Asked<'py> = (Py<PyAny>, String, String, Option<Known<'py>>, u64, u64, Option<u64>, Option<Bound<'py, PyAny>>);

/// What is known of an object before its first range is fetched.
#[derive(FromPyObject)]
enum Known<'py> {
    /// The size that it must have.
    Size(u64),
    /// A reader that has opened it: its version is read, and counts for its checksum.
    Reader(Bound<'py, PyOssReader>),
}

/// The limits of a range fetcher.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// The most bytes between two ranges that are received and dropped, to have both with one request.
    pub(crate) gap: u64,
    /// The most bytes of a request for several ranges. Buffers of this size are kept and used again.
    pub(crate) run_limit: u64,
    /// The most requests in flight.
    pub(crate) concurrency: usize,
    /// The most bytes of buffers. A single larger range is fetched alone.
    pub(crate) budget: u64,
}

/// Fetches ranges and returns them in the order of their arrival.
#[pyclass(frozen, name = "RangeFetcher", module = "osstorchconnector._native")]
pub(crate) struct PyRangeFetcher {
    state: ForkLock<Option<ProcessBound<State>>>,
    closing: AtomicBool,
    read: Arc<Read>,
}

/// What a fetcher has read.
#[derive(Default)]
struct Read {
    bytes: AtomicU64,
    runs: AtomicU64,
}

/// A range that was fetched, or has failed.
#[pyclass(frozen, get_all, name = "FetchedRange", module = "osstorchconnector._native")]
pub(crate) struct PyFetchedRange {
    tag: Py<PyAny>,
    memory: Py<PyAny>,
    offset: u64,
    object_size: Option<u64>,
    intact: bool,
    error: Option<Py<PyAny>>,
}

/// A run that has arrived or failed, with the ranges of it that were not handed out yet.
struct Done {
    run: RangeRun,
    size: Option<u64>,
    intact: VecDeque<bool>,
    error: Option<Py<PyAny>>,
}

/// The fetcher's state, in the process that made it.
struct State {
    source: Py<PyIterator>,
    allocate: Py<PyAny>,
    limits: Limits,
    /// The most bytes of one request.
    longest: u64,
    clients: Arc<[Client]>,
    reactors: Vec<Reactor>,
    turn: usize,
    objects: HashMap<(String, String), Arc<Object>>,
    /// Runs that wait for room.
    queued: VecDeque<Vec<AskedRange>>,
    source_ended: bool,
    running: Vec<RangeRun>,
    done: VecDeque<Done>,
    /// Bytes of the buffers in use.
    in_use: u64,
    free: Vec<Py<PyAny>>,
    bell: Arc<Bell>,
    read: Arc<Read>,
}

impl Drop for State {
    fn drop(&mut self) {
        let running = std::mem::take(&mut self.running);
        let ended = Python::try_attach(|py| running.iter().for_each(|run| run.cancel(py)));
        if ended.is_none() {
            // The interpreter has ended. The I/O threads may still write to the memory, so it is never given back.
            std::mem::forget(running);
        }
    }
}

impl State {
    /// The next range that has arrived or failed, or None at the end.
    fn next(&mut self, py: Python<'_>, closing: &AtomicBool) -> PyResult<Option<PyFetchedRange>> {
        loop {
            self.release_delivered();
            self.collect(py)?;
            self.start_some(py)?;
            if let Some(done) = self.done.front_mut()
                && let Some(range) = done.run.ranges.pop_front()
            {
                return Ok(Some(PyFetchedRange {
                    offset: range.start - done.run.start,
                    tag: range.tag,
                    memory: done.run.memory.clone_ref(py),
                    object_size: done.size,
                    intact: done.intact.pop_front().unwrap_or(false),
                    error: done.error.as_ref().map(|error| error.clone_ref(py)),
                }));
            }
            if self.running.is_empty() || closing.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.wait(py)?;
        }
    }

    /// Takes back the buffer of a run whose ranges were all handed out.
    fn release_delivered(&mut self) {
        while self.done.front().is_some_and(|done| done.run.ranges.is_empty()) {
            let Some(Done { run, .. }) = self.done.pop_front() else { return };
            self.in_use -= run.cost;
            if run.cost > 0 && run.buffer.len_bytes() as u64 == self.limits.run_limit {
                self.free.push(run.memory);
            }
        }
    }

    /// Takes the runs that are over. A run with a wrong checksum is received once more.
    fn collect(&mut self, py: Python<'_>) -> PyResult<()> {
        let (over, running) = std::mem::take(&mut self.running).into_iter().partition(RangeRun::is_over);
        self.running = running;
        let over: Vec<RangeRun> = over;
        for mut run in over {
            match run.take(py) {
                Ok(Received { size, checksums }) => {
                    let intact =
                        checksums.as_deref().map_or_else(|| vec![false; run.ranges.len()], |all| run.intact(all));
                    if checksums.is_some() && intact.contains(&false) && run.attempts < ATTEMPTS {
                        run.prepare(self.longest)?;
                        self.running.push(run);
                    } else {
                        self.read.bytes.fetch_add(run.length, Ordering::Relaxed);
                        self.read.runs.fetch_add(1, Ordering::Relaxed);
                        self.done.push_back(Done { run, size: Some(size), intact: intact.into(), error: None });
                    }
                }
                Err(error) => {
                    let error = error.into_value(py).into_any();
                    self.done.push_back(Done { run, size: None, intact: VecDeque::new(), error: Some(error) });
                }
            }
        }
        Ok(())
    }

    /// Sends requests while there is room for them.
    fn start_some(&mut self, py: Python<'_>) -> PyResult<()> {
        loop {
            let mut in_flight: usize = self.running.iter().map(RangeRun::in_flight).sum();
            for index in 0..self.running.len() {
                while in_flight < self.limits.concurrency
                    && let Some(request) = self.running[index].waiting.pop_front()
                {
                    self.send(index, request);
                    in_flight += 1;
                }
            }
            // Runs that have arrived count as well: their buffers are used again when they have been handed out, and
            // fresh memory takes longer than waiting for that.
            let held = self.running.len() + self.done.len();
            if in_flight.max(held) >= self.limits.concurrency {
                return Ok(());
            }
            if self.queued.is_empty() {
                if self.source_ended {
                    return Ok(());
                }
                match self.source.bind(py).clone().next().transpose()? {
                    // The caller has no room for more until it has taken what arrives.
                    Some(batch) if batch.is_none() => return Ok(()),
                    Some(batch) => self.queue(py, batch.extract()?)?,
                    None => self.source_ended = true,
                }
                continue;
            }
            if !self.begin_next(py)? {
                return Ok(());
            }
        }
    }

    /// Queues ranges that Python asks for. Those that lie close together become one run.
    fn queue(&mut self, py: Python<'_>, batch: Vec<Asked<'_>>) -> PyResult<()> {
        let mut wanted = Vec::with_capacity(batch.len());
        for (tag, bucket, key, known, start, length, crc, memory) in batch {
            let object = match self.objects.entry((bucket.clone(), key.clone())) {
                Entry::Occupied(object) => object.into_mut(),
                Entry::Vacant(vacant) => {
                    let (size, reader) = match known {
                        None => (None, None),
                        Some(Known::Size(size)) => (Some(size), None),
                        Some(Known::Reader(reader)) => (None, Some(reader.get().object(py)?)),
                    };
                    vacant.insert(Arc::new(Object { bucket, key, size, reader: OnceCell::new_with(reader) }))
                }
            };
            let object = Arc::clone(object);
            wanted.push(AskedRange { tag, object, start, length, crc, memory: memory.map(Bound::unbind) });
        }
        self.queued.extend(coalesce(wanted, self.limits.gap, self.limits.run_limit.min(self.longest)));
        Ok(())
    }

    /// Makes the first run of the queue one that is running, unless the budget has no room for it.
    fn begin_next(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some(ranges) = self.queued.pop_front() else { return Ok(true) };
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(true) };
        let length = last.range().end - first.start;
        let cost = if first.memory.is_some() { 0 } else { length };
        let is_first = self.running.is_empty() && self.done.is_empty();
        if self.in_use + cost > self.limits.budget && !is_first {
            self.queued.push_front(ranges);
            return Ok(false);
        }
        let (memory, is_fresh) = match &first.memory {
            Some(memory) => (memory.clone_ref(py), true),
            None if length > self.limits.run_limit => (self.allocate.call1(py, (length,))?, true),
            None => match self.free.pop() {
                Some(memory) => (memory, false),
                None => (self.allocate.call1(py, (self.limits.run_limit,))?, true),
            },
        };
        let buffer = PyUntypedBuffer::get(memory.bind(py))?;
        if (buffer.len_bytes() as u64) < length {
            let text = format!("{} bytes of memory do not hold a range of {length} bytes", buffer.len_bytes());
            return Err(PyValueError::new_err(text));
        }
        let addresses = LentBuffer::of_buffer(&buffer)?.shortened(length as usize).addresses();
        let is_worth_it = is_fresh && addresses.len() >= LEAST_POPULATED;
        let mut run = RangeRun {
            object: Arc::clone(&first.object),
            start: first.start,
            length,
            ranges: ranges.into(),
            memory,
            buffer,
            cost,
            waiting: VecDeque::new(),
            sent: Vec::new(),
            absent: if is_worth_it { pieces(&addresses) } else { VecDeque::new() },
            attempts: 0,
        };
        run.prepare(self.longest)?;
        self.in_use += cost;
        self.running.push(run);
        Ok(true)
    }

    /// Sends a request of the run with this number.
    fn send(&mut self, number: usize, request: Request) {
        let lane = self.turn % self.reactors.len();
        self.turn += 1;
        let run = &mut self.running[number];
        let (object, clients, counted) = (Arc::clone(&run.object), Arc::clone(&self.clients), run.is_counted());
        let run_end = run.start + run.length;
        let Request { start, mut target, checked } = request;
        let length = target.len() as u64;
        let receive = async move {
            let reader = object.open(&clients, lane).await?;
            let size = reader.meta().size;
            if object.size.is_some_and(|expected| expected != size) || run_end > size {
                return Ok(Received { size, checksums: None });
            }
            let checksums = reader.receive_checked(lane, start, target.as_mut_slice(), &checked, counted).await?;
            if counted {
                reader.verify()?;
            }
            Ok(Received { size, checksums: Some(checksums) })
        };
        run.sent.push((length, start_ringing(&self.reactors[lane], receive, Arc::clone(&self.bell))));
    }

    /// Waits until a request is over, or until the next check for signals. Meanwhile it makes pages of fresh memory
    /// present.
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let until = Instant::now() + SIGNAL_INTERVAL;
        let bell = &self.bell;
        let mut absent = self.running.iter_mut().map(|run| &mut run.absent);
        let mut absent: Vec<_> = absent.by_ref().collect();
        py.detach(|| {
            let mut pieces = absent.iter_mut().flat_map(|pieces| std::iter::from_fn(|| pieces.pop_front()));
            loop {
                let now = Instant::now();
                if now >= until || bell.has_rung() {
                    return;
                }
                match pieces.next() {
                    Some(piece) => populate(&piece),
                    None => bell.wait(until - now),
                }
            }
        });
        py.check_signals()
    }
}

/// Divides addresses into pieces that are made present in one call each.
fn pieces(addresses: &Range<usize>) -> VecDeque<Range<usize>> {
    let starts = addresses.clone().step_by(POPULATED_AT_ONCE);
    starts.map(|start| start..addresses.end.min(start + POPULATED_AT_ONCE)).collect()
}

impl PyRangeFetcher {
    pub(crate) fn new(
        py: Python<'_>,
        reactor_clients: &[Arc<ReactorClient>],
        source: &Bound<'_, PyAny>,
        allocate: Py<PyAny>,
        limits: Limits,
    ) -> PyResult<Self> {
        let pairs = reactor_clients.iter().map(|one| one.get(py)).collect::<PyResult<Vec<_>>>()?;
        let clients: Arc<[Client]> = pairs.iter().map(|(client, _)| client.clone()).collect();
        let state = State {
            source: source.try_iter()?.unbind(),
            allocate,
            limits: Limits { concurrency: limits.concurrency.max(1), run_limit: limits.run_limit.max(1), ..limits },
            longest: longest_request(clients[0].config()),
            clients,
            reactors: pairs.iter().map(|(_, reactor)| (*reactor).clone()).collect(),
            turn: 0,
            objects: HashMap::new(),
            queued: VecDeque::new(),
            source_ended: false,
            running: Vec::new(),
            done: VecDeque::new(),
            in_use: 0,
            free: Vec::new(),
            bell: Arc::default(),
            read: Arc::default(),
        };
        let read = Arc::clone(&state.read);
        Ok(Self { state: ForkLock::new(Some(ProcessBound::new(state))), closing: AtomicBool::new(false), read })
    }
}

/// The word for it in messages.
const NAME: &str = "range fetcher";

#[pymethods]
impl PyRangeFetcher {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyFetchedRange>> {
        match &mut *self.state.lock(py, NAME)? {
            Some(state) => state.get_mut(py, NAME)?.next(py, &self.closing),
            None => Err(PyValueError::new_err("I/O operation on closed range fetcher")),
        }
    }

    #[getter]
    fn bytes_read(&self) -> u64 {
        self.read.bytes.load(Ordering::Relaxed)
    }

    #[getter]
    fn runs(&self) -> u64 {
        self.read.runs.load(Ordering::Relaxed)
    }

    /// Cancels what is in flight and waits until the memory is free again.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        // First, so that a thread that waits for the next range stops waiting and unlocks.
        self.closing.store(true, Ordering::Relaxed);
        let state = self.state.lock(py, NAME)?.take();
        drop(state);
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}
