//! Prefetched objects, as a Python iterator.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use oss_client::{
    catalogue::Entry,
    prefetch::{self, DeliveryOrder, Item, Queue, Sequence, Taken},
    sync::lock,
};
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::{
    data_object::PyDataObject,
    error,
    process::{ForkLock, ProcessBound},
    reactor_client::ReactorClient,
    stream_protocol::Failure,
    wait::SIGNAL_INTERVAL,
};

/// Iterator over the objects of a sequence, in its order or as they arrive. If an object fails, its error is
/// raised; the next call returns the next object.
#[pyclass(frozen, weakref, name = "ObjectStream", module = "osstorchconnector._native")]
pub(crate) struct PyObjectStream {
    reactor_client: Arc<ReactorClient>,
    running: ProcessBound<Running>,
    batch: ForkLock<Batch>,
    /// The exception with which another thread ended it.
    failure: Mutex<Option<PyErr>>,
    /// The rows, if their file goes away when Python has no reference to them any more.
    _rows: Option<Py<PyAny>>,
}

/// The driver task, and the queue that it fills. Dropping it stops the task.
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
    failed: Option<(Entry, Failure)>,
}

impl PyObjectStream {
    /// Starts, within the `share`-th part of the budget; `rows` is kept alive as long as the stream is.
    pub(crate) fn start(
        py: Python<'_>,
        reactor_client: &Arc<ReactorClient>,
        sequence: Sequence,
        delivery: DeliveryOrder,
        share: usize,
        rows: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let (client, reactor) = reactor_client.get(py)?;
        let budget = client.config().prefetch_bytes / share;
        let (queue, driver) = prefetch::start(client, sequence, budget, delivery);
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
                let entry = item.outcome.is_err().then(|| item.entry.clone());
                let delivered = PyDataObject::from_item(py, item, &self.reactor_client);
                batch.failed = entry.zip(delivered.as_ref().err().map(|error| Failure::of(py, error)));
                return delivered.map(Some);
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

    /// Nanoseconds that its readers have waited for objects that had not arrived.
    #[getter]
    fn waited(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(u64::try_from(self.running.get(py, "stream")?.queue.waited().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The object whose error was raised last, without its bytes.
    #[getter]
    fn failed(&self, py: Python<'_>) -> PyResult<Option<PyDataObject>> {
        let batch = self.batch.lock(py, "stream")?;
        Ok(batch.failed.as_ref().map(|(entry, failure)| {
            PyDataObject::failed(entry.clone(), Arc::clone(&self.reactor_client), failure.clone_ref(py))
        }))
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
        // First, so that a thread that waits for the next object stops waiting and frees the batch.
        running.queue.abandon();
        running.driver.abort();
        let mut batch = self.batch.lock(py, "stream")?;
        batch.ended = true;
        batch.items.get_mut(py, "stream")?.clear();
        Ok(())
    }
}
