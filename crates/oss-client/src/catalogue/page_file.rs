//! The lower layer of a listing file: a header, and pages that follow each other.
//!
//! The producer first writes a page, then the header that counts it. Readers never look behind the committed bytes.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use oss_protocol::crc64;

use super::{
    entry::Entry,
    page::{HEAD, Head, PageBytes, read_names},
    row,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sync::lock,
};

/// Bytes of the header. The first page follows.
pub(super) const HEADER: u64 = 64;

/// What a listing file begins with; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"OSSLIST1";

/// A header that is being written is wrong for a moment only. One that stays wrong for so long is damaged.
const TORN_HEADER: Duration = Duration::from_secs(1);

/// How far a listing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Rows may follow. Only the lock tells whether a process appends them.
    #[default]
    Running,
    /// All rows are there.
    Complete,
    /// No row follows; why is recorded.
    Failed,
}

/// The header of a listing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) state: State,
    /// Bytes that count, this header included.
    pub(super) committed: u64,
    pub(super) rows: u64,
    pub(super) markers: u64,
    pub(super) digest: u64,
    /// Bytes of the recorded failure, behind what is committed.
    pub(super) failure: u64,
}

impl Default for Header {
    fn default() -> Self {
        Self { state: State::Running, committed: HEADER, rows: 0, markers: 0, digest: 0, failure: 0 }
    }
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(MAGIC);
        let state = match self.state {
            State::Running => 0,
            State::Complete => 1,
            State::Failed => 2,
        };
        let numbers = [state, self.committed, self.rows, self.markers, self.digest, self.failure];
        for (place, number) in bytes[8..56].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let check = crc64::checksum(&bytes[..56]);
        bytes[56..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; HEADER as usize]) -> Option<Self> {
        let (content, check) = bytes.split_at(56);
        let content = content.strip_prefix(MAGIC).filter(|_| crc64::checksum(content).to_le_bytes() == check)?;
        let mut numbers =
            content.chunks_exact(8).map(|number| number.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
        let mut next = || numbers.next();
        let state = match next()? {
            0 => State::Running,
            1 => State::Complete,
            2 => State::Failed,
            _ => return None,
        };
        Some(Self { state, committed: next()?, rows: next()?, markers: next()?, digest: next()?, failure: next()? })
    }
}

/// What a reader can read by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListingProgress {
    /// How far the listing is.
    pub state: State,
    /// Rows known.
    pub rows: u64,
    /// Directory markers left out among them.
    pub markers: u64,
}

/// An open listing file. It can be read by any number of threads, also after it was unlinked.
#[derive(Debug)]
pub struct PageFile {
    file: File,
    path: PathBuf,
    known: Mutex<Known>,
    /// Set once the listing is complete. It is read without a lock, which a fork could copy locked.
    complete: OnceLock<Known>,
}

/// The names of the known pages. A decoder keeps its copy while more are added.
type SharedNames = Arc<Vec<Arc<str>>>;

/// What has been read of the file's structure: 16 bytes for each page.
#[derive(Debug, Default)]
struct Known {
    header: Header,
    pages: Vec<Place>,
    names: SharedNames,
    /// The place of the next page, and the number of its first row.
    end: u64,
    rows: u64,
}

/// The place of a page, and the number of its first row.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    first: u64,
}

/// Reads rows that lie near each other: it keeps the page of the row before.
#[derive(Debug)]
pub struct StraightReader {
    file: Arc<PageFile>,
    page: Option<LoadedPage>,
}

impl StraightReader {
    /// Row `index`, which is known.
    pub fn entry(&mut self, index: u64) -> Result<Entry> {
        if let Some(page) = &self.page
            && let Some(entry) = page.entry(index)
        {
            return Ok(entry);
        }
        let page = self.file.page(index)?;
        self.page.insert(page).entry(index).ok_or_else(|| self.file.damaged())
    }
}

/// A page of a listing file in memory.
#[derive(Debug)]
pub(super) struct LoadedPage {
    page: PageBytes,
    names: SharedNames,
}

impl LoadedPage {
    /// Row `index` of the whole listing, if it lies in this page.
    pub(super) fn entry(&self, index: u64) -> Option<Entry> {
        let inside = index.checked_sub(self.page.head().first)?;
        self.page.entry(usize::try_from(inside).ok()?, &self.names)
    }
}

