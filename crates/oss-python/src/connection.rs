//! One client on one I/O thread, shared by all native objects that were made with it.

use oss_client::{Client, ops::head::ObjectMeta, prefetch::Entry, reader::ObjectReader};
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

    /// A reader of an object whose description is known.
    pub(crate) fn reader(&self, py: Python<'_>, entry: &Entry, meta: ObjectMeta) -> PyResult<ObjectReader> {
        let (client, _) = self.get(py)?;
        Ok(ObjectReader::of_entry(vec![client.clone()], entry, meta))
    }
}
