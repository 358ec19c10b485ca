//! Ranges of one object, read into memory of Python by many threads at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use oss_client::{ops::head::ObjectMeta, prefetch::Entry, reader::ObjectReader};
use pyo3::{buffer::PyUntypedBuffer, exceptions::PyValueError, prelude::*};

use crate::{buffer::LentBuffer, connection::Connection, data_object::unquoted, process::ProcessBound, wait::block_on};

/// An object that is read by ranges, always the version that it was opened with.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct ObjectRanges {
    uri: String,
    meta: ObjectMeta,
    /// The object on each I/O thread.
    lanes: Vec<(Arc<Connection>, ProcessBound<ObjectReader>)>,
    next: AtomicUsize,
}

impl ObjectRanges {
    /// Asks for the object's size and ETag.
    pub(crate) fn open(py: Python<'_>, connections: &[Arc<Connection>], entry: &Entry) -> PyResult<Self> {
        let (client, reactor) = connections[0].get(py)?;
        let client = client.clone();
        let (bucket, key) = (entry.bucket.to_string(), entry.key.to_string());
        let meta = block_on(py, reactor, async move { client.head(&bucket, &key).await })?;
        let lanes = connections
            .iter()
            .map(|connection| {
                let reader = connection.reader(py, entry, meta.clone())?;
                Ok((Arc::clone(connection), ProcessBound::new(reader)))
            })
            .collect::<PyResult<_>>()?;
        Ok(Self { uri: format!("oss://{}/{}", entry.bucket, entry.key), meta, lanes, next: AtomicUsize::new(0) })
    }
}

#[pymethods]
impl ObjectRanges {
    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    #[getter]
    fn size(&self) -> u64 {
        self.meta.size
    }

    #[getter]
    fn etag(&self) -> String {
        unquoted(&self.meta.etag)
    }

    #[pyo3(signature = (start, buffer, /))]
    fn read_into(&self, py: Python<'_>, start: u64, buffer: &Bound<'_, PyAny>) -> PyResult<()> {
        let target = PyUntypedBuffer::get(buffer)?;
        let mut lent = LentBuffer::of_buffer(&target)?;
        let length = lent.len() as u64;
        if start.checked_add(length).is_none_or(|end| end > self.meta.size) {
            let message =
                format!("{:?} has {} bytes: {length} bytes from {start} on are not in it", self.uri, self.meta.size);
            return Err(PyValueError::new_err(message));
        }
        if length == 0 {
            return Ok(());
        }
        // Threads take turns on the I/O threads.
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let (connection, reader) = &self.lanes[turn];
        let (_, reactor) = connection.get(py)?;
        let reader = reader.get(py, "object")?.clone();
        block_on(py, reactor, async move { reader.read_at(start, lent.as_mut_slice()).await })?;
        Ok(())
    }
}
