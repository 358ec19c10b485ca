//! An object being read, as a Python binary stream.

use std::sync::Arc;

use oss_client::{catalogue::Entry, error::too_large, ops::head::ObjectMeta};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList, PyTuple},
};

use crate::{
    buffer::{LentBuffer, are_disjoint},
    connection::Connection,
    data_object::unquoted,
    error,
    process::{ForkLock, ProcessBound},
    ranged::{Ranged, ScatteredOptions},
};

pyo3::import_exception!(io, UnsupportedOperation);

/// What `read1` returns at most where it has to ask for it: one request of the least size.
const READ1: usize = 64 << 10;

/// Reads one version of an object from any place. Threads may share it: each call is done whole before the next.
#[pyclass(frozen, weakref, name = "OssReader", module = "osstorchconnector._native")]
pub(crate) struct Reader {
    uri: String,
    size: u64,
    etag: String,
    state: ForkLock<State>,
}

struct State {
    /// None once it is closed.
    open: Option<ProcessBound<Ranged>>,
    position: u64,
}

impl State {
    fn ranged(&mut self, py: Python<'_>) -> PyResult<&mut Ranged> {
        self.open.as_mut().ok_or_else(closed)?.get_mut(py, "reader")
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("I/O operation on closed reader")
}

impl Reader {
    pub(crate) fn new<'a>(
        py: Python<'_>,
        connections: impl IntoIterator<Item = &'a Arc<Connection>>,
        bucket: &str,
        key: &str,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        let (size, etag) = (meta.size, unquoted(&meta.etag));
        let ranged = Ranged::new(py, connections, &Entry::named(bucket, key), meta)?;
        let state = State { open: Some(ProcessBound::new(ranged)), position: 0 };
        Ok(Self { uri: format!("oss://{bucket}/{key}"), size, etag, state: ForkLock::new(state) })
    }

    /// Runs `action` on an open reader.
    fn with_open<T>(&self, py: Python<'_>, action: impl FnOnce(&mut State) -> PyResult<T>) -> PyResult<T> {
        let mut state = self.state.lock(py, "reader")?;
        state.ranged(py)?;
        action(&mut state)
    }

    /// Reads at most `length` bytes from the position, which moves on.
    fn read_up_to<'py>(&self, py: Python<'py>, state: &mut State, length: u64) -> PyResult<Bound<'py, PyBytes>> {
        let start = state.position;
        let length = length.min(self.size.saturating_sub(start));
        // Python's sizes are signed.
        let length = isize::try_from(length).map_err(|_| error::to_python(py, &too_large(length)))?.unsigned_abs();
        let ranged = state.ranged(py)?;
        let bytes =
            PyBytes::new_with(py, length, |target| ranged.read(py, start, LentBuffer::of_slice(target)).map(|_| ()))?;
        state.position += length as u64;
        Ok(bytes)
    }

    /// What `read1` returns at most: bytes that are here, or those of one request.
    fn at_once(&self, py: Python<'_>, state: &mut State) -> PyResult<usize> {
        let position = state.position;
        let ready = state.ranged(py)?.ready(position);
        Ok(if ready > 0 { ready } else { READ1 })
    }

    fn fill(&self, py: Python<'_>, state: &mut State, target: LentBuffer) -> PyResult<usize> {
        let start = state.position;
        let left = usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX);
        let count = state.ranged(py)?.read(py, start, target.shortened(left))?;
        state.position += count as u64;
        Ok(count)
    }
}

