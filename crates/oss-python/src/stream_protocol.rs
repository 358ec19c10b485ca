//! The methods of a readable binary stream, as `io.BufferedIOBase` names them: one implementation for all classes that
//! have them.
//!
//! A class implements [`ReadStream`] and has its methods made by [`read_stream_methods!`].

use std::sync::Arc;

use oss_client::{buffer::PooledBuffer, error::too_large};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyException, PyMemoryError, PyOverflowError, PySystemError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList, PyTuple, PyType},
};

use crate::{
    buffer::LentBuffer,
    error,
    process::{ForkLock, ProcessBound},
    ranged::{Ranged, line_length},
    reactor_client::ReactorClient,
};

pyo3::import_exception!(io, UnsupportedOperation);

/// Upper limit of what `read1` asks for if nothing is in memory: one request of the least size.
const READ1: usize = 64 << 10;

/// The bytes of a stream.
pub(crate) enum Content {
    /// All bytes are in memory.
    Bytes {
        bytes: Arc<PooledBuffer>,
        etag: Option<String>,
    },
    /// Only the name is known. The first use that needs more opens it.
    Described(Option<Arc<ReactorClient>>),
    /// The bytes are read by ranges.
    Open(ProcessBound<Ranged>),
    Closed,
}

/// The content of a stream and its position; locked.
pub(crate) struct StreamState {
    pub(crate) content: Content,
    pub(crate) position: u64,
    failure: Option<Failure>,
}

/// What a read raised: the class and the text. The exception itself would keep the frames alive that it went through,
/// and they the stream.
pub(crate) struct Failure {
    class: Py<PyType>,
    text: String,
}

impl Failure {
    pub(crate) fn of(py: Python<'_>, error: &PyErr) -> Self {
        Self { class: error.get_type(py).unbind(), text: error.value(py).to_string() }
    }

    /// The same failure, for another stream.
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { class: self.class.clone_ref(py), text: self.text.clone() }
    }

    /// The same exception once more.
    fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.class.bind(py).call1((&self.text,))
    }
}

impl StreamState {
    /// A stream at its start.
    pub(crate) fn new(content: Content) -> ForkLock<Self> {
        ForkLock::new(Self { content, position: 0, failure: None })
    }

    /// A stream whose bytes could not be fetched.
    pub(crate) fn failed(content: Content, failure: Option<Failure>) -> ForkLock<Self> {
        ForkLock::new(Self { content, position: 0, failure })
    }

    /// Why the last read failed.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The bytes from the position on, if all are in memory.
    fn rest(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Bytes { bytes, .. } => Some(bytes.get(self.position as usize..).unwrap_or_default()),
            _ => None,
        }
    }
}

/// A readable, seekable stream. Threads may share it: calls run one after the other.
pub(crate) trait ReadStream {
    /// The word for it in messages.
    const NAME: &'static str;

    fn state(&self) -> &ForkLock<StreamState>;

    /// The object's URI, for messages.
    fn address(&self) -> String;

