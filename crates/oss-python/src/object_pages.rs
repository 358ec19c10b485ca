//! The objects under a prefix page by page, with everything that a listing says of them, as a Python iterator.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use oss_client::{
    listing::{ListingOptions, detailed_pages},
    paginate::Pages,
};
use oss_protocol::xml::{
    list::ListObjectsV2Result,
    listed::{ListedObject, ListedObjects},
};
use pyo3::prelude::*;
use tokio::sync::mpsc;

use crate::{
    data_object::unquoted,
    error,
    process::{ForkLock, ProcessBound},
    reactor_client::ReactorClient,
    wait::block_on,
};

/// Key, size, ETag, Unix time, type and storage class of an object.
type Row = (String, u64, String, f64, String, String);

/// The pages of a listing, each asked for when Python wants it.
pub(crate) struct PageSource {
    reactor_client: Arc<ReactorClient>,
    /// Absent once the last page has been read. Shared with the task that asks for the next one, so that Ctrl-C loses
    /// nothing.
    pages: Option<ProcessBound<Arc<tokio::sync::Mutex<Pages>>>>,
}

impl PageSource {
    pub(crate) fn new(reactor_client: Arc<ReactorClient>, pages: Pages) -> Self {
        Self { reactor_client, pages: Some(ProcessBound::new(Arc::new(tokio::sync::Mutex::new(pages)))) }
    }

    /// The next page; `None` after the last.
    pub(crate) fn next(&mut self, py: Python<'_>) -> PyResult<Option<ListObjectsV2Result>> {
        let Some(pages) = &self.pages else { return Ok(None) };
        let pages = Arc::clone(pages.get(py, "listing")?);
        let reactor = self.reactor_client.reactor(py)?;
        match block_on(py, reactor, async move { pages.lock().await.next().await }) {
            Ok(Some(page)) => Ok(Some(page)),
            Ok(None) => {
                self.pages = None;
                Ok(None)
            }
            Err(raised) => {
                // A listing that failed has ended; one that a signal interrupted continues.
                if error::is_of_our_tree(py, &raised) {
                    self.pages = None;
                }
                Err(raised)
            }
        }
    }
}

/// Iterator over the pages of a listing.
#[pyclass(frozen, name = "ObjectPages", module = "osstorchconnector._native")]
pub(crate) struct PyObjectPages {
    source: ForkLock<Source>,
}

enum Source {
    /// One page after the other; keys may be rolled up.
    InTurn(PageSource),
    /// Several segments at once.
    AtOnce(
        Arc<ReactorClient>,
        ProcessBound<Arc<tokio::sync::Mutex<mpsc::Receiver<oss_client::Result<ListedObjects>>>>>,
    ),
}

impl PyObjectPages {
    pub(crate) fn in_turn(source: PageSource) -> Self {
        Self { source: ForkLock::new(Source::InTurn(source)) }
    }

    pub(crate) fn at_once(
        py: Python<'_>,
        reactor_client: &Arc<ReactorClient>,
        bucket: &str,
        prefix: &str,
        start_after: Option<String>,
    ) -> PyResult<Self> {
        let (client, reactor) = reactor_client.get(py)?;
        let _guard = reactor.handle.enter();
        let options = ListingOptions { start_after, parallel: true };
        let pages = Arc::new(tokio::sync::Mutex::new(detailed_pages(client, bucket, prefix, options)));
        Ok(Self { source: ForkLock::new(Source::AtOnce(Arc::clone(reactor_client), ProcessBound::new(pages))) })
    }
}

#[pymethods]
impl PyObjectPages {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<(Vec<Row>, Vec<String>)>> {
        match &mut *self.source.lock(py, "listing")? {
            Source::InTurn(source) => Ok(source.next(py)?.map(|page| {
                let rows = page.contents.into_iter().map(|object| {
                    let etag = unquoted(&object.etag);
                    (
                        object.key,
                        object.size,
                        etag,
                        unix(object.last_modified),
                        object.object_type,
                        object.storage_class,
                    )
                });
                (rows.collect(), page.common_prefixes)
            })),
            Source::AtOnce(reactor_client, pages) => {
                let pages = Arc::clone(pages.get(py, "listing")?);
                let reactor = reactor_client.reactor(py)?;
                let page = block_on(py, reactor, async move { pages.lock().await.recv().await.transpose() })?;
                Ok(page.map(|page| (rows_of(&page), Vec::new())))
            }
        }
    }
}

fn rows_of(page: &ListedObjects) -> Vec<Row> {
    let row = |(index, object): (usize, ListedObject<'_>)| {
        // A page of `detailed_pages` has them for each object.
        let details = page.details(index)?;
        let (object_type, storage_class) = (details.object_type.to_owned(), details.storage_class.to_owned());
        let modified = unix(details.last_modified);
        Some((object.key.to_owned(), object.size, unquoted(object.etag), modified, object_type, storage_class))
    };
    page.iter().enumerate().filter_map(row).collect()
}

fn unix(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
