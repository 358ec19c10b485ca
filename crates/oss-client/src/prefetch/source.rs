//! Where the objects of a stream come from: rows, in an order.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use super::Prefix;
use crate::{
    catalogue::{Entry, Listing, ListingFile, Rows, State, StraightReader, Turn},
    error::{Error, ErrorKind, Result},
    order::{Order, Shuffle},
};

/// How often a reader that has read everything looks whether there is more: at first, and after a while. A page takes
/// the service 20 to 50 ms, so the first look is rarely late by a part worth mentioning; fifty looks a second, a system
/// call each, cost a waiting process nothing. It is not told instead, since no process knows all others.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));

/// The objects of a stream, in its order. They may become known while they are read.
pub struct Source {
    rows: Store,
    plan: Plan,
    /// Position of the next object in the plan.
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

enum Plan {
    Order(Order),
    Rows(Vec<u64>),
}

/// A listing file that is read while it grows, and that this source makes grow where nobody else does.
struct Following {
    file: Arc<ListingFile>,
    /// For orders that go straight on.
    reader: StraightReader,
    lister: Option<(Arc<Listing>, Prefix)>,
    producing: Option<JoinHandle<Result<()>>>,
    /// Told of each page that this source lists.
    progress: Arc<Notify>,
    pause: Duration,
}

impl Drop for Following {
    /// Who does not read does not list: the next one who waits takes over.
    fn drop(&mut self) {
        if let Some(producing) = &self.producing {
            producing.abort();
        }
    }
}

impl Source {
    /// Rows in memory.
    pub fn rows(rows: Arc<Rows>, order: Order) -> Self {
        let count = rows.count();
        Self::new(Store::Memory(rows), Plan::Order(order), count, true)
    }

    /// Whether these are rows that somebody picked, and waits for together.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self.plan, Plan::Rows(_))
    }

    /// Some of the rows in memory, which exist.
    pub fn picked(rows: Arc<Rows>, picks: Vec<u64>) -> Self {
        let count = rows.count();
        Self::new(Store::Memory(rows), Plan::Rows(picks), count, true)
    }

    /// The rows of a file, which `lister` makes known where no other process does: the listing that the file is of, and
    /// the prefix to list.
    pub fn file(file: Arc<ListingFile>, order: Order, lister: Option<(Arc<Listing>, Prefix)>) -> Self {
        Self::new(Store::File(Box::new(Following::new(file, lister))), Plan::Order(order), 0, false)
    }

    /// Some of the rows of a file, which are known.
    pub fn picked_from_file(file: Arc<ListingFile>, picks: Vec<u64>) -> Self {
        let count = file.progress().rows;
        Self::new(Store::File(Box::new(Following::new(file, None))), Plan::Rows(picks), count, true)
    }

    fn new(rows: Store, plan: Plan, known: u64, complete: bool) -> Self {
        Self { rows, plan, next: 0, ready: None, known, complete, failed: None }
    }

    /// The next object, where it is known.
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

    /// Takes the object that [`Source::peek`] showed.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        self.ready.take()
    }

    /// Whether no object is left, known or not.
    pub(super) fn is_exhausted(&self) -> bool {
        self.ready.is_none() && self.failed.is_none() && self.complete && self.next_row().is_none()
    }

    fn next_row(&self) -> Option<u64> {
        match &self.plan {
            Plan::Rows(picks) => picks.get(self.next as usize).copied(),
            Plan::Order(order) if self.complete => {
                (self.next < order.length(self.known)).then(|| order.entry(self.next, self.known))
            }
            Plan::Order(order) => order.entry_among(self.next, self.known),
        }
    }

    fn read(&mut self, index: u64) -> Result<Entry> {
        let straight = matches!(&self.plan, Plan::Order(Order { shuffle: Shuffle::No, .. }));
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
    fn new(file: Arc<ListingFile>, lister: Option<(Arc<Listing>, Prefix)>) -> Self {
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

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("next", &self.next).field("known", &self.known).finish_non_exhaustive()
    }
}

fn missing(index: u64) -> Error {
    Error::new(ErrorKind::Listing(format!("row {index} cannot be read")))
}
