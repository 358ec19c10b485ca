//! The one process that appends to a listing file.

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    sync::Arc,
};

use super::{
    page::PageBuilder,
    page_file::{Header, PageFile, State},
    row::Row,
};
use crate::error::Result;

/// The right to append to a listing file, held through an exclusive lock on it. Dropping it gives the right back; the
/// next producer continues behind the last committed row.
#[derive(Debug)]
pub struct Producer {
    listing: Arc<PageFile>,
    /// Opened separately, since the lock belongs to the open file description.
    locked: File,
    process: u32,
    header: Header,
    page: PageBuilder,
    /// A complete listing with more bytes than this loses its name.
    limit: u64,
}

impl Producer {
    /// `locked` is open for writing, and locked. `None` if the listing has ended.
    pub(super) fn new(listing: Arc<PageFile>, locked: File, limit: u64) -> Result<Option<Self>> {
        let (header, names) = listing.resume()?;
        let page = PageBuilder::after(header.rows, header.digest, &names);
        let producer = Self { listing, locked, process: std::process::id(), header, page, limit };
        Ok((header.state == State::Running).then_some(producer))
    }

    /// The file that is being appended to.
    pub fn listing(&self) -> &Arc<PageFile> {
        &self.listing
    }

    /// Rows that are committed.
    pub fn rows(&self) -> u64 {
        self.header.rows
    }

    /// Appends rows and commits them together. `markers` counts directory markers that were left out before the last
    /// of them.
    pub fn append<'a>(&mut self, rows: impl IntoIterator<Item = Row<'a>>, markers: u64) -> Result<()> {
        let mut bytes = Vec::new();
        let mut header = self.header;
        let mut close = |page: &mut PageBuilder| {
            let head = page.close(&mut bytes);
            header.rows += u64::from(head.rows);
            header.digest = head.digest;
        };
        for row in rows {
            if self.page.push(&row) {
                close(&mut self.page);
            }
        }
        if !self.page.is_empty() {
            close(&mut self.page);
        }
        let written = self.write(&bytes, header.committed).and_then(|()| {
            header.committed += bytes.len() as u64;
            header.markers += markers;
            self.commit(header)
        });
        if written.is_err() {
            // These rows are not committed; the next ones overwrite them.
            let (header, names) = self.listing.resume()?;
            self.page = PageBuilder::after(header.rows, header.digest, &names);
        }
        written
    }

    /// Declares that all rows are committed. `markers` were left out behind the last.
    pub fn finish(mut self, markers: u64) -> Result<()> {
        let markers = self.header.markers + markers;
        self.commit(Header { state: State::Complete, markers, ..self.header })?;
        if markers > 0 {
            tracing::info!(
                "the listing leaves out {markers} directory markers (empty, the key ends in '/'); \
                 directory_markers=True keeps them"
            );
        }
        if self.header.committed > self.limit && self.listing.is_current()? {
            tracing::info!(
                "the listing of {} objects takes {} bytes, more than the {} that are kept: the next pass over the data \
                 lists again",
                self.header.rows,
                self.header.committed,
                self.limit
            );
            std::fs::remove_file(self.listing.path()).map_err(|error| self.listing.failed("removed", &error))?;
        }
        Ok(())
    }

    /// Declares that no row follows. `why` is read by the other processes.
    pub fn fail(mut self, why: &[u8]) -> Result<()> {
        self.write(why, self.header.committed)?;
        self.commit(Header { state: State::Failed, failure: why.len() as u64, ..self.header })
    }

    fn commit(&mut self, header: Header) -> Result<()> {
        self.write(&header.to_bytes(), 0)?;
        self.header = header;
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.locked.write_all_at(bytes, offset).map_err(|error| self.listing.failed("written", &error))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // A forked child has the same lock: only its owner may give it back. Closing alone would not do so while a
        // child holds a copy.
        if self.process == std::process::id() {
            let _ = self.locked.unlock();
        }
    }
}

/// Whether two files are one.
pub(super) fn is_same(one: &File, path: &std::path::Path) -> std::io::Result<bool> {
    let (one, other) = (one.metadata()?, std::fs::metadata(path)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
