//! One object of a catalogue.

use std::sync::Arc;

use crate::error::Result;

/// An object to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bucket it lies in.
    pub bucket: Arc<str>,
    /// Its key in the bucket; for a member of an archive, `<archive>/<member>`.
    pub key: Box<str>,
    /// Size in bytes, if a listing named it.
    pub size: Option<u64>,
    /// ETag of the object, or of the archive that it lies in, if a listing named it.
    pub etag: Option<Box<str>>,
    /// Label given by a manifest.
    pub label: Option<Arc<str>>,
    /// The place of its bytes, if it is a member of an archive.
    pub span: Option<Span>,
}

/// A place inside an archive: the `size` bytes of the entry from `offset` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Key of the archive, in the same bucket.
    pub archive: Arc<str>,
    /// First byte.
    pub offset: u64,
}

impl Entry {
    /// An object of which only the name is known.
    pub fn named(bucket: impl Into<Arc<str>>, key: impl Into<Box<str>>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), size: None, etag: None, label: None, span: None }
    }

    /// Whether it stands for a directory only: no bytes, and a key that ends with a slash.
    pub fn is_directory_marker(&self) -> bool {
        self.size == Some(0) && self.key.ends_with('/')
    }
}

/// Objects that became known together, or why no more will.
pub type Page = Result<Vec<Entry>>;
