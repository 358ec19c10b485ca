//! Python on threads that are not the interpreter's own.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};

/// Pause between two looks whether the threads have left, at the end of the interpreter.
const END_INTERVAL: Duration = Duration::from_millis(1);

/// A credential provider that retries after a timeout or two finishes within this time. One that never ends must not
/// keep the process.
const PATIENCE: Duration = Duration::from_secs(30);

/// Threads that are in Python, or about to ask whether they may enter.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

static CLOSED: AtomicBool = AtomicBool::new(false);

struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // A child that was forked in here begins to count again.
        let _ = INSIDE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
    }
}

/// Runs `action` attached to the interpreter; None once that has begun to end.
///
/// Before 3.14, an interpreter that ends unwinds every other thread that is in Python. An unwinding that did not begin
/// in Rust aborts the process when it meets Rust's frames. So the end of the interpreter waits for `action`.
pub(crate) fn visit<T>(action: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    let _inside = Inside::enter();
    if CLOSED.load(Ordering::SeqCst) { None } else { Python::try_attach(action) }
}

/// At its end, the interpreter lets none of our threads in.
pub(crate) fn watch_end(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.py().import("atexit")?.call_method1("register", (wrap_pyfunction!(close, module)?,))?;
    Ok(())
}

/// Admits no thread any more, and waits until all have left; Ctrl-C ends the waiting.
#[pyfunction]
fn close(py: Python<'_>) -> PyResult<()> {
    CLOSED.store(true, Ordering::SeqCst);
    let until = Instant::now() + PATIENCE;
    while INSIDE.load(Ordering::SeqCst) > 0 {
        py.detach(|| std::thread::sleep(END_INTERVAL));
        py.check_signals()?;
        if Instant::now() > until {
            let text = "a credential provider or a handler of the log has not returned for 30 seconds; the process that ends \
                        may abort in it";
            return Err(PyRuntimeError::new_err(text));
        }
    }
    Ok(())
}

/// The threads of the parent are not in this process.
pub(crate) fn forked() {
    INSIDE.store(0, Ordering::SeqCst);
}
