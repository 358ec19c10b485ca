//! Many ranges of many objects at once, within a budget of memory, as a Python iterator.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use oss_client::{
    Client,
    coalesce::{Located, coalesce},
    reader::{ObjectReader, Target, longest_request},
};
use oss_protocol::crc64::combine;
use pyo3::{buffer::PyUntypedBuffer, exceptions::PyValueError, prelude::*, types::PyIterator};
use tokio::sync::OnceCell;

use crate::{
    buffer::{LentBuffer, populate},
    process::{ForkLock, ProcessBound},
    ranged::{LEAST_POPULATED, POPULATED_AT_ONCE},
    reactor_client::ReactorClient,
    runtime::Reactor,
    wait::{Bell, SIGNAL_INTERVAL, Started, start_ringing},
};

/// How often a range is received: bytes that were flipped on the way may be right the second time.
const ATTEMPTS: usize = 2;

/// A range as Python asks for it: tag, bucket, key, the object's size if it is known, first byte, length, CRC-64 if it is
/// known, and the memory that receives the bytes if there is one.
type Asked<'py> = (Py<PyAny>, String, String, Option<u64>, u64, u64, Option<u64>, Option<Bound<'py, PyAny>>);

/// The limits of a range fetcher.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// The most bytes between two ranges that are received and dropped, to have both with one request.
    pub(crate) gap: u64,
    /// The most bytes of a request for several ranges. Buffers of this size are kept and used again.
    pub(crate) run: u64,
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

/// One version of an object, opened by the first request for a range of it.
struct Object {
    bucket: String,
    key: String,
    /// The size that the object must have.
    size: Option<u64>,
    reader: OnceCell<ObjectReader>,
}

impl Object {
    async fn open(&self, clients: &Arc<[Client]>, lane: usize) -> oss_client::Result<&ObjectReader> {
        let open = || async {
            let meta = clients[lane].head(&self.bucket, &self.key).await?;
            Ok(ObjectReader::over(clients.to_vec(), &self.bucket, &self.key, meta))
        };
        self.reader.get_or_try_init(open).await
    }
}

/// A range that is to be fetched.
struct Wanted {
    tag: Py<PyAny>,
    object: Arc<Object>,
    start: u64,
    length: u64,
    crc: Option<u64>,
    memory: Option<Py<PyAny>>,
}

impl Located for Wanted {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.length
    }

    fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object) && self.memory.is_none() && other.memory.is_none()
    }
}

/// What a request brought.
struct Received {
    /// The object's size.
    size: u64,
    /// The checksums asked for; None if the object has another size than it must, and nothing was received.
    checksums: Option<Vec<u64>>,
}

/// A request of a run that was not sent yet.
struct Request {
    start: u64,
    target: LentBuffer,
    /// The parts of the target whose checksums are wanted.
    spans: Vec<Range<usize>>,
}

/// Ranges that lie close together, and the memory that receives them. A long run takes several requests.
struct Run {
    ranges: VecDeque<Wanted>,
    object: Arc<Object>,
    start: u64,
    length: u64,
    memory: Py<PyAny>,
    /// Held as long as an I/O thread may write to the memory.
    buffer: PyUntypedBuffer,
    /// Bytes of the budget that it takes.
    cost: u64,
    waiting: VecDeque<Request>,
    /// The requests that were sent, with their lengths.
    sent: Vec<(u64, Started<Received>)>,
    /// Fresh memory whose pages are not present yet.
    absent: VecDeque<Range<usize>>,
    attempts: usize,
}

