//! Keys of a data set, packed: a Python list of a million strings takes ten times the memory, and forks copy it.

use std::sync::Arc;

use oss_client::prefetch::Entry;
use pyo3::{
    exceptions::{PyIndexError, PyValueError},
    prelude::*,
    pybacked::PyBackedStr,
    types::{PyBytes, PyIterator},
};

use crate::{data_object::DataObject, error, uri::parse_object};

/// Stands for a size that no listing told.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// An immutable sequence of objects.
#[pyclass(frozen, module = "osstorchconnector._native")]
#[derive(Debug, Default)]
pub(crate) struct ObjectTable {
    rows: Arc<Rows>,
}

/// Key i is `text[ends[i - 1]..ends[i]]`.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    text: String,
    ends: Vec<u64>,
    sizes: Vec<u64>,
    /// Label i is `labels[label_ends[i - 1]..label_ends[i]]`; both are empty where no row has a label.
    labels: String,
    label_ends: Vec<u64>,
    buckets: Vec<Arc<str>>,
    /// Index into `buckets` for each row; empty where all rows share one bucket.
    bucket_of: Vec<u32>,
}

impl Rows {
    /// Appends a row.
    pub(crate) fn push(&mut self, bucket: &str, key: &str, size: Option<u64>, label: &str) {
        if !label.is_empty() && self.label_ends.is_empty() {
            self.label_ends = vec![0; self.ends.len()];
        }
        if !label.is_empty() || !self.label_ends.is_empty() {
            self.labels.push_str(label);
            self.label_ends.push(self.labels.len() as u64);
        }
        let index = match self.buckets.iter().rposition(|known| &**known == bucket) {
            Some(index) => index,
            None => {
                self.buckets.push(bucket.into());
                self.buckets.len() - 1
            }
        };
        if index > 0 && self.bucket_of.is_empty() {
            self.bucket_of = vec![0; self.ends.len()];
        }
        if !self.bucket_of.is_empty() || index > 0 {
            self.bucket_of.push(index as u32);
        }
        self.text.push_str(key);
        self.ends.push(self.text.len() as u64);
        self.sizes.push(size.unwrap_or(UNKNOWN_SIZE));
    }

    /// The table, which does not change any more.
    pub(crate) fn build(mut self) -> ObjectTable {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.sizes.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.label_ends.shrink_to_fit();
        ObjectTable { rows: Arc::new(self) }
    }

    fn entry(&self, row: usize) -> Option<Entry> {
        let key = piece(&self.text, &self.ends, row)?;
        let label = piece(&self.labels, &self.label_ends, row).filter(|label| !label.is_empty());
        let bucket = self.bucket_of.get(row).copied().unwrap_or(0) as usize;
        Some(Entry {
            bucket: Arc::clone(self.buckets.get(bucket)?),
            key: key.into(),
            size: Some(self.sizes[row]).filter(|size| *size != UNKNOWN_SIZE),
            etag: None,
            label: label.map(Into::into),
        })
    }
}

/// Piece `row` of a text whose pieces end at `ends`.
fn piece<'text>(text: &'text str, ends: &[u64], row: usize) -> Option<&'text str> {
    let end = *ends.get(row)? as usize;
    let start = if row == 0 { 0 } else { ends[row - 1] as usize };
    text.get(start..end)
}

impl ObjectTable {
    /// An empty table to be filled.
    pub(crate) fn builder() -> Rows {
        Rows::default()
    }

    /// The entries in `rows`; fails on a row that does not exist.
    pub(crate) fn entries_at(&self, rows: &[isize]) -> PyResult<Vec<Entry>> {
        rows.iter().map(|row| self.entry(*row)).collect()
    }

