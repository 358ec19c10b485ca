//! CRC-64 for Python.

use oss_protocol::crc64::Crc64;
use pyo3::{buffer::PyUntypedBuffer, prelude::*};

use crate::buffer::bytes_of;

/// CRC-64/XZ of some bytes, or of more bytes behind those whose checksum is `value`.
#[pyfunction]
#[pyo3(signature = (data, value = 0, /))]
pub(crate) fn crc64(data: &Bound<'_, PyAny>, value: u64) -> PyResult<u64> {
    let buffer = PyUntypedBuffer::get(data)?;
    let mut checksum = Crc64::from_value(value);
    checksum.update(bytes_of(&buffer)?);
    Ok(checksum.value())
}