impl Run {
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.sent.iter().all(|(_, one)| one.is_over())
    }

    fn in_flight(&self) -> usize {
        self.sent.iter().filter(|(_, one)| !one.is_over()).count()
    }

    /// Whether the caller of the fetcher does not compare the bytes, so that they count for the object's checksum.
    fn is_counted(&self) -> bool {
        self.ranges.iter().all(|range| range.crc.is_none())
    }

    /// Divides the run into requests of at most `longest` bytes.
    fn prepare(&mut self, longest: u64) -> PyResult<()> {
        let mut target = LentBuffer::of_buffer(&self.buffer)?.shortened(self.length as usize);
        let mut at = self.start;
        while target.len() > 0 {
            let part = target.split_front(usize::try_from(longest).unwrap_or(usize::MAX));
            let end = at + part.len() as u64;
            let span = |range: Range<u64>| (range.start.max(at) - at) as usize..(range.end.min(end) - at) as usize;
            let checked =
                self.ranges.iter().filter(|range| range.crc.is_some() && range.length > 0).map(Located::range);
            let spans = checked.filter(|range| range.start < end && range.end > at).map(span).collect();
            self.waiting.push_back(Request { start: at, target: part, spans });
            at = end;
        }
        self.attempts += 1;
        Ok(())
    }

    /// Takes the results of all requests, which are over.
    fn take(&mut self, py: Python<'_>) -> PyResult<Received> {
        let (mut size, mut has_size) = (0, true);
        let mut parts = Vec::new();
        let mut failure = None;
        for (length, sent) in self.sent.drain(..) {
            match sent.take(py) {
                Ok(Received { size: found, checksums }) => {
                    size = found;
                    has_size &= checksums.is_some();
                    parts.push((length, checksums.unwrap_or_default()));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(Received { size, checksums: has_size.then(|| folded(parts)) }),
        }
    }

    /// Whether each range has the bytes whose checksum the caller knows.
    fn intact(&self, checksums: &[u64]) -> Vec<bool> {
        let mut found = checksums.iter();
        let mut is_intact = |range: &Wanted| match range.crc {
            None => true,
            // The checksum of no bytes.
            Some(crc) if range.length == 0 => crc == 0,
            Some(crc) => found.next() == Some(&crc),
        };
        self.ranges.iter().map(&mut is_intact).collect()
    }

    /// Waits until nothing of the requests is left.
    fn cancel(&self, py: Python<'_>) {
        self.sent.iter().for_each(|(_, one)| one.cancel());
        self.sent.iter().for_each(|(_, one)| one.end(py));
    }
}

/// The checksums of ranges, from those of requests: one request for several ranges, or several requests for one range.
fn folded(mut parts: Vec<(u64, Vec<u64>)>) -> Vec<u64> {
    if parts.len() <= 1 {
        return parts.pop().map(|(_, checksums)| checksums).unwrap_or_default();
    }
    let pairs = parts.into_iter().filter_map(|(length, checksums)| Some((length, *checksums.first()?)));
    let whole = pairs.reduce(|(before, first), (length, second)| (before + length, combine(first, second, length)));
    whole.map(|(_, crc)| crc).into_iter().collect()
}

/// A run that has arrived or failed, with the ranges of it that were not handed out yet.
struct Done {
    run: Run,
    size: Option<u64>,
    intact: VecDeque<bool>,
    error: Option<Py<PyAny>>,
}

/// What the process that made the fetcher has of it.
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
    queued: VecDeque<Vec<Wanted>>,
    source_ended: bool,
    running: Vec<Run>,
    done: VecDeque<Done>,
    /// Bytes of the buffers in use.
    in_use: u64,
    free: Vec<Py<PyAny>>,
    bell: Arc<Bell>,
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
            if run.cost > 0 && run.buffer.len_bytes() as u64 == self.limits.run {
                self.free.push(run.memory);
            }
        }
    }

    /// Takes the runs that are over. A run with a wrong checksum is received once more.
    fn collect(&mut self, py: Python<'_>) -> PyResult<()> {
        let (over, running) = std::mem::take(&mut self.running).into_iter().partition(Run::is_over);
        self.running = running;
        let over: Vec<Run> = over;
        for mut run in over {
            match run.take(py) {
                Ok(Received { size, checksums }) => {
                    let intact =
                        checksums.as_deref().map_or_else(|| vec![false; run.ranges.len()], |all| run.intact(all));
                    if checksums.is_some() && intact.contains(&false) && run.attempts < ATTEMPTS {
                        run.prepare(self.longest)?;
                        self.running.push(run);
                    } else {
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
            let mut in_flight: usize = self.running.iter().map(Run::in_flight).sum();
            for index in 0..self.running.len() {
                while in_flight < self.limits.concurrency
                    && let Some(request) = self.running[index].waiting.pop_front()
                {
                    self.send(index, request);
                    in_flight += 1;
                }
            }
            if in_flight >= self.limits.concurrency {
                return Ok(());
            }
            if self.queued.is_empty() {
                if self.source_ended {
                    return Ok(());
                }
                match self.source.bind(py).clone().next().transpose()? {
                    Some(batch) => self.queue(batch.extract()?),
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
    fn queue(&mut self, batch: Vec<Asked<'_>>) {
        let wanted = batch.into_iter().map(|(tag, bucket, key, size, start, length, crc, memory)| {
            let object = self.objects.entry((bucket.clone(), key.clone()));
            let object = object.or_insert_with(|| Arc::new(Object { bucket, key, size, reader: OnceCell::new() }));
            Wanted { tag, object: Arc::clone(object), start, length, crc, memory: memory.map(Bound::unbind) }
        });
        let wanted: Vec<_> = wanted.collect();
        self.queued.extend(coalesce(wanted, self.limits.gap, self.limits.run.min(self.longest)));
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
            None if length > self.limits.run => (self.allocate.call1(py, (length,))?, true),
            None => match self.free.pop() {
                Some(memory) => (memory, false),
                None => (self.allocate.call1(py, (self.limits.run,))?, true),
            },
        };
        let buffer = PyUntypedBuffer::get(memory.bind(py))?;
        if (buffer.len_bytes() as u64) < length {
            let text = format!("{} bytes of memory do not hold a range of {length} bytes", buffer.len_bytes());
            return Err(PyValueError::new_err(text));
        }
        let place = LentBuffer::of_buffer(&buffer)?.shortened(length as usize).place();
        let is_worth_it = is_fresh && place.len() >= LEAST_POPULATED;
        let mut run = Run {
            object: Arc::clone(&first.object),
            start: first.start,
            length,
            ranges: ranges.into(),
            memory,
            buffer,
            cost,
            waiting: VecDeque::new(),
            sent: Vec::new(),
            absent: if is_worth_it { pieces(&place) } else { VecDeque::new() },
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
        let Request { start, mut target, spans } = request;
        let length = target.len() as u64;
        let receive = async move {
            let reader = object.open(&clients, lane).await?;
            let size = reader.meta().size;
            if object.size.is_some_and(|expected| expected != size) || run_end > size {
                return Ok(Received { size, checksums: None });
            }
            let checksums = reader.receive_spans(lane, start, target.as_mut_slice(), &spans, counted).await?;
            if counted {
                reader.verify()?;
            }
            Ok(Received { size, checksums: Some(checksums) })
        };
        run.sent.push((length, start_ringing(&self.reactors[lane], receive, Arc::clone(&self.bell))));
    }

    /// Waits until a request is over, at most until signals are looked for. Meanwhile pages of fresh memory are made present.
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let until = Instant::now() + SIGNAL_INTERVAL;
        let bell = &self.bell;
        let mut absent = self.running.iter_mut().map(|run| &mut run.absent);
        let mut absent: Vec<_> = absent.by_ref().collect();
        py.detach(|| {
            let mut places = absent.iter_mut().flat_map(|places| std::iter::from_fn(|| places.pop_front()));
            loop {
                let now = Instant::now();
                if now >= until || bell.has_rung() {
                    return;
                }
                match places.next() {
                    Some(place) => populate(&place),
                    None => bell.wait(until - now),
                }
            }
        });
        py.check_signals()
    }
}

/// Divides a place into pieces that are made present in one call each.
fn pieces(place: &Range<usize>) -> VecDeque<Range<usize>> {
    let starts = place.clone().step_by(POPULATED_AT_ONCE);
    starts.map(|start| start..place.end.min(start + POPULATED_AT_ONCE)).collect()
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
        let clients: Arc<[Client]> = pairs.iter().map(|(client, _)| (*client).clone()).collect();
        let state = State {
            source: source.try_iter()?.unbind(),
            allocate,
            limits: Limits { concurrency: limits.concurrency.max(1), run: limits.run.max(1), ..limits },
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
        };
        Ok(Self { state: ForkLock::new(Some(ProcessBound::new(state))), closing: AtomicBool::new(false) })
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
