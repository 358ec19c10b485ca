//! An object being written, as a Python binary stream.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use oss_client::{
    ops::{multipart::Part, put::PutOptions},
    upload::{Lane, Published, Upload},
};
use pyo3::{
    PyTraverseError, PyVisit,
    buffer::PyUntypedBuffer,
    exceptions::{PyBaseException, PyTypeError, PyValueError},
    prelude::*,
    types::{PyString, PyTuple},
};
use tokio::sync::OwnedMutexGuard;

use crate::{
    buffer::{Loan, bytes_of},
    data_object::unquoted,
    error,
    handled::Handled,
    process::{ForkLock, ProcessBound},
    reactor_client::ReactorClient,
    unfinished::{Unfinished, warn_unclosed},
    wait::block_on,
    writer_ending::{is_consequence, note_unaborted, note_unsupported},
    writer_state::{Progress, State, busy},
};

pyo3::import_exception!(io, UnsupportedOperation);

/// Writes one object, in order. Nothing is visible before it is published, by the end of its `with` block, by `publish`,
/// or by a `close` that no exception is the reason of. Anything else leaves what was there before.
#[pyclass(frozen, weakref, name = "Writer", module = "osstorchconnector._native")]
pub(crate) struct PyWriter {
    pub(crate) uri: String,
    /// The reactor of the upload itself; its parts take turns on all reactors.
    pub(crate) reactor_client: Arc<ReactorClient>,
    state: ForkLock<State>,
    warned: Arc<AtomicBool>,
    /// Closing it and the end of its block publish nothing: `publish` does.
    deferred: bool,
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
    #[expect(clippy::too_many_arguments, reason = "what to write and how")]
    pub(crate) fn new(
        py: Python<'_>,
        reactor_clients: &[Arc<ReactorClient>],
        turn: usize,
        (bucket, key): (&str, &str),
        size_hint: Option<u64>,
        deferred: bool,
        options: PutOptions,
        after: Option<(String, Vec<Part>)>,
    ) -> PyResult<Self> {
        let handled = Handled::now(py)?;
        let reactor_client = &reactor_clients[turn % reactor_clients.len()];
        let (client, reactor) = reactor_client.get(py)?;
        let mut upload = Upload::new(lanes(py, reactor_clients)?, &client, bucket, key, options, size_hint)
            .map_err(|cause| error::to_python(py, &cause))?;
        if let Some((upload_id, parts)) = after {
            upload.continue_after(&upload_id, parts);
        }
        let written = upload.written();
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        let warned = Arc::new(AtomicBool::new(false));
        let uri = format!("oss://{bucket}/{key}");
        let unfinished = Unfinished::new(&uri, upload, reactor.clone(), &warned);
        Ok(Self {
            uri,
            reactor_client: Arc::clone(reactor_client),
            state: ForkLock::new(State {
                progress: Progress::Open(ProcessBound::new(unfinished)),
                written,
                blocks: 0,
                ended: false,
                lost: false,
                handled,
            }),
            warned,
            deferred,
        })
    }

    /// Raises if it is closed, has failed, or belongs to another process.
    fn check_usable(&self, py: Python<'_>) -> PyResult<()> {
        self.state.lock(py, "writer")?.open(py).map(drop)
    }

    fn unsupported<T>(&self, py: Python<'_>, operation: &str) -> PyResult<T> {
        self.check_usable(py)?;
        unsupported(operation)
    }

