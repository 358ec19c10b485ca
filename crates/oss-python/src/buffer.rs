//! Memory of Python objects, lent to the I/O threads.
//!
//! The only unsafe code of this crate. What makes it sound: a [`LentBuffer`] is made from a Python buffer that the
//! calling thread holds until the call that uses it returns, and [`crate::wait::block_on`] returns only when the task
//! that the memory was lent to has dropped it.

#![expect(unsafe_code, reason = "lending a Python buffer to another thread needs raw pointers")]

use pyo3::{buffer::PyUntypedBuffer, exceptions::PyBufferError, prelude::*};

/// A writable range of memory that another thread may fill while its lender waits.
#[derive(Debug)]
pub(crate) struct LentBuffer {
    start: *mut u8,
    length: usize,
}

// SAFETY: the memory is plain bytes, and only the task holding the `LentBuffer` accesses it while the lender waits.
unsafe impl Send for LentBuffer {}

impl LentBuffer {
    /// Lends a slice. The caller must not return before the task that uses it is gone, which `block_on` guarantees.
    pub(crate) fn of_slice(slice: &mut [u8]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len() }
    }

    /// Lends the memory of a writable, contiguous Python buffer that the caller holds.
    pub(crate) fn of_buffer(buffer: &PyUntypedBuffer) -> PyResult<Self> {
        if buffer.readonly() {
            return Err(PyBufferError::new_err("readinto needs a writable buffer, this one is read-only"));
        }
        let (start, length) = contiguous(buffer)?;
        Ok(Self { start, length })
    }

    /// The first `length` bytes of it, or all where it is shorter.
    pub(crate) fn shortened(self, length: usize) -> Self {
        Self { length: self.length.min(length), ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The memory.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.length == 0 {
            return &mut [];
        }
        // SAFETY: `start` points to `length` initialised bytes that stay valid while the lender waits (see the module's
        // argument); `&mut self` makes this the only slice of them handed out here. Python code of another thread may
        // write to the same memory, as with any `readinto`; bytes have no invalid values.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

/// Bytes of a Python object, borrowed while `buffer` is held and the interpreter is attached or the caller waits.
pub(crate) fn bytes_of(buffer: &PyUntypedBuffer) -> PyResult<&[u8]> {
    let (start, length) = contiguous(buffer)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: the exporter keeps `length` bytes at `start` valid until the buffer is released, which the borrow of
    // `buffer` prevents; bytes have no invalid values.
    Ok(unsafe { std::slice::from_raw_parts(start, length) })
}

/// Copies bytes into a writable Python buffer; returns how many fit.
pub(crate) fn copy_into(buffer: &PyUntypedBuffer, bytes: &[u8]) -> PyResult<usize> {
    let mut target = LentBuffer::of_buffer(buffer)?;
    let count = bytes.len().min(target.len());
    target.as_mut_slice()[..count].copy_from_slice(&bytes[..count]);
    Ok(count)
}

fn contiguous(buffer: &PyUntypedBuffer) -> PyResult<(*mut u8, usize)> {
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("the buffer is not contiguous; pass a contiguous copy"));
    }
    Ok((buffer.buf_ptr().cast(), buffer.len_bytes()))
}
