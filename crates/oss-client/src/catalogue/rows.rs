//! Rows in memory.

use std::{io, sync::Arc};

use super::{
    entry::Entry,
    page::{HEAD, Head, PageBuilder, PageBytes},
    page_file::{HEADER, Header, State},
    row::Row,
};

/// Objects that are all known, packed: at most 40 bytes a row beyond its key, for the ETags that OSS makes. Labels and
/// spans take what they are long.
#[derive(Debug, Default)]
pub struct Rows {
    pages: Vec<PageBytes>,
    names: Vec<Arc<str>>,
    count: u64,
}

impl Rows {
    /// Number of rows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Row `index`; `None` if there is none.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        let page = self.page_of(index)?;
        page.entry((index - page.head().first) as usize, &self.names)
    }

    /// CRC-64 of the first `count` rows; `None` if there are fewer.
    pub fn digest(&self, count: u64) -> Option<u64> {
        let Some(last) = count.checked_sub(1) else { return Some(0) };
        let page = self.page_of(last)?;
        let inside = (count - page.head().first) as usize;
        if inside == page.head().rows as usize {
            return Some(page.head().digest);
        }
        let before = match page.head().first {
            0 => 0,
            first => self.page_of(first - 1)?.head().digest,
        };
        page.digest(before, inside, &self.names)
    }

    fn page_of(&self, index: u64) -> Option<&PageBytes> {
        let after = self.pages.partition_point(|page| page.head().first <= index);
        self.pages.get(after.checked_sub(1)?).filter(|_| index < self.count)
    }

    /// Writes all rows as a complete listing file has them.
    pub fn write_to(&self, file: &mut impl io::Write) -> io::Result<()> {
        file.write_all(&self.header().to_bytes())?;
        self.pages.iter().try_for_each(|page| file.write_all(page.bytes()))
    }

    /// All rows as bytes that [`Rows::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.header().committed as usize);
        // Nothing fails in memory.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    fn header(&self) -> Header {
        let digest = self.pages.last().map_or(0, |page| page.head().digest);
        let committed = HEADER + self.pages.iter().map(|page| page.bytes().len() as u64).sum::<u64>();
        Header { state: State::Complete, committed, rows: self.count, digest, ..Header::default() }
    }

    /// `None` if these bytes are not those of a table.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (header, mut bytes) = bytes.split_first_chunk()?;
        let header = Header::from_bytes(header)?;
        let mut rows = Self::default();
        while !bytes.is_empty() {
            let head = Head::from_bytes(bytes.get(..HEAD)?)?;
            let (page, rest) = bytes.split_at_checked(usize::try_from(head.length()).ok()?)?;
            bytes = rest;
            rows.add(page.into())?;
        }
        (rows.header() == header).then_some(rows)
    }

    fn add(&mut self, page: Box<[u8]>) -> Option<()> {
        let page = PageBytes::new(page)?;
        if page.head().first != self.count {
            return None;
        }
        self.count += u64::from(page.head().rows);
        self.names.extend(page.new_names()?);
        self.pages.push(page);
        Some(())
    }
}

/// Packs rows.
#[derive(Debug, Default)]
pub struct RowsBuilder {
    rows: Rows,
    page: PageBuilder,
}

impl RowsBuilder {
    /// Appends a row.
    pub fn push(&mut self, row: &Row<'_>) {
        if self.page.push(row) {
            self.close_page();
        }
    }

    fn close_page(&mut self) {
        let mut bytes = Vec::new();
        self.page.close(&mut bytes);
        // What has just been written is a page.
        let _ = self.rows.add(bytes.into());
    }

    /// The table, which does not change any more.
    pub fn build(mut self) -> Rows {
        if !self.page.is_empty() {
            self.close_page();
        }
        self.rows
    }
}
