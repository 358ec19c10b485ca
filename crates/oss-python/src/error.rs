//! From the client's errors to the Python exception tree: the one place that maps them.

use std::io;

use http::StatusCode;
use oss_client::{Error, ErrorKind};
use oss_protocol::error_code::ErrorCode;
use pyo3::{
    exceptions::PyBaseException,
    prelude::*,
    types::{IntoPyDict, PyBytes, PyDict, PyType},
};

/// The same number on Linux and macOS.
const EIO: i32 = 5;

mod classes {
    pyo3::import_exception!(osstorchconnector.exceptions, OssError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssArchivedError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssConfigError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssConnectionError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssCredentialsError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssExistsError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssIntegrityError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssNotFoundError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssPermissionError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssThrottledError);
    pyo3::import_exception!(osstorchconnector.exceptions, OssTimeoutError);
}

/// The Python exception for an error of the client.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    match error.kind() {
        ErrorKind::Recorded(record) => recorded(py, record),
        _ => build(py, error).unwrap_or_else(|failure| failure),
    }
}

/// An exception written down for other processes: its text, and the exception itself if it pickles.
pub(crate) fn record(raised: &Bound<'_, PyAny>) -> Vec<u8> {
    let py = raised.py();
    let written = || -> PyResult<Vec<u8>> {
        let text: String = raised.get_type().name()?.extract::<String>()? + ": " + raised.str()?.to_str()?;
        let pickle = py.import("pickle")?;
        let pickled = pickle.call_method1("dumps", (raised,)).ok();
        pickle.call_method1("dumps", ((text, pickled),))?.extract()
    };
    written().unwrap_or_else(|failure| failure.to_string().into_bytes())
}

/// The exception that [`record`] wrote down.
fn recorded(py: Python<'_>, record: &[u8]) -> PyErr {
    let read = || -> PyResult<PyErr> {
        let pickle = py.import("pickle")?;
        let loads = |bytes: &[u8]| pickle.call_method1("loads", (PyBytes::new(py, bytes),));
        let (text, pickled): (String, Option<Vec<u8>>) = loads(record)?.extract()?;
        if let Some(pickled) = pickled
            && let Ok(exception) = loads(&pickled)
            && exception.is_instance_of::<PyBaseException>()
        {
            return Ok(PyErr::from_value(exception));
        }
        // Its class is not known in this process.
        Ok(PyErr::from_value(py.get_type::<classes::OssError>().call1((text,))?))
    };
    read().unwrap_or_else(|_| classes::OssError::new_err(String::from_utf8_lossy(record).into_owned()))
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    if let ErrorKind::Service { status, code, ec, request_id, .. } = error.kind() {
        fields.set_item("code", code.as_str())?;
        fields.set_item("status", status.as_u16())?;
        fields.set_item("ec", ec.as_deref())?;
        fields.set_item("request_id", request_id.as_deref())?;
    }
    fields.set_item("bucket", error.bucket())?;
    fields.set_item("key", error.key())?;
    // For these no request was sent.
    if !matches!(error.kind(), ErrorKind::Config(_) | ErrorKind::File(..) | ErrorKind::Listing(_)) {
        fields.set_item("attempts", error.attempts())?;
    }
    let mut message = match error.code() {
        Some(code) => format!("{}: {}", code.as_str(), error.message()),
        None => error.message(),
    };
    let same = error.to_string();
    let attempts = error.earlier_attempts();
    if let [.., last] = attempts {
        let count = attempts.len();
        // What was the same each time is said once.
        message = if attempts.iter().all(|earlier| *earlier == same) {
            format!("{message} (after {count} failed attempts, for the same reason)")
        } else {
            format!("{message} (after {count} failed attempts, the last one: {last})")
        };
    }
    if let Some(limit) = error.limit() {
        message = format!("{message}; {limit}");
    }
    let exception = class_of(py, error).call((message,), Some(&fields))?;
    for (number, earlier) in attempts.iter().enumerate().filter(|(_, earlier)| **earlier != same) {
        exception.call_method1("add_note", (format!("attempt {}: {earlier}", number + 1),))?;
    }
    for other in error.others() {
        exception.call_method1("add_note", (other,))?;
    }
    Ok(PyErr::from_value(exception))
}

