//! A look at pickles for Python.

use oss_protocol::pickle::problem_of;
use pyo3::prelude::*;

/// Why a pickle should not be unpickled, or `None`.
#[pyfunction]
#[pyo3(signature = (content, /))]
pub(crate) fn pickle_problem(py: Python<'_>, content: &[u8]) -> Option<String> {
    py.detach(|| problem_of(content))
}