    /// Opens content that is only described.
    fn open(&self, py: Python<'_>, state: &mut StreamState) -> PyResult<()>;

    /// Runs `action` with the state and the size. Content that is only described is opened before.
    fn with_content<T>(
        &self,
        py: Python<'_>,
        action: impl FnOnce(&mut StreamState, u64) -> PyResult<T>,
    ) -> PyResult<T> {
        let mut state = self.state().lock(py, Self::NAME)?;
        if let Err(error) = self.open(py, &mut state) {
            state.failure = Some(Failure::of(py, &error));
            return Err(error);
        }
        let size = match &state.content {
            Content::Bytes { bytes, .. } => bytes.len() as u64,
            Content::Open(ranged) => ranged.get(py, Self::NAME)?.meta().size,
            Content::Closed | Content::Described(_) => return Err(Self::closed_error()),
        };
        action(&mut state, size)
    }

    fn closed_error() -> PyErr {
        PyValueError::new_err(format!("I/O operation on closed {}", Self::NAME))
    }

    /// Raises if it is closed, or if its bytes are read by ranges and it belongs to another process.
    fn check_usable(&self, py: Python<'_>) -> PyResult<()> {
        self.tell(py).map(drop)
    }

    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(matches!(self.state().lock(py, Self::NAME)?.content, Content::Closed))
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let state = self.state().lock(py, Self::NAME)?;
        match &state.content {
            Content::Closed => return Err(Self::closed_error()),
            Content::Open(ranged) => drop(ranged.get(py, Self::NAME)?),
            Content::Bytes { .. } | Content::Described(_) => {}
        }
        Ok(state.position)
    }

    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        self.with_content(py, |state, size| {
            let base = match whence {
                0 => 0,
                1 => state.position,
                2 => size,
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

    /// Returns the bytes from the position up to `end`, which lies within the object. The position moves there.
    fn read_to<'py>(py: Python<'py>, state: &mut StreamState, end: u64) -> PyResult<Bound<'py, PyBytes>> {
        let start = state.position;
        let length = end.saturating_sub(start);
        // Python's sizes are signed.
        let length = isize::try_from(length).map_err(|_| error::to_python(py, &too_large(length)))?.unsigned_abs();
        let bytes = match &mut state.content {
            Content::Bytes { bytes, .. } => {
                PyBytes::new(py, bytes.get(start as usize..start as usize + length).unwrap_or_default())
            }
            Content::Open(ranged) => {
                let ranged = ranged.get_mut(py, Self::NAME)?;
                PyBytes::new_with(py, length, |target| ranged.read(py, start, LentBuffer::of_slice(target)).map(drop))
                    .map_err(|raised| without_memory(py, raised, length))?
            }
            Content::Described(_) | Content::Closed => return Err(Self::closed_error()),
        };
        state.position = start.max(end);
        Ok(bytes)
    }

    /// How many bytes `read1` returns at most: those in memory, or those of one request.
    fn at_once(py: Python<'_>, state: &mut StreamState) -> PyResult<usize> {
        let position = state.position;
        if let Some(rest) = state.rest() {
            return Ok(rest.len());
        }
        let Content::Open(ranged) = &mut state.content else { return Err(Self::closed_error()) };
        let ready = ranged.get_mut(py, Self::NAME)?.ready(position);
        Ok(if ready > 0 { ready } else { READ1 })
    }

    /// Does the work of a method that reads, and notes what it raised.
    fn reading<T>(&self, py: Python<'_>, action: impl FnOnce(&mut StreamState, u64) -> PyResult<T>) -> PyResult<T> {
        self.with_content(py, |state, total| {
            let read = action(state, total);
            state.failure = read.as_ref().err().map(|error| Failure::of(py, error));
            read
        })
    }

    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        error::raise_pending(py)?;
        self.reading(py, |state, total| {
            let end = match size.and_then(|size| u64::try_from(size).ok()) {
                Some(size) => state.position.saturating_add(size).min(total),
                None => total,
            };
            Self::read_to(py, state, end)
        })
    }

    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let most = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        self.reading(py, |state, total| {
            let length = most.min(Self::at_once(py, state)?) as u64;
            let end = state.position.saturating_add(length).min(total);
            Self::read_to(py, state, end)
        })
    }

    /// Fills `target` from the position on, as far as the object goes. The position moves to the end of the filled
    /// bytes.
    fn fill(py: Python<'_>, state: &mut StreamState, total: u64, mut target: LentBuffer) -> PyResult<usize> {
        let start = state.position;
        let count = if let Some(rest) = state.rest() {
            let count = rest.len().min(target.len());
            target.as_mut_slice()[..count].copy_from_slice(&rest[..count]);
            count
        } else {
            let Content::Open(ranged) = &mut state.content else { return Err(Self::closed_error()) };
            let left = usize::try_from(total.saturating_sub(start)).unwrap_or(usize::MAX);
            ranged.get_mut(py, Self::NAME)?.read(py, start, target.shortened(left))?
        };
        state.position += count as u64;
        Ok(count)
    }

    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        let target = LentBuffer::of_buffer(&buffer)?;
        self.reading(py, |state, total| Self::fill(py, state, total, target))
    }

    /// What the last read raised. Libraries lose it.
    fn failure<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.state().lock(py, Self::NAME)?;
        state.failure.as_ref().map(|failure| failure.exception(py)).transpose()
    }

    /// The number of that error, as the operating system names it; 0 without an error.
    fn err(&self, py: Python<'_>) -> PyResult<i32> {
        self.failure(py)?.map_or(Ok(0), |failure| error::number_of(&failure))
    }

    /// The text of that error; empty without an error.
    fn error_msg(&self, py: Python<'_>) -> PyResult<String> {
        let state = self.state().lock(py, Self::NAME)?;
        Ok(state.failure.as_ref().map(|failure| failure.text.clone()).unwrap_or_default())
    }

    fn readinto1(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(buffer)?;
        let target = LentBuffer::of_buffer(&buffer)?;
        self.reading(py, |state, total| {
            let most = Self::at_once(py, state)?;
            Self::fill(py, state, total, target.shortened(most))
        })
    }

    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        self.reading(py, |state, total| {
            let start = state.position;
            let end = if let Some(rest) = state.rest() {
                start + line_length(&rest[..rest.len().min(limit)]) as u64
            } else {
                let Content::Open(ranged) = &mut state.content else { return Err(Self::closed_error()) };
                ranged.get_mut(py, Self::NAME)?.end_of_line(py, start, total, limit)?
            };
            Self::read_to(py, state, end)
        })
    }

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

    /// The next line, or None at the end.
    fn next_line<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.readline(py, None)?;
        Ok(if line.len()? == 0 { None } else { Some(line) })
    }

    /// Releases the bytes. Raises if all were received, their checksum is wrong, and no read has raised this before.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let content = std::mem::replace(&mut self.state().lock(py, Self::NAME)?.content, Content::Closed);
        match content {
            Content::Open(mut ranged) => ranged.take().map_or(Ok(()), |ranged| ranged.close(py)),
            Content::Bytes { .. } | Content::Described(_) | Content::Closed => Ok(()),
        }
    }

    /// Ends a `with` block: closes, and raises what the last read raised instead of what a library made of it. If torch
    /// or pickle could not understand what they read, raises if these bytes are wrong.
    fn exit(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let error = exception.get_item(1).ok().filter(|error| !error.is_none());
        let lost = match &error {
            Some(error) if replaces_cause(error) => self.failure(py)?,
            _ => None,
        };
        let compared = match &error {
            Some(error) if lost.is_none() && not_understood(error)? => self.compare_again(py, error),
            _ => Ok(()),
        };
        let closed = compared.and(self.close(py));
        lost.map_or(closed, |lost| Err(PyErr::from_value(lost)))
    }

    /// Raises if the bytes that a library could not understand are not those that are stored.
    fn compare_again(&self, py: Python<'_>, refused: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut state = self.state().lock(py, Self::NAME)?;
        let Content::Open(ranged) = &mut state.content else { return Ok(()) };
        let compared = ranged.get_mut(py, Self::NAME)?.compare_again(py, &self.address());
        match compared {
            Err(failure) if error::is_of_our_tree(py, &failure) && !error::is_integrity(py, &failure) => {
                let text = format!("whether the bytes that were read are right is not known: {}", failure.value(py));
                refused.call_method1("add_note", (text,)).map(drop)
            }
            compared => compared,
        }
    }

    /// The exception of an operation that a stream over an object does not have.
    fn unsupported<T>(&self, py: Python<'_>, operation: &str) -> PyResult<T> {
        self.check_usable(py)?;
        Err(UnsupportedOperation::new_err(match operation {
            "fileno" => "fileno: an object of OSS is not a file of the operating system".to_owned(),
            "detach" => format!("detach: this {} has no raw stream", Self::NAME),
            _ => format!("{operation}: this {} is open for reading only; open a writer", Self::NAME),
        }))
    }
}

