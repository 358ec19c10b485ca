//! The file that shares the rows of a dataset among its processes, for Python.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use oss_client::{
    Error, ErrorKind,
    catalogue::{ListingFile as SharedFile, ListingProgress, PageFile, Producer, State, Turn},
    sync::lock,
};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyString, PyType},
};

use crate::{
    client::PyClient,
    data_object::PyDataObject,
    error,
    listing_task::ListingTask,
    object_table::{Described, row_of},
    prefix_to_list::PyPrefixToList,
};

/// How often a waiting thread of Python looks at the file again: it notices soon what has changed, and the look costs a few
/// system calls.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A listing file, named by its directory.
#[pyclass(frozen, weakref, name = "ListingFile", module = "osstorchconnector._native")]
pub(crate) struct PyListingFile {
    directory: PathBuf,
    limit: u64,
    /// Locked only while attached to the interpreter, and never across a detach. So no fork copies it locked.
    here: Mutex<Here>,
}

/// The state of one process. A child opens the file again, because the parent's locks are not its own.
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

/// What became of waiting for the turn to append rows.
enum Acquired {
    /// It is this process's turn.
    Ours,
    /// The listing is complete or has failed, so no rows follow.
    Over,
    /// Another process appends rows, and the timeout has passed.
    Taken,
}

impl<'py> IntoPyObject<'py> for Acquired {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        let name = match self {
            Self::Ours => "ours",
            Self::Over => "over",
            Self::Taken => "taken",
        };
        Ok(PyString::intern(py, name))
    }
}

impl PyListingFile {
    pub(crate) fn shared(&self) -> Arc<SharedFile> {
        self.with_here(|here| Arc::clone(&here.file))
    }

    fn with_here<T>(&self, action: impl FnOnce(&mut Here) -> T) -> T {
        let mut here = lock(&self.here);
        if here.process != std::process::id() {
            let parents = std::mem::replace(&mut *here, Here::new(&self.directory, self.limit));
            // The fork may have copied the file's locks locked, so it is forgotten. The producer's file is closed: otherwise
            // its lock would outlive the parent.
            std::mem::forget(parents.file);
            drop(parents.producer);
        }
        action(&mut here)
    }

    /// The file in use, with its progress.
    fn known(&self, py: Python<'_>) -> PyResult<Option<(Arc<PageFile>, ListingProgress)>> {
        let known = || {
            let Some(file) = self.shared().opened()? else { return Ok(None) };
            let progress = file.refresh()?;
            Ok(Some((file, progress)))
        };
        known().map_err(|cause| error::to_python(py, &cause))
    }

    /// The file with the number of rows that it has by now.
    pub(crate) fn some(&self, py: Python<'_>) -> PyResult<(Arc<PageFile>, u64)> {
        match self.known(py)? {
            Some((file, progress)) => Ok((file, progress.rows)),
            None => Ok((self.open(py)?, 0)),
        }
    }

    /// The file with the number of rows of the complete listing.
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

    /// Opens the file that is used from now on.
    pub(crate) fn open(&self, py: Python<'_>) -> PyResult<Arc<PageFile>> {
        let shared = self.shared();
        loop {
            if let Some(file) = shared.open().map_err(|cause| error::to_python(py, &cause))? {
                return Ok(file);
            }
            pause(py)?;
        }
    }

    /// Runs `action` with the producer. No other thread can use it meanwhile.
    fn producing<T: Send>(
        &self,
        py: Python<'_>,
        action: impl FnOnce(Box<Producer>) -> (Option<Box<Producer>>, oss_client::Result<T>) + Send,
    ) -> PyResult<T> {
        let Some(producer) = self.with_here(|here| here.producer.take()) else {
            return Err(PyRuntimeError::new_err(
                "this process has not acquired the listing, or has released it: call acquire before you append rows",
            ));
        };
        let (producer, result) = py.detach(|| action(producer));
        self.with_here(|here| here.producer = producer);
        result.map_err(|cause| error::to_python(py, &cause))
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
impl PyListingFile {
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
    fn acquire(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Acquired> {
        let file = self.open(py)?;
        let shared = self.shared();
        let started = Instant::now();
        loop {
            match shared.produce(&file).map_err(|cause| error::to_python(py, &cause))? {
                Turn::Ours(producer) => {
                    self.with_here(|here| here.producer = Some(producer));
                    return Ok(Acquired::Ours);
                }
                Turn::Over => return Ok(Acquired::Over),
                Turn::Taken if timeout.is_some_and(|seconds| started.elapsed().as_secs_f64() >= seconds) => {
                    return Ok(Acquired::Taken);
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
        client: Option<&Bound<'_, PyClient>>,
        producer: Option<&Bound<'_, PyPrefixToList>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // With a producer, a listing that failed is begun anew; without one, its failure is raised.
        let file = match (producer, self.known(py)?) {
            (None, Some((file, _))) => file,
            _ => self.open(py)?,
        };
        let mut listing: Option<ListingTask> = None;
        let mut reported = None;
        loop {
            let now = file.refresh().map_err(|cause| error::to_python(py, &cause))?;
            if let Some(progress) = progress
                && reported != Some(now.rows)
            {
                progress.call1((now.rows,))?;
                reported = Some(now.rows);
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

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<PyDataObject> {
        let (file, count) = self.all(py)?;
        let entry = file.entry(row_of(index, count)?).map_err(|cause| error::to_python(py, &cause))?;
        Ok(PyDataObject::described(entry, None))
    }

    fn __repr__(&self) -> String {
        format!("ListingFile({:?}, limit={})", self.directory.display().to_string(), self.limit)
    }

    /// The pickle holds the name of the directory. It works only while a process is started, because such a process does not
    /// outlive the one that removes the directory.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (PathBuf, u64))> {
        let py = slf.py();
        let spawning = py.import("multiprocessing.context")?.call_method0("get_spawning_popen")?;
        if spawning.is_none() {
            return Err(PyTypeError::new_err("cannot pickle a ListingFile other than to start a process"));
        }
        let listing = slf.get();
        Ok((slf.get_type().getattr("_at")?, (listing.directory.clone(), listing.limit)))
    }

    #[classmethod]
    fn _at(_class: &Bound<'_, PyType>, directory: PathBuf, limit: u64) -> Self {
        Self::new(directory, limit)
    }
}
