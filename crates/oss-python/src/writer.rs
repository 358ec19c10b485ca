//! An object being written, as a Python binary stream.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use oss_client::{
    ops::put::PutOptions,
    upload::{Lane, Published, Upload},
};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyException, PyTypeError, PyValueError},
    prelude::*,
    types::{PyString, PyTuple},
};
use tokio::sync::OwnedMutexGuard;

use crate::{
    buffer::{Loan, bytes_of},
    data_object::unquoted,
    error,
    process::{ForkLock, ProcessBound},
    reactor_client::ReactorClient,
    unfinished::{Unfinished, warn_unclosed},
    wait::block_on,
};

pyo3::import_exception!(io, UnsupportedOperation);

/// Writes one object, in order. Nothing is visible before `close` has succeeded; an exception in the `with` block,
/// `abort`, or losing the writer leaves what was there before.
#[pyclass(frozen, name = "Writer", module = "osstorchconnector._native")]
pub(crate) struct PyWriter {
    uri: String,
    /// What drives the upload itself; its parts take turns on all reactors.
    reactor_client: Arc<ReactorClient>,
    state: ForkLock<State>,
    warned: Arc<AtomicBool>,
}

struct State {
    progress: Progress,
    written: u64,
}

enum Progress {
    Open(ProcessBound<Unfinished>),
    /// A write failed; the reason is raised again by every further use.
    Failed(PyErr),
    /// Published, or given up.
    Closed(Option<Published>),
}

impl Drop for PyWriter {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let open = self.state.lock(py, "writer").is_ok_and(|state| match &state.progress {
                Progress::Open(unfinished) => unfinished.is_here(),
                Progress::Failed(_) | Progress::Closed(_) => false,
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
    ) -> PyResult<Self> {
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
            state: ForkLock::new(State { progress: Progress::Open(ProcessBound::new(unfinished)), written: 0 }),
            warned,
        })
    }

    /// Runs an operation on the I/O thread. If it fails, the upload is given up and the writer keeps the error.
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

    /// Keeps an error of this thread, and gives the upload up.
    fn fail<T>(py: Python<'_>, state: &mut State, cause: &oss_client::Error) -> PyResult<T> {
        let raised = error::to_python(py, cause);
        state.progress = Progress::Failed(raised.clone_ref(py));
        Err(raised)
    }

    /// Copies bytes into parts, and sends each when it is full.
    fn copy(&self, py: Python<'_>, state: &mut State, mut bytes: &[u8]) -> PyResult<()> {
        while !bytes.is_empty() {
            let (filled, is_full) = {
                let mut upload = state.upload(py)?.try_lock().map_err(|_| busy())?;
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
            Progress::Closed(_) => Err(closed()),
        }
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
            let upload = state.upload(py)?.try_lock().map_err(|_| busy())?;
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
            // If something fails, the upload is given up, and its copies of the loan are dropped.
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
        state.upload(py).map(|_| state.written)
    }

    /// Raises what has failed meanwhile. It publishes nothing and waits for nothing.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        let has_failed = state.upload(py)?.try_lock().map_err(|_| busy())?.has_failed();
        if has_failed { self.flush_parts(py, &mut state) } else { Ok(()) }
    }

    /// Publishes the object; a second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        if matches!(state.progress, Progress::Closed(_)) {
            return Ok(());
        }
        let published = self.advance(py, &mut state, |mut upload| async move {
            match upload.finish().await {
                Ok(published) => Ok(published),
                Err(error) => Err(upload.give_up(error).await),
            }
        })?;
        state.progress = Progress::Closed(Some(published));
        Ok(())
    }

    /// Gives up: nothing is published, and what was uploaded is removed.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        let Progress::Open(unfinished) = &state.progress else {
            if matches!(state.progress, Progress::Failed(_)) {
                state.progress = Progress::Closed(None);
            }
            return Ok(());
        };
        let upload = Arc::clone(unfinished.get(py, "writer")?.upload());
        let (_, reactor) = self.reactor_client.get(py)?;
        let aborted = block_on(py, reactor, async move { upload.lock().await.abort().await });
        state.progress = Progress::Closed(None);
        aborted
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state.lock(py, "writer")?;
        Ok(matches!(state.progress, Progress::Closed(_)))
    }

    /// The ETag of what was published.
    #[getter]
    fn etag(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.published(py)?.map(|published| unquoted(&published.etag)))
    }

    /// The CRC-64 of what was published.
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

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let Some(raised) = exception.get_item(1).ok().filter(|raised| !raised.is_none()) else {
            return self.close(py);
        };
        let cause = self.failure(py)?.filter(|_| is_consequence(py, &raised));
        match self.abort(py) {
            // torch.save raises an error of its own about bytes that are missing because a write failed.
            Ok(()) => cause.map_or(Ok(()), Err),
            // The exception of the block is what the caller must know.
            Err(second) if error::is_of_our_tree(py, &second) => {
                let text =
                    format!("the unfinished upload could not be aborted, its parts remain: {}", second.value(py));
                raised.call_method1("add_note", (text,)).map(drop)
            }
            aborted => aborted,
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a writer does not pickle: it belongs to its process; pickle the client"))
    }

    fn __repr__(&self) -> String {
        format!("Writer(uri='{}')", self.uri)
    }
}

/// Whether an exception of the block may come from what this writer raised before: it is neither of our tree nor one, such
/// as `KeyboardInterrupt`, that is no error.
fn is_consequence(py: Python<'_>, raised: &Bound<'_, PyAny>) -> bool {
    raised.is_instance_of::<PyException>() && !error::is_of_our_tree(py, &PyErr::from_value(raised.clone()))
}

impl PyWriter {
    fn failure(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        match &self.state.lock(py, "writer")?.progress {
            Progress::Failed(error) => Ok(Some(error.clone_ref(py))),
            Progress::Open(_) | Progress::Closed(_) => Ok(None),
        }
    }

    fn published(&self, py: Python<'_>) -> PyResult<Option<Published>> {
        match &self.state.lock(py, "writer")?.progress {
            Progress::Closed(published) => Ok(published.clone()),
            Progress::Open(_) | Progress::Failed(_) => Ok(None),
        }
    }
}

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;