/// Whether a library raises exceptions of this class in place of what a stream raised: torch's reader of its old format,
/// and the modules zipfile and tarfile, which take any `OSError` for the sign of another format.
#[pyfunction]
#[pyo3(signature = (error, /))]
pub(crate) fn replaces_cause(error: &Bound<'_, PyAny>) -> bool {
    let name = error.get_type().fully_qualified_name();
    let is_of = |names: &[&str]| name.is_ok_and(|name| names.iter().any(|one| name == *one));
    error.is_instance_of::<PySystemError>() || is_of(&["zipfile.BadZipFile", "tarfile.ReadError"])
}

/// Whether torch or pickle raised an exception because they did not understand what they read. By its class it may be
/// any, such as an `IndexError`; so the frames that it went through decide.
fn not_understood(error: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = error.py();
    if !error.is_instance_of::<PyException>() || error::is_of_our_tree(py, &PyErr::from_value(error.clone())) {
        return Ok(false);
    }
    if error.is_instance(&py.import("pickle")?.getattr("UnpicklingError")?)? {
        return Ok(true);
    }
    let mut traceback = error.getattr("__traceback__")?;
    while !traceback.is_none() {
        let module = traceback.getattr("tb_frame")?.getattr("f_globals")?.call_method1("get", ("__name__",))?;
        if module.extract::<&str>().is_ok_and(|module| module == "torch.serialization" || module == "pickle") {
            return Ok(true);
        }
        traceback = traceback.getattr("tb_next")?;
    }
    Ok(false)
}

