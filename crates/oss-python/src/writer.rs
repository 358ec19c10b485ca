//! An object being written, as a Python binary stream.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use oss_client::{
    ops::put::PutOptions,
    upload::{Lane, Published, Upload},
};
use pyo3::{
    PyTraverseError, PyVisit,
    buffer::PyUntypedBuffer,
    exceptions::{PyBaseException, PyException, PyTypeError, PyValueError},
    prelude::*,
    types::{PyString, PyTuple},
};
use tokio::sync::OwnedMutexGuard;

use crate::{
    buffer::{Loan, bytes_of},
    data_object::unquoted,
    error,
    handled::{Handled, tell_unpublished},
    process::{ForkGuard, ForkLock, ProcessBound},
    reactor_client::ReactorClient,
    unfinished::{Unfinished, warn_unclosed},
    wait::block_on,
};

pyo3::import_exception!(io, UnsupportedOperation);

/// Writes one object, in order. Nothing is visible before it is published, by the end of its `with` block, by `publish`,
/// or by a `close` that no exception is the reason of. Anything else leaves what was there before.
#[pyclass(frozen, weakref, name = "Writer", module = "osstorchconnector._native")]
pub(crate) struct PyWriter {
    uri: String,
    /// The reactor of the upload itself; its parts take turns on all reactors.
    reactor_client: Arc<ReactorClient>,
    state: ForkLock<State>,
    warned: Arc<AtomicBool>,
    /// Closing it and the end of its block publish nothing: `publish` does.
    deferred: bool,
}

struct State {
    progress: Progress,
    written: u64,
    /// In its own `with` block, whose end decides about publishing.
    inside: bool,
    /// Closed, but not published yet.
    ended: bool,
    /// What wrote to it was collected, and is about to close it.
    lost: bool,
    /// Exceptions that are no reason not to publish: they were being handled before it was opened or entered.
    handled: Handled,
}

enum Progress {
    Open(ProcessBound<Unfinished>),
    /// A write failed; the reason is raised again by every further use.
    Failed(PyErr),
    Published(Published),
    Aborted,
}

impl Drop for PyWriter {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let open = self.state.lock(py, "writer").is_ok_and(|state| match &state.progress {
                Progress::Open(unfinished) => unfinished.is_here(),
                Progress::Failed(_) | Progress::Published(_) | Progress::Aborted => false,
            });
            if open {
                warn_unclosed(py, &self.uri, &self.warned);
            }
        });
    }
}

impl PyWriter {
    pub(crate) fn new(
        py: Python<'_>,
        reactor_clients: &[Arc<ReactorClient>],
        turn: usize,
        bucket: &str,
        key: &str,
        size_hint: Option<u64>,
        deferred: bool,
    ) -> PyResult<Self> {
        let handled = Handled::now(py)?;
        let reactor_client = &reactor_clients[turn % reactor_clients.len()];
        let (client, reactor) = reactor_client.get(py)?;
        let upload = Upload::new(lanes(py, reactor_clients)?, client, bucket, key, PutOptions::default(), size_hint)
            .map_err(|cause| error::to_python(py, &cause))?;
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        let warned = Arc::new(AtomicBool::new(false));
        let uri = format!("oss://{bucket}/{key}");
        let unfinished = Unfinished::new(&uri, upload, reactor.clone(), &warned);
        Ok(Self {
            uri,
            reactor_client: Arc::clone(reactor_client),
            state: ForkLock::new(State {
                progress: Progress::Open(ProcessBound::new(unfinished)),
                written: 0,
                inside: false,
                ended: false,
                lost: false,
                handled,
            }),
            warned,
            deferred,
        })
    }

