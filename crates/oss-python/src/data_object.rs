//! One object, as a readable binary stream.

use std::{sync::Arc, time::UNIX_EPOCH};

use oss_client::{
    buffer::PooledBuffer,
    catalogue::{Entry, Span},
    error::too_large,
    ops::head::ObjectMeta,
    prefetch::{Item, Outcome},
};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList},
};

use crate::{
    buffer::{LentBuffer, bytes_of, copy_into},
    connection::Connection,
    error,
    process::{ForkLock, ProcessBound},
    ranged::{Ranged, line_length},
    uri::parse_object,
    wait::block_on,
};

/// An object of OSS: its name, its size, and its bytes as a stream.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct DataObject {
    entry: Entry,
    state: ForkLock<State>,
}

struct State {
    content: Content,
    position: u64,
}

enum Content {
    /// In memory.
    Bytes {
        bytes: Arc<PooledBuffer>,
        etag: Option<String>,
    },
    /// Known by name; opened at the first use that needs more.
    Described(Option<Arc<Connection>>),
    /// Read by ranges.
    Open(ProcessBound<Ranged>),
    Closed,
}

impl DataObject {
    /// An object that is known by name.
    pub(crate) fn described(entry: Entry, connection: Option<Arc<Connection>>) -> Self {
        let content = Content::Described(connection);
        Self { entry, state: ForkLock::new(State { content, position: 0 }) }
    }

    /// An object whose head has been read.
    pub(crate) fn opened(
        py: Python<'_>,
        mut entry: Entry,
        connection: &Arc<Connection>,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        entry.size = Some(meta.size);
        let ranged = Ranged::of_stream(py, connection, &entry, meta)?;
        let content = Content::Open(ProcessBound::new(ranged));
        Ok(Self { entry, state: ForkLock::new(State { content, position: 0 }) })
    }

    /// What a stream delivered.
    pub(crate) fn from_item(py: Python<'_>, item: Item, connection: &Arc<Connection>) -> PyResult<Self> {
        let mut entry = item.entry;
        match item.outcome.map_err(|cause| error::to_python(py, &cause))? {
            Outcome::Fetched(meta, bytes) => {
                entry.size = Some(meta.size);
                Ok(Self::in_memory(entry, bytes, Some(meta.etag)))
            }
            Outcome::Large(Some(meta)) => Self::opened(py, entry, connection, meta),
            Outcome::Large(None) => Ok(Self::described(entry, Some(Arc::clone(connection)))),
        }
    }

    fn in_memory(entry: Entry, bytes: PooledBuffer, etag: Option<String>) -> Self {
        let content = Content::Bytes { bytes: Arc::new(bytes), etag };
        Self { entry, state: ForkLock::new(State { content, position: 0 }) }
    }

    /// Runs `action` on the content, opened if it was not.
    fn with_content<T>(&self, py: Python<'_>, action: impl FnOnce(&mut State, u64) -> PyResult<T>) -> PyResult<T> {
        let mut state = self.state.lock(py, "object")?;
        self.open(py, &mut state)?;
        let size = match &state.content {
            Content::Bytes { bytes, .. } => bytes.len() as u64,
            Content::Open(ranged) => ranged.get(py, "object")?.meta().size,
            Content::Closed | Content::Described(_) => {
                return Err(PyValueError::new_err("I/O operation on closed object"));
            }
        };
        action(&mut state, size)
    }

    fn open(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        let Content::Described(connection) = &state.content else { return Ok(()) };
        let Some(connection) = connection.clone() else {
            let message = "this object is a description without a connection; open its `uri` with OssClient.open";
            return Err(PyValueError::new_err(message));
        };
        let meta = match (&self.entry.span, self.entry.size, &self.entry.etag) {
            (Some(_), Some(size), Some(etag)) => ObjectMeta::of_part(size, &**etag),
            (span, size, _) => {
                let key = span.as_ref().map_or(&*self.entry.key, |span| &span.archive);
                let (bucket, key) = (self.entry.bucket.to_string(), key.to_owned());
                let (client, reactor) = connection.get(py)?;
                let client = client.clone();
                let meta = block_on(py, reactor, async move { client.head(&bucket, &key).await })?;
                if span.is_some() { ObjectMeta::of_part(size.unwrap_or_default(), meta.etag) } else { meta }
            }
        };
        let ranged = Ranged::of_stream(py, &connection, &self.entry, meta)?;
        state.content = Content::Open(ProcessBound::new(ranged));
        Ok(())
    }

