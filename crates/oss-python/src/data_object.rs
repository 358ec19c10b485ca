//! One object, as a readable binary stream.

use std::{sync::Arc, time::UNIX_EPOCH};

use oss_client::{
    buffer::PooledBuffer,
    catalogue::{Entry, Span},
    ops::head::ObjectMeta,
    prefetch::{Item, Outcome},
};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyBytes,
};

use crate::{
    buffer::bytes_of,
    error,
    process::{ForkLock, ProcessBound},
    ranged::Ranged,
    reactor_client::ReactorClient,
    stream_protocol::{Content, Failure, ReadStream, StreamState, read_stream_methods},
    uri::parse_object,
    wait::block_on,
};

/// An object of OSS: its name, its size, and its bytes as a stream.
#[pyclass(frozen, weakref, name = "DataObject", module = "osstorchconnector._native")]
pub(crate) struct PyDataObject {
    entry: Entry,
    state: ForkLock<StreamState>,
}

impl PyDataObject {
    /// An object that is known by name.
    pub(crate) fn described(entry: Entry, reactor_client: Option<Arc<ReactorClient>>) -> Self {
        let content = Content::Described(reactor_client);
        Self { entry, state: StreamState::new(content) }
    }

    /// The same object with a label.
    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.entry.label = Some(label).filter(|label| !label.is_empty()).map(Into::into);
        self
    }

    /// An object that could not be fetched. A read tries again.
    pub(crate) fn failed(entry: Entry, reactor_client: Arc<ReactorClient>, failure: Failure) -> Self {
        let state = StreamState::failed(Content::Described(Some(reactor_client)), Some(failure));
        Self { entry, state }
    }

    /// An object whose head has been read.
    pub(crate) fn opened(
        py: Python<'_>,
        mut entry: Entry,
        reactor_client: &Arc<ReactorClient>,
        meta: ObjectMeta,
    ) -> PyResult<Self> {
        entry.size = Some(meta.size);
        let ranged = Ranged::of_stream(py, reactor_client, &entry, meta)?;
        let content = Content::Open(ProcessBound::new(ranged));
        Ok(Self { entry, state: StreamState::new(content) })
    }

    /// An object that a stream delivered.
    pub(crate) fn from_item(py: Python<'_>, item: Item, reactor_client: &Arc<ReactorClient>) -> PyResult<Self> {
        let mut entry = item.entry;
        match item.outcome.map_err(|cause| error::to_python(py, &cause))? {
            Outcome::Fetched(meta, bytes) => {
                entry.size = Some(meta.size);
                Ok(Self::in_memory(entry, bytes, Some(meta.etag)))
            }
            Outcome::Large(Some(meta)) => Self::opened(py, entry, reactor_client, meta),
            Outcome::Large(None) => Ok(Self::described(entry, Some(Arc::clone(reactor_client)))),
        }
    }

    fn in_memory(entry: Entry, bytes: PooledBuffer, etag: Option<String>) -> Self {
        let content = Content::Bytes { bytes: Arc::new(bytes), etag };
        Self { entry, state: StreamState::new(content) }
    }
}

impl ReadStream for PyDataObject {
    const NAME: &str = "object";

    fn state(&self) -> &ForkLock<StreamState> {
        &self.state
    }

    fn address(&self) -> String {
        format!("oss://{}/{}", self.entry.bucket, self.entry.key)
    }

    fn open(&self, py: Python<'_>, state: &mut StreamState) -> PyResult<()> {
        let Content::Described(reactor_client) = &state.content else { return Ok(()) };
        let Some(reactor_client) = reactor_client.clone() else {
            let message = "this object is a description without a client; open its `uri` with OssClient.open";
            return Err(PyValueError::new_err(message));
        };
        let meta = match (&self.entry.span, self.entry.size, &self.entry.etag) {
            (Some(_), Some(size), Some(etag)) => ObjectMeta::of_span(size, &**etag),
            (span, size, _) => {
                let key = span.as_ref().map_or(&*self.entry.key, |span| &span.archive);
                let (bucket, key) = (self.entry.bucket.to_string(), key.to_owned());
                let (client, reactor) = reactor_client.get(py)?;
                let meta = block_on(py, reactor, async move { client.head(&bucket, &key).await })?;
                if span.is_some() { ObjectMeta::of_span(size.unwrap_or_default(), meta.etag) } else { meta }
            }
        };
        let ranged = Ranged::of_stream(py, &reactor_client, &self.entry, meta)?;
        state.content = Content::Open(ProcessBound::new(ranged));
        Ok(())
    }
}

read_stream_methods! {
impl PyDataObject {
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
        self.address()
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

    /// The same object with a position of its own; bytes in memory are shared.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let state = self.state.lock(py, "object")?;
        let content = match &state.content {
            Content::Bytes { bytes, etag } => Content::Bytes { bytes: Arc::clone(bytes), etag: etag.clone() },
            Content::Open(ranged) => {
                let ranged = ranged.get(py, "object")?.reopened();
                Content::Open(ProcessBound::new(ranged))
            }
            Content::Described(reactor_client) => Content::Described(reactor_client.clone()),
            Content::Closed => return Err(Self::closed_error()),
        };
        let failure = state.failure().map(|failure| failure.clone_ref(py));
        Ok(Self { entry: self.entry.clone(), state: StreamState::failed(content, failure) })
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
}

/// An ETag as the official SDKs show it.
pub(crate) fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

type Pickled<'py> = (String, Bound<'py, PyBytes>, Option<String>, String, Option<String>);

/// Describes an object without connecting to it.
#[pyfunction]
#[pyo3(signature = (key, size = 0, label = ""))]
pub(crate) fn new_data_object(py: Python<'_>, key: &str, size: i64, label: &str) -> PyResult<PyDataObject> {
    let mut entry = entry_of(py, key, label)?;
    entry.size = u64::try_from(size).ok();
    Ok(PyDataObject::described(entry, None))
}

/// An object with these bytes; unpickling a `DataObject` calls this.
#[pyfunction]
#[pyo3(signature = (uri, data, etag = None, label = "", archive = None))]
pub(crate) fn data_object_from_bytes(
    uri: &str,
    data: &Bound<'_, PyAny>,
    etag: Option<String>,
    label: &str,
    archive: Option<&str>,
) -> PyResult<PyDataObject> {
    let buffer =
        PyUntypedBuffer::get(data).map_err(|_| PyTypeError::new_err("the data of an object must be bytes-like"))?;
    let bytes = bytes_of(&buffer)?.to_vec();
    // Not checked against the rules of OSS: it may be a member of an archive, or a file of another machine.
    let (bucket, key) = uri.strip_prefix("oss://").and_then(|path| path.split_once('/')).unwrap_or((uri, ""));
    let entry = Entry {
        size: Some(bytes.len() as u64),
        label: Some(label).filter(|label| !label.is_empty()).map(Into::into),
        span: archive.map(|archive| Span { archive: archive.into(), offset: 0 }),
        ..Entry::named(bucket, key)
    };
    Ok(PyDataObject::in_memory(entry, PooledBuffer::detached(bytes), etag))
}

fn entry_of(py: Python<'_>, uri: &str, label: &str) -> PyResult<Entry> {
    let parsed = parse_object(py, uri)?;
    let label = Some(label).filter(|label| !label.is_empty()).map(Into::into);
    Ok(Entry { label, ..Entry::named(parsed.bucket, parsed.key) })
}
