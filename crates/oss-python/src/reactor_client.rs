//! One core client and the reactor that drives it, shared by all native objects that were made with them.

use oss_client::Client;
use pyo3::prelude::*;

use crate::{process::ProcessBound, runtime::Reactor};

/// The pair of a client and its reactor.
pub(crate) struct ReactorClient(ProcessBound<(Client, Reactor)>);

impl ReactorClient {
    pub(crate) fn new(client: Client, reactor: Reactor) -> Self {
        Self(ProcessBound::new((client, reactor)))
    }

    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<(&Client, &Reactor)> {
        self.0.get(py, "client").map(|(client, reactor)| (client, reactor))
    }
}
