//! Where the objects of a stream come from.

use std::{collections::VecDeque, fmt, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    client::Client,
    error::{Error, Result},
    ops::list::ListOptions,
    paginate::Pages,
};

/// An object to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bucket it lies in.
    pub bucket: Arc<str>,
    /// Its key in the bucket.
    pub key: Box<str>,
    /// Size in bytes, where a listing said so.
    pub size: Option<u64>,
    /// ETag, where a listing said so.
    pub etag: Option<Box<str>>,
    /// Label given by a manifest.
    pub label: Option<Arc<str>>,
}

/// Pages that wait to be read: one being used, one ready, and one more under way in the listing task.
const PAGES_AHEAD: usize = 2;

/// Objects that became known together, or why no more will.
pub type Page = Result<Vec<Entry>>;

/// A sequence of objects, some of which may not be known yet.
pub struct Source {
    ready: VecDeque<Entry>,
    more: More,
}

enum More {
    Entries(Box<dyn Iterator<Item = Entry> + Send>),
    Pages(mpsc::Receiver<Page>),
    Nothing,
}

impl Source {
    /// Objects that are known already.
    pub fn entries(entries: impl Iterator<Item = Entry> + Send + 'static) -> Self {
        Self { ready: VecDeque::new(), more: More::Entries(Box::new(entries)) }
    }

    /// Objects that another thread makes known, page by page; dropping the sender ends them.
    pub fn fed() -> (mpsc::Sender<Page>, Self) {
        let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
        (sender, Self { ready: VecDeque::new(), more: More::Pages(receiver) })
    }

    /// Entry i of the listing of a prefix where `i % count == index`. Listing starts at once.
    pub fn listing(client: Client, bucket: &str, prefix: &str, index: u64, count: u64) -> Self {
        let options = ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() };
        let mut pages = Pages::new(client, bucket, options);
        let bucket: Arc<str> = bucket.into();
        let (sender, source) = Self::fed();
        tokio::spawn(async move {
            let mut position = 0_u64;
            loop {
                let page = match pages.next().await {
                    Ok(None) => return,
                    Ok(Some(page)) => Ok(page
                        .contents
                        .into_iter()
                        .filter_map(|object| {
                            position += 1;
                            ((position - 1) % count == index).then(|| Entry {
                                bucket: Arc::clone(&bucket),
                                key: object.key.into(),
                                size: Some(object.size),
                                etag: Some(object.etag.into()),
                                label: None,
                            })
                        })
                        .collect()),
                    Err(error) => Err(error),
                };
                let failed = page.is_err();
                if sender.send(page).await.is_err() || failed {
                    return;
                }
            }
        });
        source
    }

    /// The next object, where it is known.
    pub(super) fn peek(&mut self) -> Option<&Entry> {
        if self.ready.is_empty()
            && let More::Entries(entries) = &mut self.more
        {
            match entries.next() {
                Some(entry) => self.ready.push_back(entry),
                None => self.more = More::Nothing,
            }
        }
        self.ready.front()
    }

    /// Takes the object that [`Source::peek`] showed.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        self.ready.pop_front()
    }

    /// Whether no object is left, known or not.
    pub(super) fn is_exhausted(&self) -> bool {
        self.ready.is_empty() && matches!(self.more, More::Nothing)
    }

    /// Waits until more objects are known or none is left.
    pub(super) async fn fill(&mut self) -> std::result::Result<(), Error> {
        if let More::Pages(pages) = &mut self.more {
            match pages.recv().await {
                Some(Ok(page)) => self.ready.extend(page),
                Some(Err(error)) => {
                    self.more = More::Nothing;
                    return Err(error);
                }
                None => self.more = More::Nothing,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}