/// Makes the Python methods of a class that implements [`ReadStream`]. The methods in the block are the class's own.
///
/// pyo3 allows one block of methods for each class, so a trait alone cannot add some.
macro_rules! read_stream_methods {
    (impl $class:ident { $($own:tt)* }) => {
        #[pymethods]
        impl $class {
            $($own)*

            #[getter]
            fn closed(&self, py: Python<'_>) -> PyResult<bool> {
                ReadStream::closed(self, py)
            }

            #[pyo3(signature = (count = -1))]
            fn read<'py>(&self, py: Python<'py>, count: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
                ReadStream::read(self, py, count)
            }

            #[pyo3(signature = (size = -1, /))]
            fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
                ReadStream::read1(self, py, size)
            }

            #[pyo3(signature = (buffer, /))]
            fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
                ReadStream::readinto(self, py, buffer)
            }

            #[getter]
            fn failure<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
                ReadStream::failure(self, py)
            }

            fn err(&self, py: Python<'_>) -> PyResult<i32> {
                ReadStream::err(self, py)
            }

            fn error_msg(&self, py: Python<'_>) -> PyResult<String> {
                ReadStream::error_msg(self, py)
            }

            #[pyo3(signature = (buffer, /))]
            fn readinto1(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
                ReadStream::readinto1(self, py, buffer)
            }

            #[pyo3(signature = (size = -1, /))]
            fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
                ReadStream::readline(self, py, size)
            }

            #[pyo3(signature = (hint = -1, /))]
            fn readlines<'py>(
                &self,
                py: Python<'py>,
                hint: Option<i64>,
            ) -> PyResult<Bound<'py, pyo3::types::PyList>> {
                ReadStream::readlines(self, py, hint)
            }

            #[pyo3(signature = (offset, whence = 0))]
            fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
                ReadStream::seek(self, py, offset, whence)
            }

            fn tell(&self, py: Python<'_>) -> PyResult<u64> {
                ReadStream::tell(self, py)
            }

            fn close(&self, py: Python<'_>) -> PyResult<()> {
                ReadStream::close(self, py)
            }

            fn flush(&self, py: Python<'_>) -> PyResult<()> {
                self.check_usable(py)
            }

            fn readable(&self, py: Python<'_>) -> PyResult<bool> {
                self.check_usable(py).map(|()| true)
            }

            fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
                self.check_usable(py).map(|()| true)
            }

            fn writable(&self, py: Python<'_>) -> PyResult<bool> {
                self.check_usable(py).map(|()| false)
            }

            fn isatty(&self, py: Python<'_>) -> PyResult<bool> {
                self.check_usable(py).map(|()| false)
            }

            #[getter]
            fn mode(&self) -> &'static str {
                "rb"
            }

            fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
                self.unsupported(py, "fileno")
            }

            fn detach(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
                self.unsupported(py, "detach")
            }

            #[pyo3(signature = (_data, /))]
            fn write(&self, py: Python<'_>, _data: &Bound<'_, PyAny>) -> PyResult<usize> {
                self.unsupported(py, "write")
            }

            #[pyo3(signature = (_lines, /))]
            fn writelines(&self, py: Python<'_>, _lines: &Bound<'_, PyAny>) -> PyResult<()> {
                self.unsupported(py, "writelines")
            }

            #[pyo3(signature = (_size = None, /))]
            fn truncate(&self, py: Python<'_>, _size: Option<i64>) -> PyResult<u64> {
                self.unsupported(py, "truncate")
            }

            fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
                slf.get().check_usable(slf.py())?;
                Ok(slf)
            }

            #[pyo3(signature = (*exception))]
            fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
                self.exit(py, exception)
            }

            fn __iter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
                Self::__enter__(slf)
            }

            fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
                self.next_line(py)
            }
        }
    };
}

pub(crate) use read_stream_methods;

/// What Python raises if it cannot make bytes of this length, as an error of this package. A server states the length.
fn without_memory(py: Python<'_>, raised: PyErr, length: usize) -> PyErr {
    let no_memory = raised.is_instance_of::<PyMemoryError>(py) || raised.is_instance_of::<PyOverflowError>(py);
    if no_memory { error::to_python(py, &too_large(length as u64)) } else { raised }
}
