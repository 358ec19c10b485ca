//! `oss://bucket/key` for Python.

use oss_protocol::uri::{OssUri, UriError, validate_key, without_query};
use pyo3::prelude::*;

use crate::error;

/// Splits a URI into bucket and key, and checks both against the rules of OSS. The URI of a bucket has an empty key.
#[pyfunction]
pub(crate) fn parse_uri(py: Python<'_>, uri: &str) -> PyResult<(String, String)> {
    let parsed = parse(py, uri)?;
    Ok((parsed.bucket, parsed.key))
}

/// Parses the URI of an object, a prefix or a bucket.
pub(crate) fn parse(py: Python<'_>, uri: &str) -> PyResult<OssUri> {
    OssUri::parse(uri).map_err(|cause| refused(py, uri, &cause))
}

/// Parses the URI of an object.
pub(crate) fn parse_object(py: Python<'_>, uri: &str) -> PyResult<OssUri> {
    let parsed = parse(py, uri)?;
    validate_key(&parsed.key).map_err(|cause| refused(py, uri, &cause))?;
    Ok(parsed)
}

fn refused(py: Python<'_>, uri: &str, cause: &UriError) -> PyErr {
    match cause {
        // These name the part that is wrong, which may not be recognisable alone.
        UriError::Bucket { .. } | UriError::Key { .. } => {
            error::config(py, format!("{:?}: {cause}", without_query(uri)))
        }
        _ => error::config(py, cause),
    }
}
