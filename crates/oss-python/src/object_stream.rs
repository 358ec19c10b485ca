//! Objects ahead of their reader, as a Python iterator.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use oss_client::{
    catalogue::Entry,
    prefetch::{self, Delivery, Item, Queue, Sequence, Taken},
    sync::lock,
};
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::{
    data_object::PyDataObject,
    error,
    process::{ForkLock, ProcessBound},
    reactor_client::ReactorClient,
    wait::SIGNAL_INTERVAL,
};

/// Iterator over the objects of a sequence, in its order or as they arrive. An object's error is raised at its place; the
/// next call returns the next object.
#[pyclass(frozen, weakref, name = "ObjectStream", module = "osstorchconnector._native")]
pub(crate) struct PyObjectStream {
    reactor_client: Arc<ReactorClient>,
    running: ProcessBound<Running>,
    batch: ForkLock<Batch>,
    /// Why another thread ended it.
    failure: Mutex<Option<PyErr>>,
    /// The rows, if their file goes away when Python has no reference to them any more.
    _rows: Option<Py<PyAny>>,
}

/// The driver task and where it puts what it fetched. Dropping it stops the task.
struct Running {
    queue: Arc<Queue>,
    driver: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.abandon();
        self.driver.abort();
    }
}

/// Items taken from the queue and not handed to Python yet.
struct Batch {
    items: ProcessBound<VecDeque<Item>>,
    ended: bool,
    /// The object whose error was raised last, if it was an error of an object.
    failed: Option<Entry>,
}

impl PyObjectStream {
    /// Starts, within the `share`-th part of the budget; `rows` is kept alive as long as the stream is.
    pub(crate) fn start(
        py: Python<'_>,
        reactor_client: &Arc<ReactorClient>,
        sequence: Sequence,
        delivery: Delivery,
        share: usize,
        rows: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let (client, reactor) = reactor_client.get(py)?;
        let budget = client.config().prefetch_bytes / share;
        let (queue, driver) = prefetch::start(client.clone(), sequence, budget, delivery);
        let driver = reactor.handle.spawn(driver).abort_handle();
        Ok(Self {
            reactor_client: Arc::clone(reactor_client),
            running: ProcessBound::new(Running { queue, driver }),
            batch: ForkLock::new(Batch { items: ProcessBound::new(VecDeque::new()), ended: false, failed: None }),
            failure: Mutex::new(None),
            _rows: rows,
        })
    }

    /// The next object, or `None` at the end.
    pub(crate) fn next(&self, py: Python<'_>) -> PyResult<Option<PyDataObject>> {
        let running = self.running.get(py, "stream")?;
        let mut batch = self.batch.lock(py, "stream")?;
        loop {
            if batch.ended {
                return Ok(None);
            }
            if let Some(item) = batch.items.get_mut(py, "stream")?.pop_front() {
                batch.failed = item.outcome.is_err().then(|| item.entry.clone());
                return PyDataObject::from_item(py, item, &self.reactor_client).map(Some);
            }
            match py.detach(|| running.queue.take(SIGNAL_INTERVAL)) {
                Taken::Items(items) => *batch.items.get_mut(py, "stream")? = items,
                Taken::Nothing => py.check_signals()?,
                Taken::End(end) => {
                    batch.ended = true;
                    batch.failed = None;
                    if let Some(failure) = lock(&self.failure).take() {
                        return Err(failure);
                    }
                    end.map_err(|cause| error::to_python(py, &cause))?;
                }
            }
        }
    }
}

#[pymethods]
impl PyObjectStream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyDataObject>> {
        self.next(py)
    }

    /// Whether it was closed, or has ended.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        // Without the lock, which a reader that waits has.
        Ok(self.running.get(py, "stream")?.queue.is_over())
    }

    /// The object whose error was raised last, unfetched.
    #[getter]
    fn failed(&self, py: Python<'_>) -> PyResult<Option<PyDataObject>> {
        let failed = self.batch.lock(py, "stream")?.failed.clone();
        Ok(failed.map(|entry| PyDataObject::described(entry, Some(Arc::clone(&self.reactor_client)))))
    }

    /// Ends it with an exception, which its reader raises.
    fn fail(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let running = self.running.get(py, "stream")?;
        *lock(&self.failure) = Some(PyErr::from_value(error));
        running.queue.abandon();
        running.driver.abort();
        Ok(())
    }

    /// Stops fetching and frees what was fetched ahead.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.running.get(py, "stream")?;
        // First, so that a thread that waits for the next object stops waiting and gives the batch free.
        running.queue.abandon();
        running.driver.abort();
        let mut batch = self.batch.lock(py, "stream")?;
        batch.ended = true;
        batch.items.get_mut(py, "stream")?.clear();
        Ok(())
    }
}
