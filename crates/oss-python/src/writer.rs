//! An object being written, as a Python binary stream.

use std::sync::{Arc, Mutex, PoisonError};

use oss_client::{ops::put::PutOptions, upload::Upload};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyResourceWarning, PyTypeError, PyValueError},
    prelude::*,
    sync::MutexExt,
    types::{PyString, PyTuple},
};
use tokio::sync::OwnedMutexGuard;

use crate::{buffer::bytes_of, connection::Connection, process::ProcessBound, runtime::Reactor, wait::block_on};

/// Writes one object, in order. Nothing is visible before `close` has succeeded; an exception in the `with` block,
/// `abort`, or losing the writer leaves what was there before.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct Writer {
    uri: String,
    connection: Arc<Connection>,
    state: Mutex<State>,
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
        let upload = Arc::clone(&self.upload);
        self.reactor.handle.spawn(async move {
            if let Err(error) = upload.lock().await.abort().await {
                tracing::warn!(%error, "an unfinished upload could not be aborted; its parts remain");
            }
        });
    }
}

impl Writer {
    pub(crate) fn new(py: Python<'_>, connection: &Arc<Connection>, bucket: &str, key: &str) -> PyResult<Self> {
        let (client, reactor) = connection.get(py)?;
        let upload = Upload::new(client.clone(), bucket, key, PutOptions::default());
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        let unfinished = Unfinished { upload, reactor: reactor.clone() };
        Ok(Self {
            uri: format!("oss://{bucket}/{key}"),
            connection: Arc::clone(connection),
            state: Mutex::new(State { progress: Progress::Open(ProcessBound::new(unfinished)), written: 0 }),
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
        let mut state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
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
        let state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
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
        let mut state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
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
        let mut state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.progress, Progress::Closed);
        let Progress::Open(unfinished) = before else { return Ok(()) };
        let (_, reactor) = self.connection.get(py)?;
        let upload = Arc::clone(&unfinished.get(py, "writer")?.upload);
        block_on(py, reactor, async move { upload.lock().await.abort().await })
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        let state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        matches!(state.progress, Progress::Closed)
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

    fn __del__(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let here = match &state.progress {
            Progress::Open(unfinished) => unfinished.is_here(),
            _ => false,
        };
        if here {
            let message = std::ffi::CString::new(format!("unclosed writer of {}; nothing is published", self.uri))?;
            PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &message, 1)?;
        }
        Ok(())
    }
}

/// Larger copies let other threads run meanwhile; smaller ones take less time than releasing the interpreter does.
const COPY_DETACHED: usize = 256 << 10;
