//! What a stream prefetches: rows in an order, or the rows of a batch that the caller picked.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use super::PrefixToList;
use crate::{
    catalogue::{Entry, ListingFile, PageFile, Rows, State, StraightReader, Turn},
    error::{Error, ErrorKind, Result},
    order::{Order, Shuffle},
};

/// How often a reader that has read everything looks whether there is more: at first, and after a while. A page takes
/// the service 20 to 50 ms, so the first look is rarely late; fifty looks a second, a system
/// call each, cost a waiting process nothing. No process can notify all others, since none knows them.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));

/// The objects of a stream, in its order. They may become known while they are read.
pub struct Sequence {
    rows: Store,
    choice: Choice,
    /// Position of the next object in the choice.
    next: u64,
    ready: Option<Entry>,
    /// Rows that are known, and whether they are all.
    known: u64,
    complete: bool,
    failed: Option<Error>,
}

enum Store {
    Memory(Arc<Rows>),
    File(Box<Following>),
}

enum Choice {
    Order(Order),
    Picked(Vec<u64>),
}

/// A listing file that is read while it grows. If no other process appends to it, this sequence does.
struct Following {
    file: Arc<PageFile>,
    /// For orders that go straight on.
    reader: StraightReader,
    lister: Option<(Arc<ListingFile>, PrefixToList)>,
    producing: Option<JoinHandle<Result<()>>>,
    /// Notified of each page that this sequence lists.
    progress: Arc<Notify>,
    pause: Duration,
}

impl Drop for Following {
    /// A process that does not read does not list either: the next one that waits takes over.
    fn drop(&mut self) {
        if let Some(producing) = &self.producing {
            producing.abort();
        }
    }
}

impl Sequence {
    /// Rows in memory.
    pub fn rows(rows: Arc<Rows>, order: Order) -> Self {
        let count = rows.count();
        Self::new(Store::Memory(rows), Choice::Order(order), count, true)
    }

    /// Whether these are rows that the caller picked and waits for together.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self.choice, Choice::Picked(_))
    }

    /// Some of the rows in memory, which exist.
    pub fn picked(rows: Arc<Rows>, picks: Vec<u64>) -> Self {
        let count = rows.count();
        Self::new(Store::Memory(rows), Choice::Picked(picks), count, true)
    }

    /// The rows of a file. `lister` appends them if no other process does; it is the file's place and the prefix to
    /// list.
    pub fn file(file: Arc<PageFile>, order: Order, lister: Option<(Arc<ListingFile>, PrefixToList)>) -> Self {
        Self::new(Store::File(Box::new(Following::new(file, lister))), Choice::Order(order), 0, false)
    }

    /// Some of the rows of a file, which are known.
    pub fn picked_from_file(file: Arc<PageFile>, picks: Vec<u64>) -> Self {
        let count = file.progress().rows;
        Self::new(Store::File(Box::new(Following::new(file, None))), Choice::Picked(picks), count, true)
    }

    fn new(rows: Store, choice: Choice, known: u64, complete: bool) -> Self {
        Self { rows, choice, next: 0, ready: None, known, complete, failed: None }
    }

    /// The next object, if it is known.
    pub(super) fn peek(&mut self) -> Option<&Entry> {
        if self.ready.is_none()
            && self.failed.is_none()
            && let Some(index) = self.next_row()
        {
            match self.read(index) {
                Ok(entry) => {
                    self.next += 1;
                    self.ready = Some(entry);
                }
                Err(error) => self.failed = Some(error),
            }
        }
        self.ready.as_ref()
    }

    /// Takes the object that [`Sequence::peek`] showed.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        self.ready.take()
    }

    /// Whether no object is left, known or not.
    pub(super) fn is_exhausted(&self) -> bool {
        self.ready.is_none() && self.failed.is_none() && self.complete && self.next_row().is_none()
    }

    fn next_row(&self) -> Option<u64> {
        match &self.choice {
            Choice::Picked(picks) => picks.get(self.next as usize).copied(),
            Choice::Order(order) if self.complete => {
                (self.next < order.length(self.known)).then(|| order.entry(self.next, self.known))
            }
            Choice::Order(order) => order.entry_among(self.next, self.known),
        }
    }

    fn read(&mut self, index: u64) -> Result<Entry> {
        let straight = matches!(&self.choice, Choice::Order(Order { shuffle: Shuffle::No, .. }));
        match &mut self.rows {
            Store::Memory(rows) => rows.entry(index).ok_or_else(|| missing(index)),
            Store::File(following) if straight => following.reader.entry(index),
            Store::File(following) => following.file.entry(index),
        }
    }

    /// Waits until all rows are known, without reading them.
    pub async fn complete(mut self) -> Result<()> {
        while !self.complete {
            let Store::File(following) = &mut self.rows else { return Ok(()) };
            (self.known, self.complete) = following.advance(self.known).await?;
        }
        Ok(())
    }

    /// Waits until the next object is known or none is left. It may be dropped and called again at any time.
    pub(super) async fn fill(&mut self) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while !self.complete && self.next_row().is_none() {
            let Store::File(following) = &mut self.rows else { return Ok(()) };
            (self.known, self.complete) = following.advance(self.known).await?;
        }
        Ok(())
    }
}

impl Following {
    fn new(file: Arc<PageFile>, lister: Option<(Arc<ListingFile>, PrefixToList)>) -> Self {
        let progress = Arc::new(Notify::new());
        Self { reader: file.reader(), file, lister, producing: None, progress, pause: LOOK_AGAIN.0 }
    }

    /// Waits for more rows than `known`, or for the end; returns how many there are and whether these are all.
    async fn advance(&mut self, known: u64) -> Result<(u64, bool)> {
        loop {
            let progress = self.file.refresh()?;
            if progress.rows > known || progress.state == State::Complete {
                self.pause = LOOK_AGAIN.0;
                return Ok((progress.rows, progress.state == State::Complete));
            }
            if progress.state == State::Failed {
                return Err(Error::new(ErrorKind::Recorded(self.file.failure()?)));
            }
            self.produce_where_nobody_does()?;
            if let Some(producing) = &mut self.producing {
                tokio::select! {
                    () = self.progress.notified() => {}
                    ended = producing => {
                        self.producing = None;
                        ended.map_err(|stopped| Error::new(ErrorKind::Cancelled(stopped.to_string())))??;
                    }
                }
            } else {
                sleep(self.pause).await;
                self.pause = (2 * self.pause).min(LOOK_AGAIN.1);
            }
        }
    }

    fn produce_where_nobody_does(&mut self) -> Result<()> {
        if let Some((listing, prefix)) = self.lister.as_ref().filter(|_| self.producing.is_none())
            && let Turn::Ours(producer) = listing.produce(&self.file)?
        {
            let listing = prefix.clone().list(*producer, Arc::clone(&self.progress));
            self.producing = Some(tokio::spawn(listing));
        }
        Ok(())
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sequence").field("next", &self.next).field("known", &self.known).finish_non_exhaustive()
    }
}

fn missing(index: u64) -> Error {
    Error::new(ErrorKind::Listing(format!("row {index} cannot be read")))
}
