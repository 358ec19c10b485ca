//! `oss://bucket/key` for Python.

use oss_protocol::uri::OssUri;
use pyo3::prelude::*;

use crate::error;

/// Splits a URI into bucket and key, and holds both against the rules of OSS. The key is empty for a bare bucket.
#[pyfunction]
pub(crate) fn parse_uri(py: Python<'_>, uri: &str) -> PyResult<(String, String)> {
    let parsed = OssUri::parse(uri).map_err(|cause| error::config(py, cause))?;
    Ok((parsed.bucket, parsed.key))
}
