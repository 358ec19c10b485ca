//! The listing that the processes of a dataset share, for Python.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use oss_client::{
    Error, ErrorKind,
    catalogue::{ListingFile as SharedFile, ListingProgress as Progress, PageFile, Producer, State, Turn},
    prefetch::{PrefixToList, Sequence},
    sync::lock,
};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::PyType,
};
use tokio::task::JoinHandle;

use crate::{
    client::Client,
    data_object::DataObject,
    error,
    runtime::Reactor,
    table::{Described, row_of},
    visit::visit,
};

/// How often a waiting thread of Python's looks whether it is its turn, or over: soon after it is, at the price of a
/// few system calls.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A listing file, by its directory.
#[pyclass(frozen, weakref, module = "osstorchconnector._native")]
pub(crate) struct Listing {
    directory: PathBuf,
    limit: u64,
    /// Locked only while attached to the interpreter and never across a detach: no fork copies it locked.
    here: Mutex<Here>,
}

/// What one process has of it. A child opens the file again: the parent's locks are not its own.
struct Here {
    process: u32,
    file: Arc<SharedFile>,
    producer: Option<Box<Producer>>,
}

impl Here {
    fn new(directory: &std::path::Path, limit: u64) -> Self {
        Self { process: std::process::id(), file: Arc::new(SharedFile::new(directory, limit)), producer: None }
    }
}

/// A prefix to be listed where nobody has done so.
#[pyclass(frozen, get_all, module = "osstorchconnector._native")]
pub(crate) struct PrefixListing {
    bucket: String,
    prefix: String,
    directory_markers: bool,
}

#[pymethods]
impl PrefixListing {
    #[new]
    #[pyo3(signature = (bucket, prefix, *, directory_markers = false))]
    fn new(bucket: String, prefix: String, directory_markers: bool) -> Self {
        Self { bucket, prefix, directory_markers }
    }
}

impl PrefixListing {
    pub(crate) fn with(&self, client: oss_client::Client) -> PrefixToList {
        PrefixToList {
            client,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            directory_markers: self.directory_markers,
            record: Arc::new(|cause| {
                let record = visit(|py| error::record(error::to_python(py, cause).value(py)));
                record.unwrap_or_else(|| cause.to_string().into_bytes())
            }),
        }
    }
}

impl Listing {
    pub(crate) fn shared(&self) -> Arc<SharedFile> {
        self.with_here(|here| Arc::clone(&here.file))
    }

    fn with_here<T>(&self, action: impl FnOnce(&mut Here) -> T) -> T {
        let mut here = lock(&self.here);
        if here.process != std::process::id() {
            let parents = std::mem::replace(&mut *here, Here::new(&self.directory, self.limit));
            // Its locks may be copied locked. The producer's file alone is closed, or its lock would outlive the parent.
            std::mem::forget(parents.file);
            drop(parents.producer);
        }
        action(&mut here)
    }

    /// The file in use, with what is known of it by now.
    fn known(&self, py: Python<'_>) -> PyResult<Option<(Arc<PageFile>, Progress)>> {
        let known = || {
            let Some(file) = self.shared().opened()? else { return Ok(None) };
            let progress = file.refresh()?;
            Ok(Some((file, progress)))
        };
        known().map_err(|cause| error::to_python(py, &cause))
    }

    /// What is known of the listing by now.
    pub(crate) fn some(&self, py: Python<'_>) -> PyResult<(Arc<PageFile>, u64)> {
        match self.known(py)? {
            Some((file, progress)) => Ok((file, progress.rows)),
            None => Ok((self.open(py)?, 0)),
        }
    }

    /// The complete listing.
    pub(crate) fn all(&self, py: Python<'_>) -> PyResult<(Arc<PageFile>, u64)> {
        let file = match self.known(py)? {
            None => self.open(py)?,
            Some((file, _)) => file,
        };
        let progress = file.refresh().map_err(|cause| error::to_python(py, &cause))?;
        match progress.state {
            State::Complete => Ok((file, progress.rows)),
            State::Failed => Err(failure(py, &file)),
            State::Running => Err(PyRuntimeError::new_err("the listing is not complete yet: wait for it first")),
        }
    }

    /// Opens the listing to be used from now on.
    pub(crate) fn open(&self, py: Python<'_>) -> PyResult<Arc<PageFile>> {
        let shared = self.shared();
        loop {
            if let Some(file) = shared.open().map_err(|cause| error::to_python(py, &cause))? {
                return Ok(file);
            }
            pause(py)?;
        }
    }

    /// Uses the producer, which nobody else can meanwhile.
    fn producing<T: Send>(
        &self,
        py: Python<'_>,
        action: impl FnOnce(Box<Producer>) -> (Option<Box<Producer>>, oss_client::Result<T>) + Send,
    ) -> PyResult<T> {
        let Some(producer) = self.with_here(|here| here.producer.take()) else {
            return Err(PyRuntimeError::new_err("rows are appended by who has acquired the listing only"));
        };
        let (producer, result) = py.detach(|| action(producer));
        self.with_here(|here| here.producer = producer);
        result.map_err(|cause| error::to_python(py, &cause))
    }
}

/// A task that lists where nobody else does. Dropping it stops it.
pub(crate) struct ListingTask {
    reactor: Reactor,
    task: Option<JoinHandle<oss_client::Result<()>>>,
}

impl ListingTask {
    pub(crate) fn start(reactor: &Reactor, sequence: Sequence) -> Self {
        Self { reactor: reactor.clone(), task: Some(reactor.handle.spawn(sequence.complete())) }
    }

