//! Multipart uploads that are not complete yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::content::Content;
use super::object::Attributes;

/// One part of an upload.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) content: Content,
    /// With its quotes.
    pub(crate) etag: String,
    pub(crate) crc64: u64,
    pub(crate) last_modified: SystemTime,
}

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) key: Arc<str>,
    pub(crate) initiated: SystemTime,
    pub(crate) attributes: Attributes,
    /// Whether parts come one after the other, without gaps.
    pub(crate) sequential: bool,
    pub(super) parts: Mutex<BTreeMap<u16, Part>>,
}

impl Upload {
    pub(crate) fn new(
        id: String,
        key: Arc<str>,
        initiated: SystemTime,
        attributes: Attributes,
        sequential: bool,
    ) -> Self {
        Self { id, key, initiated, attributes, sequential, parts: Mutex::default() }
    }

    /// The parts so far, by number. Their bytes are shared, not copied.
    pub(crate) fn parts(&self) -> BTreeMap<u16, Part> {
        self.parts.lock().clone()
    }

    /// The bytes of all parts.
    pub(super) fn size(&self) -> u64 {
        self.parts.lock().values().map(|part| part.content.size()).sum()
    }

    /// The bytes of one part.
    pub(super) fn part_size(&self, number: u16) -> u64 {
        self.parts.lock().get(&number).map_or(0, |part| part.content.size())
    }
}
