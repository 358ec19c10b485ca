//! A listing page by page, and what every listing checks so that a server's mistake makes it neither endless nor wrong.

use tokio::time::{Duration, Instant};

use oss_protocol::xml::list::ListObjectsV2Result;

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::list::ListOptions,
    retry::RetryBudget,
};

/// Pages without a key that may follow each other. OSS sends none, but servers that step over deleted keys do.
const MOST_EMPTY_PAGES: usize = 1000;

pub(crate) const DISORDER: &str =
    "the keys of the listing are not in order, or a page does not continue the one before";

/// The pages of one listing, in key order.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    bucket: String,
    options: ListOptions,
    continuation: Option<String>,
    keys: KeyOrder,
    prefixes: KeyOrder,
    done: bool,
}

impl Pages {
    /// Lists `bucket`; nothing is sent before the first page is asked for.
    pub fn new(client: Client, bucket: impl Into<String>, options: ListOptions) -> Self {
        let keys = KeyOrder::after(options.start_after.as_deref());
        Self {
            client,
            bucket: bucket.into(),
            options,
            continuation: None,
            keys,
            prefixes: KeyOrder::after(None),
            done: false,
        }
    }

    /// The next page; `None` after the last. Only the last one may be empty.
    pub async fn next(&mut self) -> Result<Option<ListObjectsV2Result>> {
        if self.done {
            return Ok(None);
        }
        let page = self.next_with_keys().await;
        page.map(Some).map_err(|error| error.on(Some(&self.bucket), Some(&self.options.prefix)))
    }

    async fn next_with_keys(&mut self) -> Result<ListObjectsV2Result> {
        let mut search = PageSearch::new(&self.client);
        loop {
            let mut budget = search.budget(&self.client);
            let continuation = self.continuation.as_deref();
            let page = self.client.list_page_within(&self.bucket, &self.options, continuation, &mut budget).await;
            let page = page.map_err(|error| search.explained(error))?;
            let next = page.next_continuation_token.clone().filter(|token| page.is_truncated && !token.is_empty());
            if page.is_truncated && next.is_none() {
                return Err(stuck());
            }
            check_continuation(next.as_deref(), continuation)?;
            self.keys.check(page.contents.iter().map(|object| object.key.as_str()))?;
            self.prefixes.check(page.common_prefixes.iter().map(String::as_str))?;
            self.done = next.is_none();
            self.continuation = next;
            if self.done || !page.contents.is_empty() || !page.common_prefixes.is_empty() {
                return Ok(page);
            }
            search.found_nothing()?;
        }
    }
}

/// The keys of a listing ascend, from page to page too: so it comes to an end, and names each object once.
#[derive(Debug)]
pub(crate) struct KeyOrder {
    last: String,
}

impl KeyOrder {
    /// Of a listing that begins after this key.
    pub(crate) fn after(start: Option<&str>) -> Self {
        Self { last: start.unwrap_or_default().to_owned() }
    }

    /// Takes in the keys of the next page.
    pub(crate) fn check<'page>(&mut self, keys: impl Iterator<Item = &'page str>) -> Result<()> {
        let mut last: Option<&str> = None;
        for key in keys {
            if key <= last.unwrap_or(&self.last) {
                return Err(ErrorKind::InvalidReply(DISORDER.to_owned()).into());
            }
            last = Some(key);
        }
        if let Some(last) = last {
            last.clone_into(&mut self.last);
        }
        Ok(())
    }
}

/// The search for the next page that has keys, bounded in time and in pages without any.
pub(crate) struct PageSearch {
    started: Instant,
    patience: Duration,
    empty_pages: usize,
}

impl PageSearch {
    pub(crate) fn new(client: &Client) -> Self {
        Self { started: Instant::now(), patience: client.config().total_timeout, empty_pages: 0 }
    }

    /// What the next request may spend.
    pub(crate) fn budget(&self, client: &Client) -> RetryBudget {
        let mut budget = client.budget();
        budget.deadline = self.started + self.patience;
        budget
    }

    /// Notes a page without keys after which another one is said to follow.
    pub(crate) fn found_nothing(&mut self) -> Result<()> {
        self.empty_pages += 1;
        let count = self.empty_pages;
        if count >= MOST_EMPTY_PAGES {
            let text = format!("the listing does not advance: {count} pages without a key followed each other");
            return Err(ErrorKind::InvalidReply(text).into());
        }
        if self.is_over() { Err(self.timeout()) } else { Ok(()) }
    }

    /// The error of a request; if only the pages before it took too long, it says so.
    pub(crate) fn explained(&self, error: Error) -> Error {
        if self.empty_pages > 0 && self.is_over() { self.timeout() } else { error }
    }

    fn is_over(&self) -> bool {
        self.started.elapsed() >= self.patience
    }

    fn timeout(&self) -> Error {
        let (count, seconds) = (self.empty_pages, self.patience.as_secs_f64());
        let text =
            format!("the listing does not advance: {count} pages without a key in {seconds:.1} s; see total_timeout");
        ErrorKind::Timeout(text).into()
    }
}

/// Compares the token of the next page with that of the page before.
pub(crate) fn check_continuation(next: Option<&str>, present: Option<&str>) -> Result<()> {
    // Without this a server's mistake would make the listing endless or, worse, silently short.
    if next.is_some() && next == present { Err(stuck()) } else { Ok(()) }
}

fn stuck() -> Error {
    ErrorKind::InvalidReply("the listing is truncated, but names no next page".to_owned()).into()
}