    /// Raises what kept it from listing, other than what it recorded.
    fn check(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.task.take_if(|task| task.is_finished()).map(|task| self.reactor.handle.block_on(task)) {
            Some(Ok(Err(cause))) => Err(error::to_python(py, &cause)),
            _ => Ok(()),
        }
    }
}

impl Drop for ListingTask {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn failure(py: Python<'_>, file: &PageFile) -> PyErr {
    let cause = match file.failure() {
        Ok(record) => Error::new(ErrorKind::Recorded(record)),
        Err(cause) => cause,
    };
    error::to_python(py, &cause)
}

fn pause(py: Python<'_>) -> PyResult<()> {
    py.detach(|| std::thread::sleep(LOOK_AGAIN));
    py.check_signals()
}

#[pymethods]
impl Listing {
    #[new]
    #[pyo3(signature = (directory, *, limit))]
    fn new(directory: PathBuf, limit: u64) -> Self {
        let here = Mutex::new(Here::new(&directory, limit));
        Self { directory, limit, here }
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.directory.clone()
    }

    #[getter]
    fn count(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.known(py)?.map_or(0, |(_, progress)| progress.rows))
    }

    #[getter]
    fn markers(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.known(py)?.map_or(0, |(_, progress)| progress.markers))
    }

    #[getter]
    fn complete(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.known(py)?.is_some_and(|(_, progress)| progress.state == State::Complete))
    }

    #[pyo3(signature = (timeout = None))]
    fn acquire(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<bool>> {
        let file = self.open(py)?;
        let shared = self.shared();
        let started = Instant::now();
        loop {
            match shared.produce(&file).map_err(|cause| error::to_python(py, &cause))? {
                Turn::Ours(producer) => {
                    self.with_here(|here| here.producer = Some(producer));
                    return Ok(Some(true));
                }
                Turn::Over => return Ok(Some(false)),
                Turn::Taken if timeout.is_some_and(|seconds| started.elapsed().as_secs_f64() >= seconds) => {
                    return Ok(None);
                }
                Turn::Taken => pause(py)?,
            }
        }
    }

    fn put(&self, py: Python<'_>, objects: Vec<Described>) -> PyResult<()> {
        self.producing(py, |mut producer| {
            let appended = producer.append(objects.iter().map(Described::row), 0);
            (Some(producer), appended)
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.producing(py, |producer| (None, producer.finish(0)))
    }

    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let record = error::record(error);
        self.producing(py, |producer| (None, producer.fail(&record)))
    }

    fn release(&self) {
        drop(self.with_here(|here| here.producer.take()));
    }

    #[pyo3(signature = (client = None, producer = None, *, progress = None))]
    fn wait(
        &self,
        py: Python<'_>,
        client: Option<&Bound<'_, Client>>,
        producer: Option<&Bound<'_, PrefixListing>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // Who can list may list anew after a failure; who cannot waits for what is there.
        let file = match (producer, self.known(py)?) {
            (None, Some((file, _))) => file,
            _ => self.open(py)?,
        };
        let mut listing: Option<ListingTask> = None;
        let mut told = None;
        loop {
            let now = file.refresh().map_err(|cause| error::to_python(py, &cause))?;
            if let Some(progress) = progress
                && told != Some(now.rows)
            {
                progress.call1((now.rows,))?;
                told = Some(now.rows);
            }
            match now.state {
                State::Complete => return Ok(()),
                State::Failed => return Err(failure(py, &file)),
                State::Running => {}
            }
            match (&mut listing, client, producer) {
                (Some(listing), _, _) => listing.check(py)?,
                (listing, Some(client), Some(prefix)) => {
                    *listing = Some(client.get().list_into(py, self, Arc::clone(&file), prefix.get())?);
                }
                _ => {}
            }
            pause(py)?;
        }
    }

    fn digest(&self, py: Python<'_>, count: u64) -> PyResult<u64> {
        let known = match self.known(py)? {
            Some((file, progress)) if count <= progress.rows => {
                return file.digest(count).map_err(|cause| error::to_python(py, &cause));
            }
            Some((_, progress)) => progress.rows,
            None if count == 0 => return Ok(0),
            None => 0,
        };
        Err(PyValueError::new_err(format!("{known} objects are known, fewer than {count}")))
    }

    fn renew(&self, py: Python<'_>) -> PyResult<()> {
        self.shared().discard().map_err(|cause| error::to_python(py, &cause))
    }

    fn close(&self) {
        self.release();
        self.shared().close();
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.all(py)?.1 as usize)
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<DataObject> {
        let (file, count) = self.all(py)?;
        let entry = file.entry(row_of(index, count)?).map_err(|cause| error::to_python(py, &cause))?;
        Ok(DataObject::described(entry, None))
    }

    fn __repr__(&self) -> String {
        format!("Listing({:?}, limit={})", self.directory.display().to_string(), self.limit)
    }

    /// A listing travels by the name of its directory, to processes whose lives are bound to the one that removes it.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (PathBuf, u64))> {
        let py = slf.py();
        let spawning = py.import("multiprocessing.context")?.call_method0("get_spawning_popen")?;
        if spawning.is_none() {
            return Err(PyTypeError::new_err("cannot pickle a Listing other than to start a process"));
        }
        let listing = slf.get();
        Ok((slf.get_type().getattr("_at")?, (listing.directory.clone(), listing.limit)))
    }

    #[classmethod]
    fn _at(_class: &Bound<'_, PyType>, directory: PathBuf, limit: u64) -> Self {
        Self::new(directory, limit)
    }
}
