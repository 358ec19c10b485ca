//! How far a writer is.

use std::sync::Arc;

use oss_client::upload::{Published, Upload};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{handled::Handled, process::ProcessBound, unfinished::Unfinished};

/// The state of a writer; locked.
pub(crate) struct State {
    pub(crate) progress: Progress,
    pub(crate) written: u64,
    /// Of its own `with` blocks, how many are open. The end of the outermost one decides about publishing.
    pub(crate) blocks: usize,
    /// Closed, but not published yet.
    pub(crate) ended: bool,
    /// What wrote to it was collected, and is about to close it.
    pub(crate) lost: bool,
    /// Exceptions that are no reason not to publish: they were being handled before it was opened or entered.
    pub(crate) handled: Handled,
}

pub(crate) enum Progress {
    Open(ProcessBound<Unfinished>),
    /// A write failed; the reason is raised again by every further use.
    Failed(PyErr),
    Published(Published),
    Aborted,
}

impl State {
    pub(crate) fn upload(&self, py: Python<'_>) -> PyResult<&Arc<tokio::sync::Mutex<Upload>>> {
        match &self.progress {
            Progress::Open(unfinished) => Ok(unfinished.get(py, "writer")?.upload()),
            Progress::Failed(error) => Err(error.clone_ref(py)),
            Progress::Published(_) | Progress::Aborted => Err(closed()),
        }
    }

    /// The upload, if more may be written to it.
    pub(crate) fn open(&self, py: Python<'_>) -> PyResult<&Arc<tokio::sync::Mutex<Upload>>> {
        if self.ended { Err(closed()) } else { self.upload(py) }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.progress, Progress::Published(_) | Progress::Aborted)
    }

    pub(crate) fn end(&mut self, progress: Progress) {
        self.progress = progress;
        // They may hold much memory, and the writer.
        self.handled = Handled::default();
    }
}

pub(crate) fn busy() -> PyErr {
    PyValueError::new_err("another thread is using this writer")
}

pub(crate) fn closed() -> PyErr {
    PyValueError::new_err("I/O operation on closed writer")
}
