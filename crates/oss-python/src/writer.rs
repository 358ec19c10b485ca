//! An object being written, as a Python binary stream.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use oss_client::{ops::put::PutOptions, sync::lock, upload::Upload};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyResourceWarning, PyTypeError, PyValueError},
    prelude::*,
    types::{PyString, PyTuple},
};
use tokio::sync::OwnedMutexGuard;

use crate::{
    buffer::bytes_of,
    connection::Connection,
    process::{ForkLock, ProcessBound},
    runtime::Reactor,
    wait::block_on,
};

/// Writes one object, in order. Nothing is visible before `close` has succeeded; an exception in the `with` block,
/// `abort`, or losing the writer leaves what was there before.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct Writer {
    uri: String,
    connection: Arc<Connection>,
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
    Closed,
}

/// An upload that is given up when it is dropped. The lock is free whenever no operation runs on the I/O thread.
struct Unfinished {
    upload: Arc<tokio::sync::Mutex<Upload>>,
    reactor: Reactor,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        give_up(&self.reactor, Arc::clone(&self.upload));
    }
}

/// How many uploads the process `OWNER` is giving up now. Not a lock: a fork could copy it locked by an I/O thread.
static GIVING_UP: AtomicUsize = AtomicUsize::new(0);
static OWNER: AtomicU32 = AtomicU32::new(0);

/// How often the end of the interpreter looks whether they are done.
const END_INTERVAL: Duration = Duration::from_millis(5);

fn give_up(reactor: &Reactor, upload: Arc<tokio::sync::Mutex<Upload>>) {
    let process = std::process::id();
    if OWNER.swap(process, Ordering::Relaxed) != process {
        GIVING_UP.store(0, Ordering::Relaxed);
    }
    GIVING_UP.fetch_add(1, Ordering::Relaxed);
    reactor.handle.spawn(async move {
        if let Err(error) = upload.lock().await.abort().await {
            tracing::warn!(%error, "an unfinished upload could not be aborted; its parts remain");
        }
        GIVING_UP.fetch_sub(1, Ordering::Relaxed);
    });
}

/// A writer that may still be open when the interpreter ends.
struct Open {
    process: u32,
    uri: String,
    upload: Weak<tokio::sync::Mutex<Upload>>,
    reactor: Reactor,
    warned: Arc<AtomicBool>,
}

/// Locked only while attached to the interpreter and never across a call that detaches, so that no fork copies it locked.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

/// Warns of the writers that are open when the interpreter ends, gives their uploads up, and waits at most `seconds` until
/// that and what was given up before is done.
#[pyfunction]
pub(crate) fn end_uploads(py: Python<'_>, seconds: f64) {
    let process = std::process::id();
    let open = std::mem::take(&mut *lock(&OPEN));
    for writer in open.into_iter().filter(|writer| writer.process == process) {
        if let Some(upload) = writer.upload.upgrade() {
            warn_unclosed(py, &writer.uri, &writer.warned);
            give_up(&writer.reactor, upload);
        }
    }
    let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    py.detach(|| {
        while OWNER.load(Ordering::Relaxed) == process
            && GIVING_UP.load(Ordering::Relaxed) > 0
            && Instant::now() < until
        {
            std::thread::sleep(END_INTERVAL);
        }
    });
}

fn warn_unclosed(py: Python<'_>, uri: &str, warned: &AtomicBool) {
    if warned.swap(true, Ordering::Relaxed) {
        return;
    }
    // The end of an object may come while an exception is on its way, which must not be disturbed.
    let pending = PyErr::take(py);
    let text = format!("unclosed writer of {uri}; nothing is published");
    let told = std::ffi::CString::new(text)
        .map_err(PyErr::from)
        .and_then(|text| PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1));
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let open = self.state.lock(py, "writer").is_ok_and(|state| match &state.progress {
                Progress::Open(unfinished) => unfinished.is_here(),
                Progress::Failed(_) | Progress::Closed => false,
            });
            if open {
                warn_unclosed(py, &self.uri, &self.warned);
            }
        });
    }
}

