//! An object being read, as a Python binary stream.

use std::sync::Arc;

use oss_client::{
    catalogue::Entry,
    ops::head::ObjectMeta,
    reader::{ObjectReader, Wanted},
};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyBytes,
};

use crate::{
    buffer::{LentBuffer, are_disjoint},
    data_object::unquoted,
    process::{ForkLock, ProcessBound},
    ranged::{Ranged, ScatteredOptions},
    reactor_client::ReactorClient,
    stream_protocol::{Content, ReadStream, StreamState, read_stream_methods},
};

/// Reads one version of an object from any position. Threads may share it: calls run one after the other.
#[pyclass(frozen, weakref, name = "OssReader", module = "osstorchconnector._native")]
pub(crate) struct PyOssReader {
    uri: String,
    size: u64,
    etag: String,
    crc64: Option<u64>,
    state: ForkLock<StreamState>,
}

impl PyOssReader {
    pub(crate) fn new<'a>(
        py: Python<'_>,
        reactor_clients: impl IntoIterator<Item = &'a Arc<ReactorClient>>,
        bucket: &str,
        key: &str,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        let (size, etag, crc64) = (meta.size, unquoted(&meta.etag), meta.crc64);
        let ranged = Ranged::new(py, reactor_clients, &Entry::named(bucket, key), meta)?;
        let state = StreamState::new(Content::Open(ProcessBound::new(ranged)));
        Ok(Self { uri: format!("oss://{bucket}/{key}"), size, etag, crc64, state })
    }

    /// The version that it reads, with what was received of it.
    pub(crate) fn object(&self, py: Python<'_>) -> PyResult<ObjectReader> {
        self.with_content(py, |state, _| match &state.content {
            Content::Open(ranged) => Ok(ranged.get(py, "reader")?.object().clone()),
            _ => Err(Self::closed_error()),
        })
    }
}

impl ReadStream for PyOssReader {
    const NAME: &str = "reader";

    fn state(&self) -> &ForkLock<StreamState> {
        &self.state
    }

    fn address(&self) -> String {
        self.uri.clone()
    }

    fn open(&self, _py: Python<'_>, _state: &mut StreamState) -> PyResult<()> {
        Ok(())
    }
}

read_stream_methods! {
impl PyOssReader {
    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    #[getter]
    fn name(&self) -> &str {
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

    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// The same version with a position of its own.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let state = self.state.lock(py, "reader")?;
        let Content::Open(ranged) = &state.content else { return Err(Self::closed_error()) };
        let content = Content::Open(ProcessBound::new(ranged.get(py, "reader")?.reopened()));
        let state = StreamState::new(content);
        Ok(Self { uri: self.uri.clone(), size: self.size, etag: self.etag.clone(), crc64: self.crc64, state })
    }

    #[getter]
    fn etag(&self) -> &str {
        &self.etag
    }

    #[getter]
    fn crc64(&self) -> Option<u64> {
        self.crc64
    }

    #[pyo3(signature = (ranges, /, *, concurrent = false, verify = true))]
    fn readinto_many(
        &self,
        py: Python<'_>,
        ranges: Vec<(u64, Bound<'_, PyAny>)>,
        concurrent: bool,
        verify: bool,
    ) -> PyResult<()> {
        let mut buffers = Vec::with_capacity(ranges.len());
        for (start, object) in &ranges {
            let buffer = PyUntypedBuffer::get(object)?;
            let end = start.checked_add(buffer.len_bytes() as u64);
            if end.is_none_or(|end| end > self.size) {
                let end = start.saturating_add(buffer.len_bytes() as u64);
                let text = format!("invalid range {start}–{end} for {}: it has {} bytes", self.uri, self.size);
                return Err(PyValueError::new_err(text));
            }
            buffers.push((*start, buffer));
        }
        let wanted = |(start, buffer): &(u64, PyUntypedBuffer)| {
            Ok(Wanted { start: *start, target: LentBuffer::of_buffer(buffer)? })
        };
        let wanted = buffers.iter().map(wanted).collect::<PyResult<Vec<_>>>()?;
        if !are_disjoint(wanted.iter().map(|one| &one.target)) {
            return Err(PyValueError::new_err("two of the buffers share memory"));
        }
        let options = ScatteredOptions { concurrent, verify };
        // Received without the lock: the position stays, and other threads receive at the same time.
        let scattered = self.with_content(py, |state, _| match &state.content {
            Content::Open(ranged) => Ok(ranged.get(py, "reader")?.scattered(py, wanted, options)),
            _ => Err(Self::closed_error()),
        })?;
        scattered.receive(py)?;
        match &mut self.state.lock(py, "reader")?.content {
            Content::Open(ranged) if verify && concurrent => ranged.get_mut(py, "reader")?.verify(py),
            Content::Open(ranged) if verify => ranged.get_mut(py, "reader")?.check(py),
            // Another thread has closed it, and has compared the checksum.
            _ => Ok(()),
        }
    }

    fn received(&self, py: Python<'_>) -> PyResult<Vec<(u64, u64, u64)>> {
        self.with_content(py, |state, _| match &state.content {
            Content::Open(ranged) => {
                let received = ranged.get(py, "reader")?.received();
                Ok(received.into_iter().map(|(range, crc64)| (range.start, range.end, crc64)).collect())
            }
            _ => Err(Self::closed_error()),
        })
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
}
