//! What this process has counted, for Python.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use oss_client::metrics::{self, CAUSES, Counts, FIRST_BYTE_BOUNDS, OPERATIONS};
use pyo3::{prelude::*, types::PyDict};

use crate::runtime;

/// The counts of this process, as a dictionary.
#[pyfunction]
pub(crate) fn counts(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let levels = runtime::levels();
    let counts = Counts::so_far();
    let found = PyDict::new(py);
    for (name, labels, values) in [
        ("requests", OPERATIONS.as_slice(), counts.requests.as_slice()),
        ("retries", &CAUSES, &counts.retries),
        ("failures", &CAUSES, &counts.failures),
    ] {
        let named = PyDict::new(py);
        for (label, value) in labels.iter().zip(values) {
            named.set_item(label, value)?;
        }
        found.set_item(name, named)?;
    }
    let bounds: Vec<f64> = FIRST_BYTE_BOUNDS.iter().map(|&microseconds| microseconds as f64 / 1e6).collect();
    found.set_item("first_byte_bounds", bounds)?;
    found.set_item("first_byte_counts", counts.first_byte.to_vec())?;
    found.set_item("first_byte_seconds", counts.first_byte_microseconds as f64 / 1e6)?;
    found.set_item("waited_seconds", counts.waited_nanoseconds as f64 / 1e9)?;
    for (name, value) in [
        ("received_bytes", counts.received),
        ("verified_bytes", counts.compared),
        ("sent_bytes", counts.sent),
        ("connections_opened", counts.connections),
        ("listed_pages", counts.listed_pages),
        ("connections_open", levels.connections as u64),
        ("concurrency", levels.concurrency as u64),
        ("held_bytes", levels.held as u64),
    ] {
        found.set_item(name, value)?;
    }
    Ok(found)
}

/// How long a function of the program ran, apart from how long it waited for OSS meanwhile. One thread at a time uses it.
#[pyclass(frozen, module = "osstorchconnector._native")]
pub(crate) struct Stopwatch {
    /// Times are counted from here.
    origin: Instant,
    began: AtomicU64,
    waited_before: AtomicU64,
    ran: AtomicU64,
    waited: AtomicU64,
}

#[pymethods]
impl Stopwatch {
    #[new]
    fn new() -> Self {
        let [began, waited_before, ran, waited] = [const { AtomicU64::new(0) }; 4];
        Self { origin: Instant::now(), began, waited_before, ran, waited }
    }

    /// Begins to count.
    fn start(&self) {
        self.waited_before.store(metrics::waited_here(), Ordering::Relaxed);
        self.began.store(self.now(), Ordering::Relaxed);
    }

    /// Ends counting, until the next start.
    fn stop(&self) {
        let passed = self.now().saturating_sub(self.began.load(Ordering::Relaxed));
        let waited = metrics::waited_here().wrapping_sub(self.waited_before.load(Ordering::Relaxed)).min(passed);
        self.waited.fetch_add(waited, Ordering::Relaxed);
        self.ran.fetch_add(passed - waited, Ordering::Relaxed);
    }

    /// Nanoseconds between starts and stops, apart from waiting for OSS.
    #[getter]
    fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// Nanoseconds between starts and stops that the thread waited for OSS.
    #[getter]
    fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }
}

impl Stopwatch {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds that this thread has waited for OSS.
#[pyfunction]
pub(crate) fn waited_here() -> u64 {
    metrics::waited_here()
}
