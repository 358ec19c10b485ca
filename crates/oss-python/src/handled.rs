//! Exceptions that this thread is handling: a `close` that runs because of one must not publish.

use std::ffi::CString;

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyBaseException, PyRuntimeWarning},
    prelude::*,
};

use crate::log::LOGGER;

/// `CO_GENERATOR`, `CO_COROUTINE` and `CO_ASYNC_GENERATOR` of Python's module `inspect`.
const GENERATORS: u32 = 0x20 | 0x80 | 0x200;

/// Some exceptions. It holds them, because another exception could be made at the address of a freed one.
#[derive(Default)]
pub(crate) struct Handled(Vec<Py<PyBaseException>>);

impl Handled {
    /// Those that this thread is handling.
    pub(crate) fn now(py: Python<'_>) -> PyResult<Self> {
        let mut found = Self::default();
        found.extend(py)?;
        Ok(found)
    }

    /// Adds those that this thread is handling: the one of the innermost `except`, `finally` or `with`, and by their
    /// contexts those of the outer ones.
    pub(crate) fn extend(&mut self, py: Python<'_>) -> PyResult<()> {
        let mut next = innermost(py)?;
        while let Some(exception) = next {
            if self.contains(&exception) {
                break;
            }
            next = exception.getattr("__context__")?.cast_into().ok();
            self.0.push(exception.unbind());
        }
        Ok(())
    }

    /// The exception that this thread is handling, if it is none of these: a reason not to publish.
    ///
    /// `depth` is given at the end of a `with` block that was left without an exception: the number of Python frames
    /// between the block and this function. In a generator or coroutine, an exception is then its caller's, which
    /// resumed it, and is no reason. But `contextlib` resumes a generator to close it because of an exception too.
    pub(crate) fn reason<'py>(
        &self,
        py: Python<'py>,
        depth: Option<usize>,
    ) -> PyResult<Option<Bound<'py, PyBaseException>>> {
        let reason = innermost(py)?.filter(|exception| !self.contains(exception));
        let (Some(_), Some(depth)) = (&reason, depth) else { return Ok(reason) };
        let frame = py.import("sys")?.call_method1("_getframe", (depth,))?;
        let flags: u32 = frame.getattr("f_code")?.getattr("co_flags")?.extract()?;
        if flags & GENERATORS == 0 {
            return Ok(reason);
        }
        let caller = frame.getattr("f_back")?;
        let is_unclear = !caller.is_none() && caller.getattr("f_globals")?.get_item("__name__")?.eq("contextlib")?;
        Ok(reason.filter(|_| is_unclear))
    }

    /// For the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|exception| visit.call(exception))
    }

    fn contains(&self, exception: &Bound<'_, PyBaseException>) -> bool {
        self.0.iter().any(|known| known.is(exception))
    }
}

fn innermost(py: Python<'_>) -> PyResult<Option<Bound<'_, PyBaseException>>> {
    // Not PyErr_GetHandledException, which is unsafe.
    Ok(py.import("sys")?.call_method0("exception")?.cast_into().ok())
}

/// Says that an object was not published: on the exception that is the reason, in the log, and as a warning.
///
/// If warnings are errors, that error does not replace the exception, which has the note.
pub(crate) fn tell_unpublished(py: Python<'_>, uri: &str, reason: Option<&Bound<'_, PyBaseException>>) -> PyResult<()> {
    // An object may end while an exception is pending, which must not be disturbed.
    let pending = PyErr::take(py);
    let told = match reason {
        Some(exception) => (|| {
            let class = exception.get_type().name()?;
            let text = format!(
                "{uri} is not published: close() ran while {class} was being handled, so the object may be a part. \
                 If it is whole, call writer.publish() instead"
            );
            exception.call_method1("add_note", (&text,))?;
            log(py, &text)?;
            warn(py, &text).or_else(
                |error| {
                    if error.is_instance_of::<PyRuntimeWarning>(py) { Ok(()) } else { Err(error) }
                },
            )
        })(),
        None => {
            let text = format!(
                "{uri} is not published: what wrote to its writer was collected without close(), so the object may be \
                 a part. Close it, or, if the object is whole, call writer.publish()"
            );
            log(py, &text).and_then(|()| warn(py, &text)).or_else(|error| {
                error.write_unraisable(py, None);
                Ok(())
            })
        }
    };
    if let Some(pending) = pending {
        pending.restore(py);
    }
    told
}

fn log(py: Python<'_>, text: &str) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", (LOGGER,))?;
    logger.call_method1("warning", ("%s", text)).map(drop)
}

fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &CString::new(text.replace('\0', "\\0"))?, 1)
}