    /// Bytes from the current position up to `end` (exclusive, within the object), which becomes the position.
    fn read_to<'py>(py: Python<'py>, state: &mut State, end: u64) -> PyResult<Bound<'py, PyBytes>> {
        let start = state.position;
        let length = end.saturating_sub(start);
        // Python's sizes are signed.
        let length = isize::try_from(length).map_err(|_| error::to_python(py, &too_large(length)))?.unsigned_abs();
        let bytes = match &mut state.content {
            Content::Bytes { bytes, .. } => {
                PyBytes::new(py, bytes.get(start as usize..start as usize + length).unwrap_or_default())
            }
            Content::Open(ranged) => {
                let ranged = ranged.get_mut(py, "object")?;
                PyBytes::new_with(py, length, |target| {
                    ranged.read(py, start, LentBuffer::of_slice(target)).map(|_| ())
                })?
            }
            Content::Described(_) | Content::Closed => PyBytes::new(py, &[]),
        };
        state.position = start.max(end);
        Ok(bytes)
    }
}

#[pymethods]
impl DataObject {
    #[getter]
    fn key(&self) -> String {
        format!("/{}/{}", self.entry.bucket, self.entry.key)
    }

    #[getter]
    fn bucket(&self) -> &str {
        &self.entry.bucket
    }

    #[getter]
    fn name(&self) -> &str {
        let archive = self.entry.span.as_ref().map(|span| &*span.archive);
        let member = archive.and_then(|archive| self.entry.key.strip_prefix(archive)?.strip_prefix('/'));
        member.unwrap_or(&self.entry.key)
    }

    #[getter]
    fn uri(&self) -> String {
        format!("oss://{}/{}", self.entry.bucket, self.entry.key)
    }

    #[getter]
    fn label(&self) -> &str {
        self.entry.label.as_deref().unwrap_or_default()
    }

    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        match self.entry.size {
            Some(size) => Ok(size),
            None => self.with_content(py, |_, size| Ok(size)),
        }
    }

    #[getter]
    fn etag(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let state = self.state.lock(py, "object")?;
        let etag = match &state.content {
            Content::Bytes { etag, .. } => etag.as_deref(),
            Content::Open(ranged) => Some(ranged.get(py, "object")?.meta().etag.as_str()),
            Content::Described(_) | Content::Closed => self.entry.etag.as_deref(),
        };
        Ok(etag.map(unquoted))
    }

    #[getter]
    fn last_modified(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let state = self.state.lock(py, "object")?;
        let Content::Open(ranged) = &state.content else { return Ok(None) };
        let since = ranged.get(py, "object")?.meta().last_modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(since.map(|since| since.as_secs_f64()))
    }

    #[getter]
    fn crc64(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let state = self.state.lock(py, "object")?;
        Ok(match &state.content {
            Content::Open(ranged) => ranged.get(py, "object")?.meta().crc64,
            _ => None,
        })
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state.lock(py, "object")?;
        Ok(matches!(state.content, Content::Closed))
    }

    #[pyo3(signature = (size = -1, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        error::raise_pending(py)?;
        self.with_content(py, |state, total| {
            let end = match size.and_then(|size| u64::try_from(size).ok()) {
                Some(size) => state.position.saturating_add(size).min(total),
                None => total,
            };
            Self::read_to(py, state, end)
        })
    }

    #[pyo3(signature = (size = -1, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.read(py, size)
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let target = PyUntypedBuffer::get(buffer)?;
        self.with_content(py, |state, total| {
            let start = state.position;
            let count = match &mut state.content {
                Content::Bytes { bytes, .. } => copy_into(&target, bytes.get(start as usize..).unwrap_or_default())?,
                Content::Open(ranged) => {
                    let available = total.saturating_sub(start);
                    let lent =
                        LentBuffer::of_buffer(&target)?.shortened(usize::try_from(available).unwrap_or(usize::MAX));
                    ranged.get_mut(py, "object")?.read(py, start, lent)?
                }
                Content::Described(_) | Content::Closed => 0,
            };
            state.position += count as u64;
            Ok(count)
        })
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto1(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.readinto(py, buffer)
    }

    #[pyo3(signature = (size = -1, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        self.with_content(py, |state, total| {
            let start = state.position;
            let end = match &mut state.content {
                Content::Bytes { bytes, .. } => {
                    let rest = bytes.get(start as usize..).unwrap_or_default();
                    start + line_length(&rest[..rest.len().min(limit)]) as u64
                }
                Content::Open(ranged) => ranged.get_mut(py, "object")?.end_of_line(py, start, total, limit)?,
                Content::Described(_) | Content::Closed => start,
            };
            Self::read_to(py, state, end)
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
        self.with_content(py, |state, total| {
            let base = match whence {
                0 => 0,
                1 => state.position,
                2 => total,
                other => {
                    return Err(PyValueError::new_err(format!("invalid whence ({other}, should be 0, 1 or 2)")));
                }
            };
            let target = i128::from(base) + i128::from(offset);
            if target < 0 && whence == 0 {
                return Err(PyValueError::new_err(format!("negative seek value {offset}")));
            }
            state.position = u64::try_from(target.max(0)).unwrap_or(u64::MAX);
            Ok(state.position)
        })
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let state = self.state.lock(py, "object")?;
        match state.content {
            Content::Closed => Err(PyValueError::new_err("I/O operation on closed object")),
            _ => Ok(state.position),
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let content = std::mem::replace(&mut self.state.lock(py, "object")?.content, Content::Closed);
        match content {
            Content::Open(mut ranged) => ranged.take().map_or(Ok(()), |ranged| ranged.close(py)),
            Content::Bytes { .. } | Content::Described(_) | Content::Closed => Ok(()),
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

    /// The same object with a position of its own; bytes in memory are shared.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let state = self.state.lock(py, "object")?;
        let content = match &state.content {
            Content::Bytes { bytes, etag } => Content::Bytes { bytes: Arc::clone(bytes), etag: etag.clone() },
            Content::Open(ranged) => {
                let ranged = ranged.get(py, "object")?.anew();
                Content::Open(ProcessBound::new(ranged))
            }
            Content::Described(connection) => Content::Described(connection.clone()),
            Content::Closed => return Err(PyValueError::new_err("I/O operation on closed object")),
        };
        Ok(Self { entry: self.entry.clone(), state: ForkLock::new(State { content, position: 0 }) })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.readline(py, None)?;
        Ok(if line.len()? == 0 { None } else { Some(line) })
    }

    fn __repr__(&self) -> String {
        let size = self.entry.size.map_or("unknown".to_owned(), |size| size.to_string());
        format!("DataObject(uri='oss://{}/{}', size={size})", self.entry.bucket, self.entry.key)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Pickled<'py>)> {
        let rebuild = py.import("osstorchconnector._native")?.getattr("data_object_from_bytes")?;
        let etag = self.etag(py)?;
        let bytes = self.with_content(py, |state, total| {
            let position = std::mem::replace(&mut state.position, 0);
            let bytes = Self::read_to(py, state, total);
            state.position = position;
            bytes
        })?;
        let archive = self.entry.span.as_ref().map(|span| span.archive.to_string());
        Ok((rebuild, (self.uri(), bytes, etag, self.label().to_owned(), archive)))
    }
}