    /// Runs an operation on the I/O thread. If it fails, the upload is aborted and the writer keeps the error.
    pub(crate) fn advance<T: Send + 'static, F>(
        &self,
        py: Python<'_>,
        state: &mut State,
        operation: impl FnOnce(OwnedMutexGuard<Upload>) -> F + Send + 'static,
    ) -> PyResult<T>
    where
        F: Future<Output = oss_client::Result<T>> + Send + 'static,
    {
        let upload = Arc::clone(state.upload(py)?);
        let reactor = self.reactor_client.reactor(py)?;
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

/// All reactors, for the parts of one upload.
pub(crate) fn lanes(py: Python<'_>, reactor_clients: &[Arc<ReactorClient>]) -> PyResult<Vec<Lane>> {
    let lane = |reactor_client: &Arc<ReactorClient>| {
        let (client, reactor) = reactor_client.get(py)?;
        Ok(Lane { client, runtime: reactor.handle.clone() })
    };
    reactor_clients.iter().map(lane).collect()
}

fn unsupported<T>(operation: &str) -> PyResult<T> {
    Err(UnsupportedOperation::new_err(match operation {
        "fileno" => "fileno: an object of OSS is not a file of the operating system".to_owned(),
        "detach" => "detach: this writer has no raw stream".to_owned(),
        _ => format!(
            "{operation}: this writer writes an object from its start to its end, once; open it with writer(uri, \
             seekable=True) to seek and to read what was written"
        ),
    }))
}

#[pymethods]
impl PyWriter {
    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    /// The name as the original has it.
    #[getter]
    fn key(&self) -> &str {
        self.uri.strip_prefix("oss:/").unwrap_or(&self.uri)
    }

    /// Only objects of a dataset have labels.
    #[getter]
    fn label(&self) -> &'static str {
        ""
    }

    /// How many bytes were written so far.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.state.lock(py, "writer")?.written)
    }

    /// The number of the error that ended the writing, as the operating system names it; 0 without one.
    fn err(&self, py: Python<'_>) -> PyResult<i32> {
        match &self.state.lock(py, "writer")?.progress {
            Progress::Failed(failure) => error::number_of(failure.value(py)),
            Progress::Open(_) | Progress::Published(_) | Progress::Aborted => Ok(0),
        }
    }

    /// The text of that error; empty without one.
    fn error_msg(&self, py: Python<'_>) -> PyResult<String> {
        match &self.state.lock(py, "writer")?.progress {
            Progress::Failed(failure) => Ok(failure.value(py).to_string()),
            Progress::Open(_) | Progress::Published(_) | Progress::Aborted => Ok(String::new()),
        }
    }

    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if data.is_instance_of::<PyString>() {
            self.check_usable(py)?;
            let text =
                "an object holds bytes, not str: encode the text, or write it to an io.TextIOWrapper of this writer";
            return Err(PyTypeError::new_err(text));
        }
        let buffer = PyUntypedBuffer::get(data).or_else(|error| self.check_usable(py).and(Err(error)))?;
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
        self.check_usable(py)?;
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
        if matches!(state.progress, Progress::Open(_)) && state.blocks == 0 {
            if state.lost {
                return self.abandon(py, state, None);
            }
            if let Some(reason) = state.handled.reason(py, None)? {
                return self.abandon(py, state, Some(reason));
            }
        }
        if state.blocks > 0 || self.deferred {
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

    /// Begins an upload in parts, and returns its id.
    fn _begin(&self, py: Python<'_>) -> PyResult<String> {
        let mut state = self.state.lock(py, "writer")?;
        state.open(py)?;
        self.advance(py, &mut state, |mut upload| async move {
            match upload.begin().await {
                Ok(upload_id) => Ok(upload_id.to_string()),
                Err(error) => Err(upload.give_up(error).await),
            }
        })
    }

    /// Ends the writing without publishing, and leaves the parts that arrived to a writer that continues after them.
    fn _leave(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        if matches!(state.progress, Progress::Open(_)) {
            self.advance(py, &mut state, |mut upload| async move {
                upload.leave().await;
                Ok(())
            })?;
            state.end(Progress::Aborted);
        }
        Ok(())
    }

    /// [`Self::publish`] under the name that fsspec calls.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        self.publish(py)
    }

    /// [`Self::abort`] under the name that fsspec calls.
    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        self.abort(py)
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

    /// The exception because of which `close` would abort, or the end of the block that called the caller.
    fn _reason_to_abort(&self, py: Python<'_>, ends_block: bool) -> PyResult<Option<Py<PyBaseException>>> {
        Ok(self.state.lock(py, "writer")?.handled.reason(py, ends_block.then_some(1))?.map(Bound::unbind))
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

    fn readable(&self, py: Python<'_>) -> PyResult<bool> {
        self.check_usable(py).map(|()| false)
    }

    fn writable(&self, py: Python<'_>) -> PyResult<bool> {
        self.check_usable(py).map(|()| true)
    }

    fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
        self.check_usable(py).map(|()| false)
    }

    fn isatty(&self, py: Python<'_>) -> PyResult<bool> {
        self.check_usable(py).map(|()| false)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.uri
    }

    #[getter]
    fn mode(&self) -> &'static str {
        "wb"
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.unsupported(py, "fileno")
    }

    fn detach(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.unsupported(py, "detach")
    }

    #[pyo3(signature = (_offset, _whence = 0, /))]
    fn seek(&self, py: Python<'_>, _offset: i64, _whence: i32) -> PyResult<u64> {
        self.unsupported(py, "seek")
    }

    #[pyo3(signature = (_size = None, /))]
    fn truncate(&self, py: Python<'_>, _size: Option<i64>) -> PyResult<u64> {
        self.unsupported(py, "truncate")
    }

    #[pyo3(signature = (_size = -1, /))]
    fn read(&self, py: Python<'_>, _size: Option<i64>) -> PyResult<Vec<u8>> {
        self.unsupported(py, "read")
    }

    #[pyo3(signature = (_size = -1, /))]
    fn read1(&self, py: Python<'_>, _size: Option<i64>) -> PyResult<Vec<u8>> {
        self.unsupported(py, "read1")
    }

    #[pyo3(signature = (_size = -1, /))]
    fn readline(&self, py: Python<'_>, _size: Option<i64>) -> PyResult<Vec<u8>> {
        self.unsupported(py, "readline")
    }

    #[pyo3(signature = (_hint = -1, /))]
    fn readlines(&self, py: Python<'_>, _hint: Option<i64>) -> PyResult<Vec<Vec<u8>>> {
        self.unsupported(py, "readlines")
    }

    #[pyo3(signature = (_buffer, /))]
    fn readinto(&self, py: Python<'_>, _buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.unsupported(py, "readinto")
    }

    #[pyo3(signature = (_buffer, /))]
    fn readinto1(&self, py: Python<'_>, _buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.unsupported(py, "readinto1")
    }

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().check_usable(slf.py())?;
        Ok(slf)
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Vec<u8>>> {
        self.unsupported(py, "readline")
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        {
            let mut state = slf.get().state.lock(py, "writer")?;
            state.open(py)?;
            state.blocks += 1;
            state.handled.extend(py)?;
        }
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        state.blocks = state.blocks.saturating_sub(1);
        let given = |index| exception.get_item(index).ok().filter(|given| !given.is_none());
        let Some(raised) = given(1) else {
            if given(0).is_some() {
                // A program that calls it by itself may pass the exception's class alone.
                return self.take_back(py, &mut state);
            }
            if matches!(state.progress, Progress::Open(_)) {
                if state.blocks > 0 {
                    state.ended = true;
                    return Ok(());
                }
                // Not the end of a `with` block, but an ExitStack that is closed because of an exception.
                if let Some(reason) = state.handled.reason(py, Some(0))? {
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
        note_unaborted(py, aborted, &raised)?;
        note_unsupported(py, &raised)?;
        // torch.save raises an error of its own about bytes that are missing because a write failed.
        cause.map_or(Ok(()), Err)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a writer does not pickle: it belongs to its process; pickle the client"))
    }

    fn __repr__(&self) -> String {
        format!("Writer(uri='{}')", self.uri)
    }
}

impl PyWriter {
    fn published(&self, py: Python<'_>) -> PyResult<Option<Published>> {
        match &self.state.lock(py, "writer")?.progress {
            Progress::Published(published) => Ok(Some(published.clone())),
            Progress::Open(_) | Progress::Failed(_) | Progress::Aborted => Ok(None),
        }
    }
}

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;