impl Writer {
    pub(crate) fn new(py: Python<'_>, connection: &Arc<Connection>, bucket: &str, key: &str) -> PyResult<Self> {
        let (client, reactor) = connection.get(py)?;
        let upload = Upload::new(client.clone(), bucket, key, PutOptions::default());
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        let warned = Arc::new(AtomicBool::new(false));
        let uri = format!("oss://{bucket}/{key}");
        let mut open = lock(&OPEN);
        open.retain(|writer| writer.upload.strong_count() > 0);
        open.push(Open {
            process: std::process::id(),
            uri: uri.clone(),
            upload: Arc::downgrade(&upload),
            reactor: reactor.clone(),
            warned: Arc::clone(&warned),
        });
        let unfinished = Unfinished { upload, reactor: reactor.clone() };
        Ok(Self {
            uri,
            connection: Arc::clone(connection),
            state: ForkLock::new(State { progress: Progress::Open(ProcessBound::new(unfinished)), written: 0 }),
            warned,
        })
    }

    /// Runs an operation on the I/O thread; where it fails, the upload is given up and the writer keeps the error.
    fn advance<F>(
        &self,
        py: Python<'_>,
        state: &mut State,
        operation: impl FnOnce(OwnedMutexGuard<Upload>) -> F + Send + 'static,
    ) -> PyResult<()>
    where
        F: Future<Output = oss_client::Result<()>> + Send + 'static,
    {
        let (_, reactor) = self.connection.get(py)?;
        let upload = match &state.progress {
            Progress::Open(unfinished) => Arc::clone(&unfinished.get(py, "writer")?.upload),
            Progress::Failed(error) => return Err(error.clone_ref(py)),
            Progress::Closed => return Err(closed()),
        };
        let run = async move { operation(upload.lock_owned().await).await };
        block_on(py, reactor, run).inspect_err(|error| {
            state.progress = Progress::Failed(error.clone_ref(py));
        })
    }
}

fn busy() -> PyErr {
    PyValueError::new_err("another thread is using this writer")
}

fn closed() -> PyErr {
    PyValueError::new_err("I/O operation on closed writer")
}

#[pymethods]
impl Writer {
    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    #[pyo3(signature = (data, /))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if data.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("a bytes-like object is required, not 'str'"));
        }
        let buffer = PyUntypedBuffer::get(data)?;
        let bytes = bytes_of(&buffer)?;
        let mut state = self.state.lock(py, "writer")?;
        let mut taken = 0;
        while taken < bytes.len() {
            let full = {
                let unfinished = match &state.progress {
                    Progress::Open(unfinished) => unfinished.get(py, "writer")?,
                    Progress::Failed(error) => return Err(error.clone_ref(py)),
                    Progress::Closed => return Err(closed()),
                };
                let mut upload = unfinished.upload.try_lock().map_err(|_| busy())?;
                let rest = &bytes[taken..];
                let count = if rest.len() < COPY_DETACHED {
                    upload.fill(rest)
                } else {
                    let upload = &mut *upload;
                    py.detach(|| upload.fill(rest))
                };
                taken += count;
                upload.is_full()
            };
            if full {
                self.advance(py, &mut state, |mut upload| async move {
                    match upload.flush().await {
                        Ok(()) => Ok(()),
                        Err(error) => Err(upload.give_up(error).await),
                    }
                })?;
            }
        }
        state.written += taken as u64;
        Ok(taken)
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let state = self.state.lock(py, "writer")?;
        match &state.progress {
            Progress::Open(_) => Ok(state.written),
            Progress::Failed(error) => Err(error.clone_ref(py)),
            Progress::Closed => Err(closed()),
        }
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.tell(py).map(|_| ())
    }

    /// Publishes the object; a second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        match &state.progress {
            Progress::Closed => return Ok(()),
            Progress::Failed(error) => return Err(error.clone_ref(py)),
            Progress::Open(_) => {}
        }
        self.advance(py, &mut state, |mut upload| async move {
            match upload.finish().await {
                Ok(_etag) => Ok(()),
                Err(error) => Err(upload.give_up(error).await),
            }
        })?;
        state.progress = Progress::Closed;
        Ok(())
    }

    /// Gives up: nothing is published, and what was uploaded is removed.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock(py, "writer")?;
        let before = std::mem::replace(&mut state.progress, Progress::Closed);
        let Progress::Open(unfinished) = before else { return Ok(()) };
        let (_, reactor) = self.connection.get(py)?;
        let upload = Arc::clone(&unfinished.get(py, "writer")?.upload);
        block_on(py, reactor, async move { upload.lock().await.abort().await })
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state.lock(py, "writer")?;
        Ok(matches!(state.progress, Progress::Closed))
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

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let failed = exception.get_item(0).is_ok_and(|kind| !kind.is_none());
        if failed { self.abort(py) } else { self.close(py) }
    }

    fn __repr__(&self) -> String {
        format!("Writer(uri='{}')", self.uri)
    }
}

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;