fn class_of<'py>(py: Python<'py>, error: &Error) -> Bound<'py, PyType> {
    match error.kind() {
        ErrorKind::Service { status, .. } if error.is_throttle() && *status != StatusCode::FORBIDDEN => {
            py.get_type::<classes::OssThrottledError>()
        }
        ErrorKind::Service { code: ErrorCode::FileAlreadyExists, .. } => py.get_type::<classes::OssExistsError>(),
        ErrorKind::Service { code: ErrorCode::InvalidObjectState, .. } => py.get_type::<classes::OssArchivedError>(),
        ErrorKind::Service { code, .. } if code.is_damage() => py.get_type::<classes::OssIntegrityError>(),
        ErrorKind::Service { status, .. } => match *status {
            StatusCode::NOT_FOUND => py.get_type::<classes::OssNotFoundError>(),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => py.get_type::<classes::OssPermissionError>(),
            StatusCode::REQUEST_TIMEOUT => py.get_type::<classes::OssTimeoutError>(),
            _ => py.get_type::<classes::OssError>(),
        },
        ErrorKind::File(io::ErrorKind::NotFound, _) => py.get_type::<classes::OssNotFoundError>(),
        ErrorKind::File(io::ErrorKind::PermissionDenied, _) => py.get_type::<classes::OssPermissionError>(),
        ErrorKind::Connect(_) | ErrorKind::Untrusted(_) | ErrorKind::Proxy(_) | ErrorKind::Transport(_) => {
            py.get_type::<classes::OssConnectionError>()
        }
        ErrorKind::Timeout(_) => py.get_type::<classes::OssTimeoutError>(),
        ErrorKind::Integrity(_) | ErrorKind::Changed(_) => py.get_type::<classes::OssIntegrityError>(),
        ErrorKind::Credentials(_) => py.get_type::<classes::OssCredentialsError>(),
        ErrorKind::Config(_) => py.get_type::<classes::OssConfigError>(),
        _ => py.get_type::<classes::OssError>(),
    }
}

/// The number of an exception, as the operating system names it: `EIO` if its class has none.
pub(crate) fn number_of(exception: &Bound<'_, PyAny>) -> PyResult<i32> {
    let number = exception.getattr_opt("errno")?.and_then(|number| number.extract().ok());
    Ok(number.unwrap_or(EIO))
}

/// Raises the exception that is pending.
///
/// If `readinto` raises, `torch.load` calls `read` instead and does not look at the exception. To continue would
/// replace it by a `SystemError`, or lose a Ctrl-C.
pub(crate) fn raise_pending(py: Python<'_>) -> PyResult<()> {
    PyErr::take(py).map_or(Ok(()), Err)
}

/// Whether an exception is one of this package's, not a signal's.
pub(crate) fn is_of_our_tree(py: Python<'_>, raised: &PyErr) -> bool {
    raised.is_instance_of::<classes::OssError>(py)
}

/// Whether an exception says that bytes are wrong.
pub(crate) fn is_integrity(py: Python<'_>, raised: &PyErr) -> bool {
    raised.is_instance_of::<classes::OssIntegrityError>(py)
}

/// A URI or a setting that cannot be used.
pub(crate) fn config(py: Python<'_>, message: impl std::fmt::Display) -> PyErr {
    let error = Error::new(ErrorKind::Config(message.to_string()));
    match py.get_type::<classes::OssConfigError>().call((error.message(),), None) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// A native object met in a process that did not make it.
pub(crate) fn foreign_process(py: Python<'_>, what: &str, owner: u32) -> PyErr {
    let message = format!(
        "this {what} belongs to process {owner} and cannot be used in process {}; make a new one here",
        std::process::id()
    );
    let made = [("bucket", py.None())]
        .into_py_dict(py)
        .and_then(|fields| py.get_type::<classes::OssError>().call((message,), Some(&fields)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}
