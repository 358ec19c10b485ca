//! Objects that Python code names while they are being read, such as the lines of a manifest.

use std::sync::{Arc, Mutex};

use oss_client::{
    Error, ErrorKind,
    prefetch::{Entry, Page},
    sync::lock,
};
use pyo3::{prelude::*, pybacked::PyBackedStr, types::PyList};
use tokio::sync::mpsc::Sender;

use crate::{process::ProcessBound, uri::parse_object};

/// What the feeding code raised, for the reader of the stream.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<PyErr>>>);

impl Failure {
    pub(crate) fn take(&self) -> Option<PyErr> {
        lock(&self.0).take()
    }
}

/// The end of a stream at which objects are named. Used by one thread; the stream is read by another.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct EntryFeed {
    /// Absent once the feed has ended.
    sender: Mutex<Option<ProcessBound<Sender<Page>>>>,
    position: Mutex<u64>,
    index: u64,
    count: u64,
    failure: Failure,
}

impl EntryFeed {
    pub(crate) fn new(sender: Sender<Page>, index: u64, count: u64) -> Self {
        let sender = Mutex::new(Some(ProcessBound::new(sender)));
        Self { sender, position: Mutex::new(0), index, count, failure: Failure::default() }
    }

    pub(crate) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// The entry that a pair of URI and label names; none where it is another share's.
    fn entry(&self, py: Python<'_>, pair: &Bound<'_, PyAny>) -> PyResult<Option<Entry>> {
        let (uri, label): (PyBackedStr, PyBackedStr) = pair.extract()?;
        let parsed = parse_object(py, &uri)?;
        let position = {
            let mut next = lock(&self.position);
            *next += 1;
            *next - 1
        };
        Ok((position % self.count == self.index).then(|| Entry {
            bucket: parsed.bucket.into(),
            key: parsed.key.into(),
            size: None,
            etag: None,
            label: Some(&*label).filter(|label| !label.is_empty()).map(Into::into),
        }))
    }

    /// Waits until the stream wants a page; false where nobody reads it any more.
    fn send(&self, py: Python<'_>, page: Page) -> PyResult<bool> {
        let sender = match &*lock(&self.sender) {
            Some(sender) => sender.get(py, "feed")?.clone(),
            None => return Ok(false),
        };
        Ok(py.detach(|| sender.blocking_send(page)).is_ok())
    }
}

#[pymethods]
impl EntryFeed {
    /// Names the next objects; those of other shares are left out. False where nobody reads the stream any more.
    fn put(&self, py: Python<'_>, labelled: &Bound<'_, PyList>) -> PyResult<bool> {
        let mut page = Vec::with_capacity(labelled.len());
        let mut named = Ok(());
        for pair in labelled {
            named = self.entry(py, &pair).map(|entry| page.extend(entry));
            if named.is_err() {
                break;
            }
        }
        // What was named before a mistake is read before the mistake is told.
        let wanted = self.send(py, Ok(page))?;
        named.map(|()| wanted)
    }

    /// Ends the stream after what has been named.
    fn finish(&self) {
        lock(&self.sender).take();
    }

    /// Ends the stream with an exception, which its reader raises after what has been named.
    fn fail(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        *lock(&self.failure.0) = Some(PyErr::from_value(error));
        let stopped = Error::new(ErrorKind::Cancelled("naming the objects failed".to_owned()));
        self.send(py, Err(stopped))?;
        self.finish();
        Ok(())
    }
}
