//! CRC-64 for Python.

use oss_protocol::crc64::{Crc64, combine};
use pyo3::{buffer::PyUntypedBuffer, prelude::*};

use crate::buffer::bytes_of;

/// Below this many bytes, leaving the interpreter costs more than the checksum, which takes 2 µs for them.
const SMALL: usize = 16 << 10;

/// CRC-64/XZ of some bytes, or of more bytes after those whose checksum is `value`.
#[pyfunction]
#[pyo3(signature = (data, value = 0, /))]
pub(crate) fn crc64(py: Python<'_>, data: &Bound<'_, PyAny>, value: u64) -> PyResult<u64> {
    let buffer = PyUntypedBuffer::get(data)?;
    let bytes = bytes_of(&buffer)?;
    let mut checksum = Crc64::from_value(value);
    if bytes.len() < SMALL {
        checksum.update(bytes);
    } else {
        py.detach(|| checksum.update(bytes));
    }
    Ok(checksum.value())
}

/// CRC-64/XZ of two byte strings in a row, given that of each and the length of the second.
#[pyfunction]
#[pyo3(signature = (first, second, second_length, /))]
pub(crate) fn crc64_combine(first: u64, second: u64, second_length: u64) -> u64 {
    combine(first, second, second_length)
}
