//! Uploads that are neither published nor given up yet, also at the end of the interpreter.

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

/// An upload that is given up when it is dropped. The lock is free whenever no operation runs on the I/O thread.
pub(crate) struct Unfinished {
    upload: Arc<tokio::sync::Mutex<Upload>>,
    reactor: Reactor,
}

impl Unfinished {
    /// Takes an upload on, for the writer of `uri`; `warned` says whether it has been warned of.
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

/// How often the end of the interpreter looks whether they are done.
const END_INTERVAL: Duration = Duration::from_millis(5);

fn give_up(reactor: &Reactor, upload: Arc<tokio::sync::Mutex<Upload>>) {
    let ending = GivingUp::begin();
    reactor.handle.spawn(async move {
        let _until_done = ending;
        if let Err(error) = upload.lock().await.abort().await {
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

/// Locked only while attached to the interpreter and never across a call that detaches, so that no fork copies it locked.
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
    // The end of an object may come while an exception is on its way, which must not be disturbed.
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
