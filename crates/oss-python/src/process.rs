//! What belongs to one process and must not act in another.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::{PyResult, Python, sync::MutexExt};

use crate::error;

/// A value that exists in the process that made it.
///
/// After a fork the child holds a copy of every native object. Sockets, threads and unfinished uploads behind that copy
/// are the parent's: using it raises, and dropping it forgets it.
pub(crate) struct ProcessBound<T> {
    process: u32,
    value: Option<T>,
}

impl<T> ProcessBound<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: Some(value) }
    }

    /// The value, in the process that made it.
    pub(crate) fn get(&self, py: Python<'_>, what: &str) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.process == std::process::id() => Ok(value),
            _ => Err(error::foreign_process(py, what, self.process)),
        }
    }

    /// The value to change, in the process that made it.
    pub(crate) fn get_mut(&mut self, py: Python<'_>, what: &str) -> PyResult<&mut T> {
        match &mut self.value {
            Some(value) if self.process == std::process::id() => Ok(value),
            _ => Err(error::foreign_process(py, what, self.process)),
        }
    }

    /// Whether this is the process that made the value.
    pub(crate) fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// The value in whatever process: for plain memory, which a fork copies whole.
    pub(crate) fn anywhere(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}

/// A lock that a fork may copy while another thread holds it. That thread does not exist in the child, so nobody would
/// ever unlock it there: in another process than its own it is not waited for.
pub(crate) struct ForkLock<T> {
    process: u32,
    value: Mutex<T>,
}

impl<T> ForkLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: Mutex::new(value) }
    }

    /// Locks, detached from the interpreter while another thread holds the lock.
    pub(crate) fn lock(&self, py: Python<'_>, what: &str) -> PyResult<MutexGuard<'_, T>> {
        if self.process == std::process::id() {
            return Ok(self.value.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner));
        }
        match self.value.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(error::foreign_process(py, what, self.process)),
        }
    }
}