impl PageFile {
    pub(super) fn new(file: File, path: &Path) -> Self {
        let known = Known { end: HEADER, ..Known::default() };
        Self { file, path: path.to_owned(), known: Mutex::new(known), complete: OnceLock::new() }
    }

    /// The file of a table, which [`Rows::write_to`](super::Rows::write_to) wrote.
    pub fn of_table(path: &Path) -> Result<Self> {
        let file = Self::new(File::open(path).map_err(|error| failed(path, "opened", &error))?, path);
        match file.refresh()?.state {
            State::Complete => Ok(file),
            State::Running | State::Failed => Err(file.damaged()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name still leads to this file.
    pub(super) fn is_current(&self) -> Result<bool> {
        let here = self.file.metadata().map_err(|error| self.failed("read", &error))?;
        if here.nlink() == 0 {
            return Ok(false);
        }
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// Reads the header again; returns how far the listing is.
    pub fn refresh(&self) -> Result<ListingProgress> {
        let mut known = lock(&self.known);
        if self.complete.get().is_none() && known.header.state == State::Running {
            let header = self.read_header()?;
            while known.end < header.committed {
                self.learn_page(&mut known, header.committed)?;
            }
            if known.rows != header.rows {
                return Err(self.damaged());
            }
            known.header = header;
            if header.state == State::Complete {
                // Nobody else sets it, since this is done under the lock.
                let _ = self.complete.set(std::mem::take(&mut *known));
            }
        }
        drop(known);
        Ok(self.progress())
    }

    /// What the last look found.
    pub fn progress(&self) -> ListingProgress {
        let Header { state, rows, markers, .. } = self.with_known(|known| known.header);
        ListingProgress { state, rows, markers }
    }

    fn with_known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        if let Some(known) = self.complete.get() {
            return look(known);
        }
        let known = lock(&self.known);
        look(self.complete.get().unwrap_or(&known))
    }

    fn read_header(&self) -> Result<Header> {
        let started = Instant::now();
        loop {
            let mut bytes = [0; HEADER as usize];
            match self.file.read_exact_at(&mut bytes, 0) {
                Ok(()) => {}
                // The producer has made the file and not written the header yet.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Header::default()),
                Err(error) => return Err(self.failed("read", &error)),
            }
            if let Some(header) = Header::from_bytes(&bytes) {
                return Ok(header);
            }
            // It has written a page or a part of one, and was killed or found the disk full before it wrote the header.
            if bytes == [0; HEADER as usize] {
                return Ok(Header::default());
            }
            if started.elapsed() > TORN_HEADER {
                return Err(self.damaged());
            }
            std::thread::yield_now();
        }
    }

    fn learn_page(&self, known: &mut Known, committed: u64) -> Result<()> {
        let mut bytes = [0; HEAD];
        self.read(&mut bytes, known.end)?;
        let head = Head::from_bytes(&bytes)
            .filter(|head| head.first == known.rows && known.end + head.length() <= committed)
            .ok_or_else(|| self.damaged())?;
        if head.names > 0 {
            let mut text = vec![0; head.names_text as usize];
            self.read(&mut text, known.end + head.names_start())?;
            let names = read_names(&text, head.names).ok_or_else(|| self.damaged())?;
            Arc::make_mut(&mut known.names).extend(names);
        }
        known.pages.push(Place { offset: known.end, first: head.first });
        known.end += head.length();
        known.rows += u64::from(head.rows);
        Ok(())
    }

    /// Row `index`, read alone: for orders that jump.
    pub fn entry(&self, index: u64) -> Result<Entry> {
        let (place, rows, names) = self.find(index)?;
        let inside = index - place.first;
        // The end of the row before and the end of this one. The first row begins at 0.
        let mut ends = [0; 8];
        let at = place.offset + HEAD as u64 + 4 * inside;
        let start = if inside == 0 {
            self.read(&mut ends[4..], at)?;
            0
        } else {
            self.read(&mut ends, at - 4)?;
            u32::from_le_bytes([ends[0], ends[1], ends[2], ends[3]])
        };
        let end = u32::from_le_bytes([ends[4], ends[5], ends[6], ends[7]]);
        let mut bytes = vec![0; end.checked_sub(start).ok_or_else(|| self.damaged())? as usize];
        self.read(&mut bytes, place.offset + HEAD as u64 + 4 * rows + u64::from(start))?;
        row::decode(&bytes, &names).ok_or_else(|| self.damaged())
    }

    /// A reader for orders that go straight on.
    pub fn reader(self: &Arc<Self>) -> StraightReader {
        StraightReader { file: Arc::clone(self), page: None }
    }

    /// The page that row `index` lies in.
    pub(super) fn page(&self, index: u64) -> Result<LoadedPage> {
        let (place, _, names) = self.find(index)?;
        self.load(place, names)
    }

    fn load(&self, place: Place, names: SharedNames) -> Result<LoadedPage> {
        let mut head = [0; HEAD];
        self.read(&mut head, place.offset)?;
        let head = Head::from_bytes(&head).ok_or_else(|| self.damaged())?;
        let mut bytes = vec![0; usize::try_from(head.length()).map_err(|_| self.damaged())?].into_boxed_slice();
        self.read(&mut bytes, place.offset)?;
        let page = PageBytes::new(bytes).ok_or_else(|| self.damaged())?;
        Ok(LoadedPage { page, names })
    }

    /// The page of a row, the number of rows in it, and the names.
    fn find(&self, index: u64) -> Result<(Place, u64, SharedNames)> {
        let found = self.with_known(|known| {
            let after = known.pages.partition_point(|page| page.first <= index);
            let place = *known.pages.get(after.checked_sub(1)?).filter(|_| index < known.header.rows)?;
            let next = known.pages.get(after).map_or(known.header.rows, |page| page.first);
            Some((place, next - place.first, Arc::clone(&known.names)))
        });
        found.ok_or_else(|| {
            Error::new(ErrorKind::Listing(format!("there is no row {index} in {}", self.path.display())))
        })
    }

    /// CRC-64 of the first `count` rows, which are known.
    pub fn digest(&self, count: u64) -> Result<u64> {
        let Some(last) = count.checked_sub(1) else { return Ok(0) };
        let (place, rows, names) = self.find(last)?;
        let before = match place.first {
            0 => 0,
            first => {
                let mut head = [0; HEAD];
                let (place, _, _) = self.find(first - 1)?;
                self.read(&mut head, place.offset)?;
                Head::from_bytes(&head).ok_or_else(|| self.damaged())?.digest
            }
        };
        let loaded = self.load(place, Arc::clone(&names))?;
        let inside = count - place.first;
        if inside == rows {
            return Ok(loaded.page.head().digest);
        }
        loaded.page.digest(before, inside as usize, &names).ok_or_else(|| self.damaged())
    }

    /// What the listing failed with, as it was recorded; the listing has failed.
    pub fn failure(&self) -> Result<Vec<u8>> {
        let header = self.with_known(|known| known.header);
        let mut bytes = vec![0; usize::try_from(header.failure).map_err(|_| self.damaged())?];
        self.read(&mut bytes, header.committed)?;
        Ok(bytes)
    }

    /// What a new producer needs to continue.
    pub(super) fn resume(&self) -> Result<(Header, SharedNames)> {
        self.refresh()?;
        Ok(self.with_known(|known| (known.header, Arc::clone(&known.names))))
    }

    /// All bytes of a complete file, for [`Rows::from_bytes`](super::Rows::from_bytes).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let length = self.with_known(|known| known.header.committed);
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| self.damaged())?];
        self.read(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(),
            _ => self.failed("read", &error),
        })
    }

    pub(super) fn failed(&self, action: &str, error: &io::Error) -> Error {
        failed(&self.path, action, error)
    }

    fn damaged(&self) -> Error {
        let path = self.path.display();
        let text = format!("the listing file {path} is damaged: another program wrote to it, or the disk is failing");
        Error::new(ErrorKind::Listing(text))
    }
}

/// An operation on the disk failed.
pub(super) fn failed(path: &Path, action: &str, error: &io::Error) -> Error {
    let path = path.display();
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space there, or set TMPDIR to a directory with more"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; set TMPDIR to a directory that can be written"
        }
        _ => "; it lies in the directory for temporary files, which TMPDIR sets",
    };
    Error::new(ErrorKind::Listing(format!("the listing file {path} cannot be {action}: {error}{help}")))
}
