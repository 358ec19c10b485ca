//! Locks that survive a fork.
//!
//! The standard library's locks are plain words. Others keep waiting threads in a table of the process, which a fork
//! may copy while a thread that does not exist in the child holds part of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a thread panicked while it held the lock: what is guarded here is valid after each statement.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