    /// Runs an operation on the I/O thread. If it fails, the upload is aborted and the writer keeps the error.
    fn advance<T: Send + 'static, F>(
        &self,
        py: Python<'_>,
        state: &mut State,
        operation: impl FnOnce(OwnedMutexGuard<Upload>) -> F + Send + 'static,
    ) -> PyResult<T>
    where
        F: Future<Output = oss_client::Result<T>> + Send + 'static,
    {
        let upload = Arc::clone(state.upload(py)?);
        let (_, reactor) = self.reactor_client.get(py)?;
        let run = async move { operation(upload.lock_owned().await).await };
        block_on(py, reactor, run).inspect_err(|error| {
            state.progress = Progress::Failed(error.clone_ref(py));
        })
    }

    /// Keeps an error of this thread, and aborts the upload.
    fn fail<T>(py: Python<'_>, state: &mut State, cause: &oss_client::Error) -> PyResult<T> {
        let raised = error::to_python(py, cause);
        state.progress = Progress::Failed(raised.clone_ref(py));
        Err(raised)
    }

    /// Copies bytes into parts, and sends each when it is full.
    fn copy(&self, py: Python<'_>, state: &mut State, mut bytes: &[u8]) -> PyResult<()> {
        while !bytes.is_empty() {
            let (filled, is_full) = {
                let mut upload = state.open(py)?.try_lock().map_err(|_| busy())?;
                let filled = if bytes.len() < COPY_DETACHED {
                    upload.fill(bytes)
                } else {
                    let upload = &mut *upload;
                    py.detach(|| upload.fill(bytes))
                };
                (filled, upload.is_full())
            };
            match filled {
                Ok(count) => bytes = &bytes[count..],
                Err(cause) => return Self::fail(py, state, &cause),
            }
            if is_full {
                self.flush_parts(py, state)?;
            }
        }
        Ok(())
    }

    /// Sends whole parts from the memory that holds them, and returns how many bytes they have.
    fn lend(&self, py: Python<'_>, state: &mut State, bytes: Bytes) -> PyResult<usize> {
        self.advance(py, state, |mut upload| async move {
            match upload.lend(bytes).await {
                Ok(sent) => Ok(sent),
                Err(error) => Err(upload.give_up(error).await),
            }
        })
    }

    fn take_back_lent(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        self.advance(py, state, |mut upload| async move {
            match upload.take_back_lent().await {
                Ok(()) => Ok(()),
                Err(error) => Err(upload.give_up(error).await),
            }
        })
    }

    fn flush_parts(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        self.advance(py, state, |mut upload| async move {
            match upload.flush().await {
                Ok(()) => Ok(()),
                Err(error) => Err(upload.give_up(error).await),
            }
        })
    }
}

impl State {
    fn upload(&self, py: Python<'_>) -> PyResult<&Arc<tokio::sync::Mutex<Upload>>> {
        match &self.progress {
            Progress::Open(unfinished) => Ok(unfinished.get(py, "writer")?.upload()),
            Progress::Failed(error) => Err(error.clone_ref(py)),
            Progress::Published(_) | Progress::Aborted => Err(closed()),
        }
    }

    /// The upload, if more may be written to it.
    fn open(&self, py: Python<'_>) -> PyResult<&Arc<tokio::sync::Mutex<Upload>>> {
        if self.ended { Err(closed()) } else { self.upload(py) }
    }

    fn is_over(&self) -> bool {
        matches!(self.progress, Progress::Published(_) | Progress::Aborted)
    }

    fn end(&mut self, progress: Progress) {
        self.progress = progress;
        // They may hold much memory, and the writer.
        self.handled = Handled::default();
    }
}

/// All reactors, for the parts of one upload.
pub(crate) fn lanes(py: Python<'_>, reactor_clients: &[Arc<ReactorClient>]) -> PyResult<Vec<Lane>> {
    let lane = |reactor_client: &Arc<ReactorClient>| {
        let (client, reactor) = reactor_client.get(py)?;
        Ok(Lane { client: client.clone(), runtime: reactor.handle.clone() })
    };
    reactor_clients.iter().map(lane).collect()
}

fn busy() -> PyErr {
    PyValueError::new_err("another thread is using this writer")
}

fn closed() -> PyErr {
    PyValueError::new_err("I/O operation on closed writer")
}

fn unsupported<T>(operation: &str) -> PyResult<T> {
    Err(UnsupportedOperation::new_err(format!("{operation}: an object is written from its start to its end, once")))
}