#[pymethods]
impl Reader {
    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    #[getter]
    fn etag(&self) -> &str {
        &self.etag
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state.lock(py, "reader")?.open.is_none())
    }

    #[pyo3(signature = (size = -1, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        error::raise_pending(py)?;
        let length = size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
        self.with_open(py, |state| self.read_up_to(py, state, length))
    }

    #[pyo3(signature = (size = -1, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let length = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        self.with_open(py, |state| {
            let length = length.min(self.at_once(py, state)?);
            self.read_up_to(py, state, length as u64)
        })
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        let target = LentBuffer::of_buffer(&buffer)?;
        self.with_open(py, |state| self.fill(py, state, target))
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto1(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        let target = LentBuffer::of_buffer(&buffer)?;
        self.with_open(py, |state| {
            let most = self.at_once(py, state)?;
            self.fill(py, state, target.shortened(most))
        })
    }

    #[pyo3(signature = (parts, /, *, concurrent = false, verify = true))]
    fn readinto_many(
        &self,
        py: Python<'_>,
        parts: Vec<(u64, Bound<'_, PyAny>)>,
        concurrent: bool,
        verify: bool,
    ) -> PyResult<()> {
        let mut buffers = Vec::with_capacity(parts.len());
        for (start, object) in &parts {
            let buffer = PyUntypedBuffer::get(object)?;
            let end = start.checked_add(buffer.len_bytes() as u64);
            if end.is_none_or(|end| end > self.size) {
                let length = buffer.len_bytes();
                let text = format!("{} has {} bytes: {length} from {start} on are not in it", self.uri, self.size);
                return Err(PyValueError::new_err(text));
            }
            buffers.push((*start, buffer));
        }
        let targets = buffers.iter().map(|(start, buffer)| Ok((*start, LentBuffer::of_buffer(buffer)?)));
        let targets = targets.collect::<PyResult<Vec<_>>>()?;
        if !are_disjoint(targets.iter().map(|(_, target)| target)) {
            return Err(PyValueError::new_err("two of the buffers share memory"));
        }
        let options = ScatteredOptions { concurrent, verify };
        // Received without the lock: the position stays, and other threads receive at the same time.
        let scattered = self.with_open(py, |state| Ok(state.ranged(py)?.scattered(py, targets, options)))?;
        scattered.receive(py)?;
        match &mut self.state.lock(py, "reader")?.open {
            Some(ranged) if verify && concurrent => ranged.get_mut(py, "reader")?.verify(py),
            Some(ranged) if verify => ranged.get_mut(py, "reader")?.check(py),
            // Another thread has closed it, and has compared what there was to compare.
            _ => Ok(()),
        }
    }

    #[pyo3(signature = (size = -1, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        self.with_open(py, |state| {
            let start = state.position;
            let end = state.ranged(py)?.end_of_line(py, start, self.size, limit)?;
            self.read_up_to(py, state, end - start)
        })
    }

    #[pyo3(signature = (hint = -1, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let hint = hint.and_then(|hint| usize::try_from(hint).ok()).filter(|hint| *hint > 0);
        let lines = PyList::empty(py);
        let mut bytes = 0;
        loop {
            let line = self.readline(py, None)?;
            let length = line.len()?;
            if length == 0 {
                return Ok(lines);
            }
            bytes += length;
            lines.append(line)?;
            if hint.is_some_and(|hint| bytes >= hint) {
                return Ok(lines);
            }
        }
    }

    #[pyo3(signature = (offset, whence = 0, /))]
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        self.with_open(py, |state| {
            let base = match whence {
                0 => 0,
                1 => state.position,
                2 => self.size,
                other => {
                    return Err(PyValueError::new_err(format!("invalid whence ({other}, should be 0, 1 or 2)")));
                }
            };
            if offset < 0 && whence == 0 {
                return Err(PyValueError::new_err(format!("negative seek value {offset}")));
            }
            state.position = base.saturating_add_signed(offset);
            Ok(state.position)
        })
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        self.with_open(py, |state| Ok(state.position))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(mut open) = self.state.lock(py, "reader")?.open.take() else { return Ok(()) };
        match open.take() {
            Some(ranged) => ranged.close(py),
            None => Ok(()),
        }
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.tell(py).map(|_| ())
    }

    fn readable(&self, py: Python<'_>) -> PyResult<bool> {
        self.tell(py).map(|_| true)
    }

    fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
        self.tell(py).map(|_| true)
    }

    fn writable(&self, py: Python<'_>) -> PyResult<bool> {
        self.tell(py).map(|_| false)
    }

    fn isatty(&self, py: Python<'_>) -> PyResult<bool> {
        self.tell(py).map(|_| false)
    }

    fn fileno(&self) -> PyResult<i32> {
        Err(UnsupportedOperation::new_err("fileno: an object of OSS is no file of the operating system"))
    }

    fn detach(&self) -> PyResult<Py<PyAny>> {
        Err(UnsupportedOperation::new_err("detach: there is no raw stream behind a reader"))
    }

    #[pyo3(signature = (_data, /))]
    fn write(&self, _data: &Bound<'_, PyAny>) -> PyResult<usize> {
        Err(read_only("write"))
    }

    #[pyo3(signature = (_lines, /))]
    fn writelines(&self, _lines: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(read_only("writelines"))
    }

    #[pyo3(signature = (_size = None, /))]
    fn truncate(&self, _size: Option<u64>) -> PyResult<u64> {
        Err(read_only("truncate"))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().tell(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Self::__enter__(slf)
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.readline(py, None)?;
        Ok(if line.len()? == 0 { None } else { Some(line) })
    }

    fn __repr__(&self) -> String {
        format!("OssReader(uri='{}', size={})", self.uri, self.size)
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        Err(PyTypeError::new_err(format!(
            "cannot pickle a reader, which belongs to its process; open '{}' again where it is needed",
            self.uri
        )))
    }
}

fn read_only(operation: &str) -> PyErr {
    UnsupportedOperation::new_err(format!("{operation}: a reader does not write; open a writer"))
}