    /// Every `count`th entry from `index` on.
    pub(crate) fn share(&self, index: usize, count: usize) -> impl Iterator<Item = Entry> + Send + 'static {
        let rows = Arc::clone(&self.rows);
        (index..self.rows.ends.len()).step_by(count).filter_map(move |row| rows.entry(row))
    }

    fn entry(&self, row: isize) -> PyResult<Entry> {
        let length = self.rows.ends.len();
        let found = if row < 0 { length.checked_sub(row.unsigned_abs()) } else { Some(row.unsigned_abs()) };
        found
            .and_then(|row| self.rows.entry(row))
            .ok_or_else(|| PyIndexError::new_err(format!("index {row} is out of range for {length} objects")))
    }
}

#[pymethods]
impl ObjectTable {
    #[staticmethod]
    fn from_uris(py: Python<'_>, uris: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut rows = Rows::default();
        for uri in PyIterator::from_object(uris)? {
            let uri = uri?;
            let Ok(text) = uri.extract::<&str>() else {
                let kind = uri.get_type().name()?;
                let message = format!("an object URI must be a str like 'oss://bucket/key', not {kind}");
                return Err(error::config(py, message));
            };
            let parsed = parse_object(py, text)?;
            rows.push(&parsed.bucket, &parsed.key, None, "");
        }
        Ok(rows.build())
    }

    #[staticmethod]
    fn from_labelled(py: Python<'_>, labelled: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut rows = Rows::default();
        for pair in PyIterator::from_object(labelled)? {
            let pair = pair?;
            let (uri, label): (PyBackedStr, PyBackedStr) = pair.extract()?;
            let parsed = parse_object(py, &uri)?;
            rows.push(&parsed.bucket, &parsed.key, None, &label);
        }
        Ok(rows.build())
    }

    fn __len__(&self) -> usize {
        self.rows.ends.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<DataObject> {
        Ok(DataObject::described(self.entry(index)?, None))
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

/// A pickled table: its columns and the buckets, each behind its number of elements, little-endian.
impl Rows {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.text.len() + 20 * self.ends.len() + 64);
        let put = |bytes: &mut Vec<u8>, value: u64| bytes.extend_from_slice(&value.to_le_bytes());
        put(&mut bytes, self.text.len() as u64);
        bytes.extend_from_slice(self.text.as_bytes());
        put(&mut bytes, self.ends.len() as u64);
        for value in self.ends.iter().chain(&self.sizes) {
            put(&mut bytes, *value);
        }
        put(&mut bytes, self.labels.len() as u64);
        bytes.extend_from_slice(self.labels.as_bytes());
        put(&mut bytes, self.label_ends.len() as u64);
        for value in &self.label_ends {
            put(&mut bytes, *value);
        }
        put(&mut bytes, self.bucket_of.len() as u64);
        for value in &self.bucket_of {
            put(&mut bytes, u64::from(*value));
        }
        put(&mut bytes, self.buckets.len() as u64);
        for bucket in &self.buckets {
            put(&mut bytes, bucket.len() as u64);
            bytes.extend_from_slice(bucket.as_bytes());
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        fn number(bytes: &mut &[u8]) -> Option<u64> {
            let (value, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*value))
        }
        fn text(bytes: &mut &[u8]) -> Option<String> {
            let length = usize::try_from(number(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            String::from_utf8(value.to_vec()).ok()
        }
        let keys = text(&mut bytes)?;
        let length = number(&mut bytes)?;
        let ends: Vec<u64> = (0..length).map(|_| number(&mut bytes)).collect::<Option<_>>()?;
        let sizes: Vec<u64> = (0..length).map(|_| number(&mut bytes)).collect::<Option<_>>()?;
        let labels = text(&mut bytes)?;
        let labelled_rows = number(&mut bytes)?;
        let label_ends = (0..labelled_rows).map(|_| number(&mut bytes)).collect::<Option<_>>()?;
        let bucket_rows = number(&mut bytes)?;
        let bucket_of = (0..bucket_rows).map(|_| u32::try_from(number(&mut bytes)?).ok()).collect::<Option<_>>()?;
        let bucket_count = number(&mut bytes)?;
        let buckets = (0..bucket_count).map(|_| Some(text(&mut bytes)?.into())).collect::<Option<_>>()?;
        Some(Self { text: keys, ends, sizes, labels, label_ends, buckets, bucket_of })
    }
}
