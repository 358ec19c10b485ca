//! What the core did for one span of the program, for Python.

use std::{cell::RefCell, sync::Arc, time::UNIX_EPOCH};

use oss_client::{
    Client,
    attempt::{self, Attempt},
};
use pyo3::{prelude::*, types::PyDict};

thread_local! {
    /// What this thread asks for is collected here.
    static CURRENT: RefCell<Option<Arc<attempt::Trace>>> = const { RefCell::new(None) };
}

/// The client, whose attempts are collected if this thread wants that.
pub(crate) fn traced(client: &Client) -> Client {
    CURRENT.with_borrow(|current| match current {
        Some(trace) => client.traced(Arc::clone(trace)),
        None => client.clone(),
    })
}

/// Collects the attempts of whatever is begun while it is the one of the thread, also those that end later.
#[pyclass(frozen, name = "Trace", module = "osstorchconnector._native")]
pub(crate) struct PyTrace(Arc<attempt::Trace>);

#[pymethods]
impl PyTrace {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// The attempts that have ended since the last call, and how many more there were.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyDict>>, usize)> {
        let (attempts, left_out) = self.0.take();
        let attempts = attempts.iter().map(|attempt| described(py, attempt)).collect::<PyResult<_>>()?;
        Ok((attempts, left_out))
    }
}

/// Makes a trace, or none, the one of this thread; returns the former one.
#[pyfunction]
pub(crate) fn swap_trace(trace: Option<&Bound<'_, PyTrace>>) -> Option<PyTrace> {
    let next = trace.map(|trace| Arc::clone(&trace.get().0));
    CURRENT.replace(next).map(PyTrace)
}

fn described<'py>(py: Python<'py>, attempt: &Attempt) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    let began = attempt.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    found.set_item("operation", attempt.operation)?;
    found.set_item("server", &*attempt.server)?;
    found.set_item("port", attempt.port)?;
    found.set_item("bucket", attempt.bucket.as_deref())?;
    found.set_item("key", attempt.key.as_deref())?;
    found.set_item("range", attempt.range.as_deref())?;
    found.set_item("began", began.as_nanos())?;
    found.set_item("first_byte", attempt.first_byte.as_nanos())?;
    found.set_item("total", attempt.total.as_nanos())?;
    found.set_item("status", attempt.status)?;
    found.set_item("request_id", attempt.request_id.as_deref())?;
    found.set_item("number", attempt.number)?;
    found.set_item("sent", attempt.sent)?;
    found.set_item("received", attempt.received)?;
    found.set_item("failure", attempt.failure.as_deref())?;
    found.set_item("cause", attempt.cause)?;
    Ok(found)
}
