//! The task that lists into a listing file.

use oss_client::prefetch::Sequence;
use pyo3::prelude::*;
use tokio::task::JoinHandle;

use crate::{error, runtime::Reactor};

/// Lists if no other process does. Dropping the task stops it.
pub(crate) struct ListingTask {
    reactor: Reactor,
    task: Option<JoinHandle<oss_client::Result<()>>>,
}

impl ListingTask {
    pub(crate) fn start(reactor: &Reactor, sequence: Sequence) -> Self {
        Self { reactor: reactor.clone(), task: Some(reactor.handle.spawn(sequence.complete())) }
    }

    /// Raises the error that kept the task from listing. Errors of the listing itself are recorded in the file.
    pub(crate) fn check(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.task.take_if(|task| task.is_finished()).map(|task| self.reactor.handle.block_on(task)) {
            Some(Ok(Err(cause))) => Err(error::to_python(py, &cause)),
            _ => Ok(()),
        }
    }
}

impl Drop for ListingTask {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
