//! Rows that are stored together.
//!
//! A page is a head, the end of each row (four bytes each), the rows, and the names that these rows are the first to
//! use. So the place of row i follows from the head and two of the ends, without the rows before it.

use std::sync::Arc;

use oss_protocol::crc64::Crc64;

use super::{
    entry::Entry,
    names::Names,
    row::{self, Row},
};

/// Bytes of a page's head.
pub(super) const HEAD: usize = 32;

/// Most rows of a page: those of the service's listings have as many.
const PAGE_ROWS: usize = 1000;

/// A page is closed once it holds so many bytes, so that a page in memory stays small.
const PAGE_BYTES: usize = 1 << 20;

/// What a page says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) rows: u32,
    /// Bytes of the rows.
    pub(super) text: u32,
    /// How many names follow the rows, and their bytes.
    pub(super) names: u32,
    pub(super) names_text: u32,
    /// Number of rows in the pages before.
    pub(super) first: u64,
    /// Digest of the catalogue up to the end of this page.
    pub(super) digest: u64,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0..4].copy_from_slice(&self.rows.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.text.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.names.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.names_text.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
            bytes.get(at..at + N)?.try_into().ok()
        }
        Some(Self {
            rows: u32::from_le_bytes(number(bytes, 0)?),
            text: u32::from_le_bytes(number(bytes, 4)?),
            names: u32::from_le_bytes(number(bytes, 8)?),
            names_text: u32::from_le_bytes(number(bytes, 12)?),
            first: u64::from_le_bytes(number(bytes, 16)?),
            digest: u64::from_le_bytes(number(bytes, 24)?),
        })
    }

    /// Bytes of the whole page.
    pub(super) fn length(&self) -> u64 {
        self.names_start() + u64::from(self.names_text)
    }

    /// The place in the page at which the rows begin.
    pub(super) fn text_start(&self) -> u64 {
        HEAD as u64 + 4 * u64::from(self.rows)
    }

    /// The place in the page at which the new names begin.
    pub(super) fn names_start(&self) -> u64 {
        self.text_start() + u64::from(self.text)
    }
}

/// A page in memory.
#[derive(Debug)]
pub(super) struct PageBytes {
    head: Head,
    bytes: Box<[u8]>,
}

impl PageBytes {
    /// `None` if these bytes are not one page.
    pub(super) fn new(bytes: Box<[u8]>) -> Option<Self> {
        let head = Head::from_bytes(&bytes)?;
        (head.length() == bytes.len() as u64).then_some(Self { head, bytes })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Row `index` of the page.
    pub(super) fn entry(&self, index: usize, names: &[Arc<str>]) -> Option<Entry> {
        let start = if index == 0 { 0 } else { self.end(index - 1)? };
        let text = self.head.text_start() as usize;
        row::decode(self.bytes.get(text + start..text + self.end(index)?)?, names)
    }

    fn end(&self, index: usize) -> Option<usize> {
        let at = HEAD + 4 * index;
        let end = self.bytes.get(at..at + 4).filter(|_| index < self.head.rows as usize)?;
        Some(u32::from_le_bytes(end.try_into().ok()?) as usize)
    }

    /// The names that this page adds.
    pub(super) fn new_names(&self) -> Option<Vec<Arc<str>>> {
        read_names(self.bytes.get(self.head.names_start() as usize..)?, self.head.names)
    }

    /// The digest of the catalogue up to row `count` of this page, from the one up to its beginning.
    pub(super) fn digest(&self, before: u64, count: usize, names: &[Arc<str>]) -> Option<u64> {
        let mut bytes = Vec::new();
        for index in 0..count {
            Row::from(&self.entry(index, names)?).canonical(&mut bytes);
        }
        let mut digest = Crc64::from_value(before);
        digest.update(&bytes);
        Some(digest.value())
    }
}

pub(super) fn read_names(mut bytes: &[u8], count: u32) -> Option<Vec<Arc<str>>> {
    let names = (0..count).map(|_| row::text(&mut bytes).map(Into::into)).collect::<Option<_>>()?;
    bytes.is_empty().then_some(names)
}

/// Packs rows into pages.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    names: Names,
    /// Names that earlier pages hold.
    known_names: usize,
    /// Rows of earlier pages, and the digest up to their end.
    first: u64,
    digest: u64,
    ends: Vec<u8>,
    text: Vec<u8>,
    canonical: Vec<u8>,
}

impl PageBuilder {
    /// Goes on behind `rows` rows with this digest and these names.
    pub(super) fn after(rows: u64, digest: u64, names: &[Arc<str>]) -> Self {
        Self {
            names: Names::after(names),
            known_names: names.len(),
            first: rows,
            digest,
            ends: Vec::new(),
            text: Vec::new(),
            canonical: Vec::new(),
        }
    }

    /// Adds a row; returns whether the page should be closed.
    pub(super) fn push(&mut self, row: &Row<'_>) -> bool {
        row.encode(&mut self.names, &mut self.text);
        row.canonical(&mut self.canonical);
        self.ends.extend_from_slice(&(self.text.len() as u32).to_le_bytes());
        self.ends.len() >= 4 * PAGE_ROWS || self.text.len() >= PAGE_BYTES
    }

    /// Whether the page has no row so far.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends the page to `bytes` and begins the next one.
    pub(super) fn close(&mut self, bytes: &mut Vec<u8>) -> Head {
        let mut names = Vec::new();
        for name in &self.names.list()[self.known_names..] {
            row::put_text(&mut names, name);
        }
        let mut digest = Crc64::from_value(self.digest);
        digest.update(&self.canonical);
        let head = Head {
            rows: (self.ends.len() / 4) as u32,
            text: self.text.len() as u32,
            names: (self.names.list().len() - self.known_names) as u32,
            names_text: names.len() as u32,
            first: self.first,
            digest: digest.value(),
        };
        bytes.reserve(head.length() as usize);
        bytes.extend_from_slice(&head.to_bytes());
        bytes.extend_from_slice(&self.ends);
        bytes.extend_from_slice(&self.text);
        bytes.extend_from_slice(&names);
        self.first += u64::from(head.rows);
        self.digest = head.digest;
        self.known_names = self.names.list().len();
        self.ends.clear();
        self.text.clear();
        self.canonical.clear();
        head
    }
}
