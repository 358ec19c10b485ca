//! The objects under a prefix without their bytes, as a Python iterator.

use std::{collections::VecDeque, sync::Arc};

use oss_client::{catalogue::Entry, paginate::Pages};
use pyo3::prelude::*;

use crate::{data_object::PyDataObject, object_pages::PageSource, process::ForkLock, reactor_client::ReactorClient};

/// Iterator over a listing, in key order; asks for a page when it has delivered the one before.
#[pyclass(frozen, name = "ObjectListing", module = "osstorchconnector._native")]
pub(crate) struct PyObjectListing {
    reactor_client: Arc<ReactorClient>,
    bucket: Arc<str>,
    state: ForkLock<State>,
}

struct State {
    source: PageSource,
    ready: VecDeque<Entry>,
}

impl PyObjectListing {
    pub(crate) fn new(reactor_client: Arc<ReactorClient>, bucket: &str, pages: Pages) -> Self {
        let source = PageSource::new(Arc::clone(&reactor_client), pages);
        let state = State { source, ready: VecDeque::new() };
        Self { reactor_client, bucket: bucket.into(), state: ForkLock::new(state) }
    }
}

#[pymethods]
impl PyObjectListing {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyDataObject>> {
        let mut state = self.state.lock(py, "listing")?;
        loop {
            if let Some(entry) = state.ready.pop_front() {
                return Ok(Some(PyDataObject::described(entry, Some(Arc::clone(&self.reactor_client)))));
            }
            let Some(page) = state.source.next(py)? else { return Ok(None) };
            let first = state.ready.len();
            state.ready.extend(page.contents.into_iter().map(|object| Entry {
                bucket: Arc::clone(&self.bucket),
                key: object.key.into(),
                size: Some(object.size),
                etag: Some(object.etag.into()),
                label: None,
                span: None,
            }));
            if !page.common_prefixes.is_empty() {
                let named = |prefix: String| Entry { size: Some(0), ..Entry::named(&*self.bucket, prefix) };
                state.ready.extend(page.common_prefixes.into_iter().map(named));
                state.ready.make_contiguous()[first..].sort_by(|one, other| one.key.cmp(&other.key));
            }
        }
    }
}
