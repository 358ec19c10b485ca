//! Objects that are all known, packed: a Python list of a million strings takes ten times the memory, and forks copy it.

use std::sync::Arc;

use oss_client::catalogue::{Row, Rows, RowsBuilder};
use oss_protocol::uri::OssUri;
use pyo3::{
    exceptions::{PyIndexError, PyValueError},
    prelude::*,
    pybacked::PyBackedStr,
    types::{PyBytes, PyIterator},
};

use crate::{data_object::DataObject, error, uri::parse_object};

/// An immutable sequence of objects.
#[pyclass(frozen, module = "osstorchconnector._native")]
#[derive(Debug)]
pub(crate) struct ObjectTable {
    rows: Arc<Rows>,
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

/// An object named by its URI, with a label.
pub(crate) struct Labelled(OssUri, PyBackedStr);

impl Labelled {
    pub(crate) fn extract(pair: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (uri, label): (PyBackedStr, PyBackedStr) = pair.extract()?;
        Ok(Self(parse_object(pair.py(), &uri)?, label))
    }

    pub(crate) fn row(&self) -> Row<'_> {
        Row { label: Some(&*self.1), ..named(&self.0) }
    }
}

fn named(uri: &OssUri) -> Row<'_> {
    Row { bucket: &uri.bucket, key: &uri.key, size: None, etag: None, label: None, span: None }
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

impl ObjectTable {
    fn new(rows: RowsBuilder) -> Self {
        Self { rows: Arc::new(rows.build()) }
    }

    pub(crate) fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }
}

#[pymethods]
impl ObjectTable {
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
            rows.push(&named(&parse_object(py, text)?));
        }
        Ok(Self::new(rows))
    }

    #[staticmethod]
    fn from_labelled(labelled: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut rows = RowsBuilder::default();
        for pair in PyIterator::from_object(labelled)? {
            rows.push(&Labelled::extract(&pair?)?.row());
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

    fn digest(&self, count: u64) -> PyResult<u64> {
        let known = self.rows.count();
        self.rows
            .digest(count)
            .ok_or_else(|| PyValueError::new_err(format!("there are {known} objects, fewer than {count}")))
    }

    fn __len__(&self) -> usize {
        self.rows.count() as usize
    }

    fn __getitem__(&self, index: isize) -> PyResult<DataObject> {
        let row = row_of(index, self.rows.count())?;
        let entry = self.rows.entry(row);
        let entry = entry.ok_or_else(|| PyValueError::new_err("this table was made from damaged bytes"))?;
        Ok(DataObject::described(entry, None))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let rebuild = slf.get_type().getattr("_from_bytes")?;
        Ok((rebuild, (PyBytes::new(slf.py(), &slf.get().rows.to_bytes()),)))
    }

    #[staticmethod]
    fn _from_bytes(bytes: &[u8]) -> PyResult<Self> {
        let rows = Rows::from_bytes(bytes)
            .ok_or_else(|| PyValueError::new_err("these bytes are not a pickled ObjectTable"))?;
        Ok(Self { rows: Arc::new(rows) })
    }
}
