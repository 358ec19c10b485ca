//! The objects under a prefix, described and not fetched, as a Python iterator.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use oss_client::{paginate::Pages, prefetch::Entry};
use pyo3::{prelude::*, sync::MutexExt};

use crate::{connection::Connection, data_object::DataObject, process::ProcessBound, wait::block_on};

/// Iterator over a listing, in key order; asks for a page when it has delivered the one before.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct ObjectListing {
    connection: Arc<Connection>,
    bucket: Arc<str>,
    state: Mutex<State>,
}

struct State {
    /// Absent once the last page has been read, or after an error.
    pages: Option<ProcessBound<Pages>>,
    ready: VecDeque<Entry>,
}

impl ObjectListing {
    pub(crate) fn new(connection: Arc<Connection>, bucket: &str, pages: Pages) -> Self {
        let state = State { pages: Some(ProcessBound::new(pages)), ready: VecDeque::new() };
        Self { connection, bucket: bucket.into(), state: Mutex::new(state) }
    }
}

#[pymethods]
impl ObjectListing {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<DataObject>> {
        let mut state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(entry) = state.ready.pop_front() {
                return Ok(Some(DataObject::described(entry, Some(Arc::clone(&self.connection)))));
            }
            let Some(mut pages) = state.pages.take() else { return Ok(None) };
            let (_, reactor) = self.connection.get(py)?;
            let mut inner = pages.take(py, "listing")?;
            let (inner, page) = block_on(py, reactor, async move {
                let page = inner.next().await?;
                Ok((inner, page))
            })?;
            let Some(page) = page else { return Ok(None) };
            state.pages = Some(ProcessBound::new(inner));
            state.ready.extend(page.contents.into_iter().map(|object| Entry {
                bucket: Arc::clone(&self.bucket),
                key: object.key.into(),
                size: Some(object.size),
                etag: Some(object.etag.into()),
                label: None,
            }));
        }
    }
}
