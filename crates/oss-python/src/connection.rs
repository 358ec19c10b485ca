//! One client on one I/O thread, shared by all native objects that were made with it.

use oss_client::Client;
use pyo3::prelude::*;

use crate::{process::ProcessBound, runtime::Reactor};

/// A client and the I/O thread that drives it.
pub(crate) struct Connection(ProcessBound<(Client, Reactor)>);

impl Connection {
    pub(crate) fn new(client: Client, reactor: Reactor) -> Self {
        Self(ProcessBound::new((client, reactor)))
    }

    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<(&Client, &Reactor)> {
        self.0.get(py, "connection").map(|(client, reactor)| (client, reactor))
    }
}
