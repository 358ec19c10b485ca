//! Uploads that are neither published nor aborted yet, also at the end of the interpreter.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use oss_client::{
    sync::lock,
    upload::{GivingUp, Upload},
};
use pyo3::{exceptions::PyResourceWarning, prelude::*};

use crate::runtime::Reactor;

/// An upload that is aborted when it is dropped. The lock is free whenever no operation runs on the I/O thread.
pub(crate) struct Unfinished {
    upload: Arc<tokio::sync::Mutex<Upload>>,
    reactor: Reactor,
}

impl Unfinished {
    /// Holds an upload for the writer of `uri`; `warned` says whether its warning was emitted.
    pub(crate) fn new(
        uri: &str,
        upload: Arc<tokio::sync::Mutex<Upload>>,
        reactor: Reactor,
        warned: &Arc<AtomicBool>,
    ) -> Self {
        let mut open = lock(&OPEN);
        open.retain(|writer| writer.upload.strong_count() > 0);
        open.push(Open {
            process: std::process::id(),
            uri: uri.to_owned(),
            upload: Arc::downgrade(&upload),
            reactor: reactor.clone(),
            warned: Arc::clone(warned),
        });
        Self { upload, reactor }
    }

    pub(crate) fn upload(&self) -> &Arc<tokio::sync::Mutex<Upload>> {
        &self.upload
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        give_up(&self.reactor, Arc::clone(&self.upload));
    }
}

/// Pause between two looks whether the aborts are done, at the end of the interpreter.
const END_INTERVAL: Duration = Duration::from_millis(5);

fn give_up(reactor: &Reactor, upload: Arc<tokio::sync::Mutex<Upload>>) {
    let ending = GivingUp::begin();
    reactor.handle.spawn(async move {
        let _until_done = ending;
        if let Err(error) = upload.lock().await.end().await {
            tracing::warn!(%error, "an unfinished upload could not be aborted; its parts remain");
        }
    });
}

/// A writer that may still be open when the interpreter ends.
struct Open {
    process: u32,
    uri: String,
    upload: Weak<tokio::sync::Mutex<Upload>>,
    reactor: Reactor,
    warned: Arc<AtomicBool>,
}

/// Locked only while attached to the interpreter and never across a call that detaches. So no fork copies it locked.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

/// Warns of open writers at the interpreter's end, aborts their uploads, and waits at most `seconds` for all aborts.
#[pyfunction]
pub(crate) fn end_uploads(py: Python<'_>, seconds: f64) {
    let process = std::process::id();
    let open = std::mem::take(&mut *lock(&OPEN));
    for writer in open.into_iter().filter(|writer| writer.process == process) {
        if let Some(upload) = writer.upload.upgrade() {
            warn_unclosed(py, &writer.uri, &writer.warned);
            give_up(&writer.reactor, upload);
        }
    }
    let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    py.detach(|| {
        while GivingUp::any() && Instant::now() < until {
            std::thread::sleep(END_INTERVAL);
        }
    });
}

/// Emits the `ResourceWarning` of a writer that was not closed, once.
pub(crate) fn warn_unclosed(py: Python<'_>, uri: &str, warned: &AtomicBool) {
    if warned.swap(true, Ordering::Relaxed) {
        return;
    }
    // An object may end while an exception is pending, which must not be disturbed.
    let pending = PyErr::take(py);
    let text = format!("unclosed writer of {uri}; nothing is published");
    let told = std::ffi::CString::new(text)
        .map_err(PyErr::from)
        .and_then(|text| PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1));
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}
