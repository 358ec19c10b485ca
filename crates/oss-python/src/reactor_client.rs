//! One core client and the reactor that drives it, shared by all native objects that were made with them.

use oss_client::Client;
use pyo3::prelude::*;

use crate::{process::ProcessBound, runtime::Reactor, trace::traced};

/// The pair of a client and its reactor.
pub(crate) struct ReactorClient(ProcessBound<(Client, Reactor)>);

impl ReactorClient {
    pub(crate) fn new(client: Client, reactor: Reactor) -> Self {
        Self(ProcessBound::new((client, reactor)))
    }

    /// The client, which this thread's trace follows if it has one, and its reactor.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<(Client, &Reactor)> {
        self.0.get(py, "client").map(|(client, reactor)| (traced(client), reactor))
    }

    /// The reactor alone.
    pub(crate) fn reactor(&self, py: Python<'_>) -> PyResult<&Reactor> {
        self.0.get(py, "client").map(|(_, reactor)| reactor)
    }
}