/// An ETag as the official SDKs show it.
pub(crate) fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

type Pickled<'py> = (String, Bound<'py, PyBytes>, Option<String>, String, Option<String>);

/// Describes an object without connecting to it.
#[pyfunction]
#[pyo3(signature = (key, size, label = ""))]
pub(crate) fn new_data_object(py: Python<'_>, key: &str, size: i64, label: &str) -> PyResult<DataObject> {
    let mut entry = entry_of(py, key, label)?;
    entry.size = u64::try_from(size).ok();
    Ok(DataObject::described(entry, None))
}

/// An object whose bytes are known; what unpickling a `DataObject` calls.
#[pyfunction]
#[pyo3(signature = (uri, data, etag = None, label = "", archive = None))]
pub(crate) fn data_object_from_bytes(
    uri: &str,
    data: &Bound<'_, PyAny>,
    etag: Option<String>,
    label: &str,
    archive: Option<&str>,
) -> PyResult<DataObject> {
    let buffer =
        PyUntypedBuffer::get(data).map_err(|_| PyTypeError::new_err("the data of an object must be bytes-like"))?;
    let bytes = bytes_of(&buffer)?.to_vec();
    // Not held against the rules of OSS: it may be a member of an archive, or a file of another machine.
    let (bucket, key) = uri.strip_prefix("oss://").and_then(|path| path.split_once('/')).unwrap_or((uri, ""));
    let entry = Entry {
        size: Some(bytes.len() as u64),
        label: Some(label).filter(|label| !label.is_empty()).map(Into::into),
        span: archive.map(|archive| Span { archive: archive.into(), offset: 0 }),
        ..Entry::named(bucket, key)
    };
    Ok(DataObject::in_memory(entry, PooledBuffer::detached(bytes), etag))
}

fn entry_of(py: Python<'_>, uri: &str, label: &str) -> PyResult<Entry> {
    let parsed = parse_object(py, uri)?;
    let label = Some(label).filter(|label| !label.is_empty()).map(Into::into);
    Ok(Entry { label, ..Entry::named(parsed.bucket, parsed.key) })
}
