//! Memory of Python objects, lent to the I/O threads.
//!
//! The only unsafe code of this crate. It is sound because a [`LentBuffer`] is made from a Python buffer that its lender
//! holds until the tasks that the memory was lent to have dropped it: the waits of [`crate::wait`] return only then, and a
//! range fetcher waits for its tasks before it lets go of a buffer. A [`Loan`] waits by itself until all copies of its bytes are dropped.

#![expect(unsafe_code, reason = "lending a Python buffer to another thread needs raw pointers")]

use std::{
    marker::PhantomData,
    ops::Range,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use bytes::Bytes;
use oss_client::{reader::Target, sync::lock};
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

    /// The first `length` bytes of it, or all if it is shorter.
    pub(crate) fn shortened(self, length: usize) -> Self {
        Self { length: self.length.min(length), ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Its addresses, to make their pages present while another thread has it.
    pub(crate) fn place(&self) -> Range<usize> {
        let start = self.start.addr();
        start..start + self.length
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

impl AsMut<[u8]> for LentBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl Target for LentBuffer {
    fn length(&self) -> usize {
        self.length
    }

    fn split_front(&mut self, length: usize) -> Self {
        let front = Self { start: self.start, length: self.length.min(length) };
        self.start = self.start.wrapping_add(front.length);
        self.length -= front.length;
        front
    }
}

/// Has the pages of memory present before they are written to, with what they hold. A call for many of them costs less
/// than as many faults, and another thread than the one that fills them can make it.
#[cfg(target_os = "linux")]
pub(crate) fn populate(place: &Range<usize>) {
    use rustix::{
        mm::{Advice, madvise},
        param::page_size,
    };

    let page = page_size();
    let (start, end) = (place.start.next_multiple_of(page), place.end / page * page);
    if start < end {
        // SAFETY: this advice changes no byte and takes no memory away, wherever it points.
        let populated =
            unsafe { madvise(std::ptr::with_exposed_provenance_mut(start), end - start, Advice::LinuxPopulateWrite) };
        // Linux before 5.14 does not know it; the pages then come one by one.
        let _ = populated;
    }
}

/// Only Linux can be asked to; the pages then come one by one.
#[cfg(not(target_os = "linux"))]
pub(crate) fn populate(_place: &Range<usize>) {}

/// Whether no two of these share memory. Tasks that fill them at the same time need that.
pub(crate) fn are_disjoint<'a>(buffers: impl IntoIterator<Item = &'a LentBuffer>) -> bool {
    let mut ranges: Vec<_> =
        buffers.into_iter().map(|buffer| (buffer.start.addr(), buffer.start.addr() + buffer.length)).collect();
    ranges.retain(|(start, end)| start < end);
    ranges.sort_unstable();
    ranges.is_sorted_by(|(_, end), (start, _)| end <= start)
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

/// Bytes that are lent to other threads, as [`Bytes`] that they may copy and divide.
pub(crate) struct Loan<'py, 'memory> {
    py: Python<'py>,
    bytes: Bytes,
    returned: Arc<Returned>,
    memory: PhantomData<&'memory [u8]>,
}

/// Whether all copies of lent bytes are dropped.
#[derive(Default)]
struct Returned {
    done: Mutex<bool>,
    changed: Condvar,
}

/// What all copies share.
struct Lent {
    start: *const u8,
    length: usize,
    returned: Arc<Returned>,
}

// SAFETY: the memory is plain bytes that are only read, and the `Loan` keeps it borrowed until this is dropped.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: made from a slice that stays borrowed until this is dropped. Python code of another thread may write to
        // the same memory, which a checksum notices; bytes have no invalid values.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *lock(&self.returned.done) = true;
        self.returned.changed.notify_all();
    }
}

impl<'py, 'memory> Loan<'py, 'memory> {
    /// Lends memory. Dropping the loan waits until all copies are dropped, so their holders must end soon.
    pub(crate) fn new(py: Python<'py>, memory: &'memory [u8]) -> Self {
        let returned = Arc::<Returned>::default();
        let lent = Lent { start: memory.as_ptr(), length: memory.len(), returned: Arc::clone(&returned) };
        Self { py, bytes: Bytes::from_owner(lent), returned, memory: PhantomData }
    }

    /// The lent bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Drop for Loan<'_, '_> {
    fn drop(&mut self) {
        self.bytes = Bytes::new();
        let returned = &self.returned;
        self.py.detach(|| {
            let mut done = lock(&returned.done);
            while !*done {
                done = returned.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
            }
        });
    }
}

fn contiguous(buffer: &PyUntypedBuffer) -> PyResult<(*mut u8, usize)> {
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("the buffer is not contiguous; pass a contiguous copy"));
    }
    Ok((buffer.buf_ptr().cast(), buffer.len_bytes()))
}
