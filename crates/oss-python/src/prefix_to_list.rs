//! A prefix to list, for Python.

use std::sync::Arc;

use oss_client::prefetch::PrefixToList;
use pyo3::prelude::*;

use crate::{error, visit::visit};

/// A prefix that the first process that needs its rows will list.
#[pyclass(frozen, get_all, name = "PrefixToList", module = "osstorchconnector._native")]
pub(crate) struct PyPrefixToList {
    bucket: String,
    prefix: String,
    directory_markers: bool,
}

#[pymethods]
impl PyPrefixToList {
    #[new]
    #[pyo3(signature = (bucket, prefix, *, directory_markers = false))]
    fn new(bucket: String, prefix: String, directory_markers: bool) -> Self {
        Self { bucket, prefix, directory_markers }
    }
}

impl PyPrefixToList {
    /// The same for the core, to be listed by `client`.
    pub(crate) fn with(&self, client: oss_client::Client) -> PrefixToList {
        PrefixToList {
            client,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            directory_markers: self.directory_markers,
            record: Arc::new(|cause| {
                let record = visit(|py| error::record(error::to_python(py, cause).value(py)));
                record.unwrap_or_else(|| cause.to_string().into_bytes())
            }),
        }
    }
}