#[pymethods]
impl PyWriter {
    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if data.is_instance_of::<PyString>() {
            let text =
                "an object holds bytes, not str: encode the text, or write it to an io.TextIOWrapper of this writer";
            return Err(PyTypeError::new_err(text));
        }
        let buffer = PyUntypedBuffer::get(data)?;
        let bytes = bytes_of(&buffer)?;
        let mut state = self.state.lock(py, "writer")?;
        let (has_failed, room, worth_lending) = {
            let upload = state.open(py)?.try_lock().map_err(|_| busy())?;
            (upload.has_failed(), upload.check_room(bytes.len()), upload.worth_lending(bytes.len()))
        };
        if has_failed {
            self.flush_parts(py, &mut state)?;
        }
        if let Err(cause) = room {
            return Self::fail(py, &mut state, &cause);
        }
        if worth_lending.is_empty() {
            self.copy(py, &mut state, bytes)?;
        } else {
            self.copy(py, &mut state, &bytes[..worth_lending.start])?;
            // If something fails, the upload is aborted, and its copies of the loan are dropped.
            let loan = Loan::new(py, &bytes[worth_lending.clone()]);
            let sent = self.lend(py, &mut state, loan.bytes().clone())?;
            self.copy(py, &mut state, &bytes[worth_lending.start + sent..])?;
            self.take_back_lent(py, &mut state)?;
            drop(loan);
        }
        state.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    #[pyo3(signature = (lines, /))]
    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(py, &line?)?;
        }
        Ok(())
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let state = self.state.lock(py, "writer")?;
        state.open(py).map(|_| state.written)
    }

    /// Raises the error of a part that has failed. It publishes nothing and waits for nothing.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        let has_failed = state.open(py)?.try_lock().map_err(|_| busy())?.has_failed();
        if has_failed { self.flush_parts(py, &mut state) } else { Ok(()) }
    }

    /// Ends the writing. It publishes, unless the end of its `with` block or `publish` will, or an exception that this
    /// thread has begun to handle since the writer was opened is the reason: then it aborts.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        if state.ended || state.is_over() {
            return Ok(());
        }
        if matches!(state.progress, Progress::Open(_)) && !state.inside {
            if state.lost {
                return self.abandon(py, state, None);
            }
            if let Some(reason) = state.handled.other(py)? {
                return self.abandon(py, state, Some(reason));
            }
        }
        if state.inside || self.deferred {
            state.upload(py)?;
            state.ended = true;
            return Ok(());
        }
        self.finish(py, &mut state)
    }

    /// Publishes, whatever exception is being handled; a second call does nothing.
    fn publish(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        match &state.progress {
            Progress::Published(_) => Ok(()),
            Progress::Aborted => {
                Err(PyValueError::new_err(format!("{} was aborted, and cannot be published: write it again", self.uri)))
            }
            Progress::Open(_) | Progress::Failed(_) => self.finish(py, &mut state),
        }
    }

    /// Aborts: nothing is published, and uploaded parts are removed.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        self.take_back(py, &mut state)
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state.lock(py, "writer")?;
        Ok(state.ended || state.is_over())
    }

    #[getter]
    fn aborted(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(matches!(self.state.lock(py, "writer")?.progress, Progress::Aborted))
    }

    /// The exception because of which `close` would abort.
    fn _reason_to_abort<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBaseException>>> {
        self.state.lock(py, "writer")?.handled.other(py)
    }

    /// The interpreter calls it on what a stream wraps, if the stream is collected unclosed; it closes it next.
    #[pyo3(signature = (_source, /))]
    fn _dealloc_warn(&self, py: Python<'_>, _source: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state.lock(py, "writer")?.lost = true;
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A thread that holds the lock also holds the writer, so nothing is collected too early.
        self.state.peek().map_or(Ok(()), |state| state.handled.traverse(&visit))
    }

    /// The ETag of the published object.
    #[getter]
    fn etag(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.published(py)?.map(|published| unquoted(&published.etag)))
    }

    /// The CRC-64 of the published object.
    #[getter]
    fn crc64(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.published(py)?.and_then(|published| published.crc64))
    }

    fn readable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        true
    }

    fn seekable(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }

    fn fileno(&self) -> PyResult<i32> {
        unsupported("fileno")
    }

    fn detach(&self) -> PyResult<()> {
        unsupported("detach")
    }

    #[pyo3(signature = (_offset, _whence = 0, /))]
    fn seek(&self, _offset: i64, _whence: i32) -> PyResult<u64> {
        unsupported("seek")
    }

    #[pyo3(signature = (_size = None, /))]
    fn truncate(&self, _size: Option<i64>) -> PyResult<u64> {
        unsupported("truncate")
    }

    #[pyo3(signature = (_size = None, /))]
    fn read(&self, _size: Option<i64>) -> PyResult<Vec<u8>> {
        unsupported("read")
    }

    #[pyo3(signature = (_buffer, /))]
    fn readinto(&self, _buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        unsupported("readinto")
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        {
            let mut state = slf.get().state.lock(py, "writer")?;
            state.open(py)?;
            state.inside = true;
            state.handled.extend(py)?;
        }
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        state.inside = false;
        let Some(raised) = exception.get_item(1).ok().filter(|raised| !raised.is_none()) else {
            if matches!(state.progress, Progress::Open(_)) {
                // Not the end of a `with` block, but an ExitStack that is closed because of an exception.
                if let Some(reason) = state.handled.other(py)? {
                    return self.abandon(py, state, Some(reason));
                }
                if self.deferred {
                    state.ended = true;
                    return Ok(());
                }
            }
            return if state.is_over() { Ok(()) } else { self.finish(py, &mut state) };
        };
        let cause = match &state.progress {
            Progress::Failed(error) if is_consequence(py, &raised) => Some(error.clone_ref(py)),
            _ => None,
        };
        let aborted = self.take_back(py, &mut state);
        drop(state);
        // torch.save raises an error of its own about bytes that are missing because a write failed.
        note_unaborted(py, aborted, &raised)?;
        cause.map_or(Ok(()), Err)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a writer does not pickle: it belongs to its process; pickle the client"))
    }

    fn __repr__(&self) -> String {
        format!("Writer(uri='{}')", self.uri)
    }
}

