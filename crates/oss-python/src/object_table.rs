//! Objects that are all known, packed: a Python list of a million strings takes ten times the memory, and forks copy it.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use oss_client::{
    catalogue::{PageFile, Row, Rows, RowsBuilder},
    order::Order,
    prefetch::Sequence,
};
use oss_protocol::uri::OssUri;
use pyo3::{
    exceptions::{PyIndexError, PyValueError},
    prelude::*,
    pybacked::PyBackedStr,
    types::{PyBytes, PyIterator},
};

use crate::{data_object::PyDataObject, error, uri::parse_object};

/// A table is written a megabyte at a time, so that system calls cost nothing next to it.
const WRITE: usize = 1 << 20;

/// An immutable sequence of objects.
#[pyclass(frozen, name = "ObjectTable", module = "osstorchconnector._native")]
#[derive(Debug)]
pub(crate) struct PyObjectTable {
    rows: Table,
}

#[derive(Debug)]
enum Table {
    Memory(Arc<Rows>),
    /// What another process has in memory, in a file that several processes read.
    File(Arc<PageFile>),
}

/// An object as Python describes it: bucket, key, size, ETag, label, and the key of an archive with an offset in it.
#[derive(FromPyObject)]
pub(crate) struct Described(
    PyBackedStr,
    PyBackedStr,
    Option<u64>,
    Option<PyBackedStr>,
    PyBackedStr,
    Option<(PyBackedStr, u64)>,
);

impl Described {
    pub(crate) fn row(&self) -> Row<'_> {
        Row {
            bucket: &self.0,
            key: &self.1,
            size: self.2,
            etag: self.3.as_deref(),
            label: Some(&*self.4),
            span: self.5.as_ref().map(|(archive, offset)| (&**archive, *offset)),
        }
    }
}

/// The row that an index of Python's means, of `count`.
pub(crate) fn row_of(index: isize, count: u64) -> PyResult<u64> {
    let row = if index < 0 {
        count.checked_sub(index.unsigned_abs() as u64)
    } else {
        Some(index.unsigned_abs() as u64).filter(|row| *row < count)
    };
    row.ok_or_else(|| PyIndexError::new_err(format!("index {index} is out of range for {count} objects")))
}

impl PyObjectTable {
    fn new(rows: RowsBuilder) -> Self {
        Self { rows: Table::Memory(Arc::new(rows.build())) }
    }

    pub(crate) fn count(&self) -> u64 {
        match &self.rows {
            Table::Memory(rows) => rows.count(),
            Table::File(file) => file.progress().rows,
        }
    }

    pub(crate) fn sequence(&self, order: Order) -> Sequence {
        match &self.rows {
            Table::Memory(rows) => Sequence::rows(Arc::clone(rows), order),
            Table::File(file) => Sequence::file(Arc::clone(file), order, None),
        }
    }

    /// Some of the rows, which exist.
    pub(crate) fn picked(&self, picks: Vec<u64>) -> Sequence {
        match &self.rows {
            Table::Memory(rows) => Sequence::picked(Arc::clone(rows), picks),
            Table::File(file) => Sequence::picked_from_file(Arc::clone(file), picks),
        }
    }
}

#[pymethods]
impl PyObjectTable {
    #[staticmethod]
    fn from_uris(py: Python<'_>, uris: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut rows = RowsBuilder::default();
        for uri in PyIterator::from_object(uris)? {
            let uri = uri?;
            let Ok(text) = uri.extract::<&str>() else {
                let kind = uri.get_type().name()?;
                let message = format!("an object URI must be a str like 'oss://bucket/key', not {kind}");
                return Err(error::config(py, message));
            };
            let OssUri { bucket, key, .. } = parse_object(py, text)?;
            rows.push(&Row { bucket: &bucket, key: &key, size: None, etag: None, label: None, span: None });
        }
        Ok(Self::new(rows))
    }

    #[staticmethod]
    fn from_objects(objects: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut rows = RowsBuilder::default();
        for object in PyIterator::from_object(objects)? {
            rows.push(&object?.extract::<Described>()?.row());
        }
        Ok(Self::new(rows))
    }

    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let file = py.detach(|| PageFile::of_table(&path)).map_err(|cause| error::to_python(py, &cause))?;
        Ok(Self { rows: Table::File(Arc::new(file)) })
    }

    fn write_to(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let written = py.detach(|| {
            let mut file = BufWriter::with_capacity(WRITE, File::options().write(true).open(path)?);
            match &self.rows {
                Table::Memory(rows) => rows.write_to(&mut file)?,
                Table::File(rows) => file.write_all(&rows.to_bytes().map_err(io::Error::other)?)?,
            }
            file.flush()
        });
        Ok(written?)
    }

    fn digest(&self, py: Python<'_>, count: u64) -> PyResult<u64> {
        let known = self.count();
        if count > known {
            return Err(PyValueError::new_err(format!("there are {known} objects, fewer than {count}")));
        }
        match &self.rows {
            Table::Memory(rows) => rows.digest(count).ok_or_else(damaged),
            Table::File(file) => file.digest(count).map_err(|cause| error::to_python(py, &cause)),
        }
    }

    fn __len__(&self) -> usize {
        self.count() as usize
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<PyDataObject> {
        let row = row_of(index, self.count())?;
        let entry = match &self.rows {
            Table::Memory(rows) => rows.entry(row).ok_or_else(damaged)?,
            Table::File(file) => file.entry(row).map_err(|cause| error::to_python(py, &cause))?,
        };
        Ok(PyDataObject::described(entry, None))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let py = slf.py();
        let bytes = match &slf.get().rows {
            Table::Memory(rows) => rows.to_bytes(),
            Table::File(file) => file.to_bytes().map_err(|cause| error::to_python(py, &cause))?,
        };
        Ok((slf.get_type().getattr("_from_bytes")?, (PyBytes::new(py, &bytes),)))
    }

    #[staticmethod]
    fn _from_bytes(bytes: &[u8]) -> PyResult<Self> {
        let rows = Rows::from_bytes(bytes)
            .ok_or_else(|| PyValueError::new_err("these bytes are not a pickled ObjectTable"))?;
        Ok(Self { rows: Table::Memory(Arc::new(rows)) })
    }
}

fn damaged() -> PyErr {
    PyValueError::new_err("this table was made from damaged bytes")
}
