//! What belongs to one process and must not act in another.

use std::{
    ops::{Deref, DerefMut},
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, sync::MutexExt, types::PyDict};

use crate::{error, visit};

/// The current process id, updated at each fork; 0 before it is known. Asking the kernel takes 0.15 µs, which was 6 %
/// of the time for a small object if each step of reading it asked.
static CURRENT: AtomicU32 = AtomicU32::new(0);

/// Registers a hook that runs after each fork.
pub(crate) fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    note_process();
    let hooks = PyDict::new(module.py());
    hooks.set_item("after_in_child", wrap_pyfunction!(note_process, module)?)?;
    module.py().import("os")?.call_method("register_at_fork", (), Some(&hooks))?;
    Ok(())
}

#[pyfunction]
fn note_process() {
    visit::forked();
    CURRENT.store(std::process::id(), Ordering::Relaxed);
}

/// The current process id, for calls from Python. After a fork, only hooks that were registered before ours run
/// earlier.
fn current() -> u32 {
    match CURRENT.load(Ordering::Relaxed) {
        0 => std::process::id(),
        process => process,
    }
}

/// A value that exists in the process that made it.
///
/// After a fork the child holds a copy of every native object. The sockets, threads and unfinished uploads of that copy
/// belong to the parent: using it raises, and dropping it forgets it.
pub(crate) struct ProcessBound<T> {
    process: u32,
    value: Option<T>,
}

impl<T> ProcessBound<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: current(), value: Some(value) }
    }

    /// The value, in the process that made it.
    pub(crate) fn get(&self, py: Python<'_>, what: &str) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.process == current() => Ok(value),
            _ => Err(error::foreign_process(py, what, self.process)),
        }
    }

    /// The value to change, in the process that made it.
    pub(crate) fn get_mut(&mut self, py: Python<'_>, what: &str) -> PyResult<&mut T> {
        match &mut self.value {
            Some(value) if self.process == current() => Ok(value),
            _ => Err(error::foreign_process(py, what, self.process)),
        }
    }

    /// Takes the value out, in the process that made it; in another one it is forgotten.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.is_here() { self.value.take() } else { None }
    }

    /// Whether this is the process that made the value. It asks the kernel, because a value may be dropped after a fork
    /// and before the hook runs.
    pub(crate) fn is_here(&self) -> bool {
        self.process == std::process::id()
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}

/// A lock that a fork may copy while another thread holds it. That thread does not exist in the child, so nothing would
/// ever unlock it there. So only the process that made the lock waits for it.
pub(crate) struct ForkLock<T> {
    process: u32,
    /// The thread that holds it, see [`this_thread`]; 0 if none does.
    holder: AtomicUsize,
    value: Mutex<T>,
}

/// A locked value.
pub(crate) struct ForkGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    holder: &'a AtomicUsize,
}

impl<T> Deref for ForkGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for ForkGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for ForkGuard<'_, T> {
    fn drop(&mut self) {
        self.holder.store(0, Ordering::Relaxed);
    }
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| ptr::from_ref(mark).addr())
}

impl<T> ForkLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: current(), holder: AtomicUsize::new(0), value: Mutex::new(value) }
    }

    /// Locks for the garbage collector, which must neither wait nor run Python.
    pub(crate) fn peek(&self) -> Option<MutexGuard<'_, T>> {
        self.value.try_lock().ok()
    }

    /// Locks, detached from the interpreter while another thread holds the lock.
    ///
    /// A signal's handler runs inside the call that it interrupts. If that call holds the lock, this raises instead of
    /// waiting, as in Python's own streams.
    pub(crate) fn lock(&self, py: Python<'_>, what: &str) -> PyResult<ForkGuard<'_, T>> {
        let thread = this_thread();
        if self.holder.load(Ordering::Relaxed) == thread {
            let text =
                format!("the call that was interrupted holds this {what}; let the signal's handler raise instead");
            return Err(PyRuntimeError::new_err(text));
        }
        let guard = if self.process == current() {
            self.value.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
        } else {
            match self.value.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(error::foreign_process(py, what, self.process)),
            }
        };
        self.holder.store(thread, Ordering::Relaxed);
        Ok(ForkGuard { guard, holder: &self.holder })
    }
}