/// Whether an exception of the block may be a consequence of an earlier error of this writer. Exceptions of this
/// package are not, and neither are `KeyboardInterrupt` and the like, which are not errors.
fn is_consequence(py: Python<'_>, raised: &Bound<'_, PyAny>) -> bool {
    raised.is_instance_of::<PyException>() && !error::is_of_our_tree(py, &PyErr::from_value(raised.clone()))
}

/// The caller must know the exception of the block: an abort that failed is a note on it.
fn note_unaborted(py: Python<'_>, aborted: PyResult<()>, raised: &Bound<'_, PyAny>) -> PyResult<()> {
    match aborted {
        Err(second) if error::is_of_our_tree(py, &second) => {
            let text = format!("the unfinished upload could not be aborted, its parts remain: {}", second.value(py));
            raised.call_method1("add_note", (text,)).map(drop)
        }
        aborted => aborted,
    }
}

impl PyWriter {
    /// Sends the rest and publishes.
    fn finish(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        let published = self.advance(py, state, |mut upload| async move {
            match upload.finish().await {
                Ok(published) => Ok(published),
                Err(error) => Err(upload.give_up(error).await),
            }
        })?;
        state.end(Progress::Published(published));
        Ok(())
    }

    fn take_back(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        let unfinished = match &state.progress {
            Progress::Open(unfinished) => unfinished.get(py, "writer")?,
            Progress::Failed(_) => {
                state.end(Progress::Aborted);
                return Ok(());
            }
            Progress::Published(_) | Progress::Aborted => return Ok(()),
        };
        let upload = Arc::clone(unfinished.upload());
        let (_, reactor) = self.reactor_client.get(py)?;
        let aborted = block_on(py, reactor, async move { upload.lock().await.abort().await });
        state.end(Progress::Aborted);
        aborted
    }

    /// Aborts because of an exception, or because what wrote to it was lost, and says so.
    fn abandon(
        &self,
        py: Python<'_>,
        mut state: ForkGuard<'_, State>,
        reason: Option<Bound<'_, PyBaseException>>,
    ) -> PyResult<()> {
        let aborted = self.take_back(py, &mut state);
        drop(state);
        match &reason {
            Some(reason) => note_unaborted(py, aborted, reason)?,
            None => aborted?,
        }
        tell_unpublished(py, &self.uri, reason.as_ref())
    }

    fn published(&self, py: Python<'_>) -> PyResult<Option<Published>> {
        match &self.state.lock(py, "writer")?.progress {
            Progress::Published(published) => Ok(Some(published.clone())),
            Progress::Open(_) | Progress::Failed(_) | Progress::Aborted => Ok(None),
        }
    }
}

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;
