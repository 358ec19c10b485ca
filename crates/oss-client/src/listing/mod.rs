//! The objects under a prefix, page by page in key order.
//!
//! There are three ways: files (`files.rs`), one request after the other (`sequential.rs`), and several segments of the
//! key space at once (`parallel.rs`), which this page describes. The service lists a page of 1,000 keys in 20 to 50 ms,
//! and names the next page only in its answer. So a sequential listing of a million objects takes most of a minute. But
//! a listing may begin after any key, whether such a key exists or not:
//!
//! ```text
//!   keys   a………………………c………………………f………………………m………………………z
//!   first  ├─page─page─ …
//!   split  ├─page─page─ … ─┤├─page─ …        a guess: about 3 pages ahead
//!   later  ├───────┤├──────┤├──────────┤├───────── …        longer segments, at most 12 pages
//!          delivered in key order; later segments wait in memory, at most 32 MiB
//! ```
//!
//! The life of one request:
//!
//! 1. `SegmentedListing` holds all state and does no I/O. It is asked which page to request next, while fewer than 16
//!    are in flight (`MOST_PAGES`: that is more than one thread can read objects) and memory allows.
//! 2. If a segment is idle, its next page is requested; segments near the reader come first.
//! 3. If all are busy, a long one is split. `KeySpace` reads keys as numbers in the alphabet that was seen at each
//!    position. From the pages that are known it estimates how far apart keys lie, and names the key that should lie
//!    some pages ahead. The new segment begins with a full page after that key, so a request that finds keys is not
//!    wasted.
//! 4. A guess can miss: then one request finds nothing, or the segment before ends with a page that reads into the next
//!    one. That is at most one wasted request for each segment. The number of segments is bounded (`FREE_SEGMENTS`, and
//!    one for each `PAGES_PER_SEGMENT` pages), so n pages take at most 1.1 n + 64 requests.
//! 5. An answer is checked: its keys must ascend and come after those before, and pages without keys are bounded in
//!    number and time. If keys do not ascend, the listing fails, with the advice to list sequentially; nothing is ever
//!    skipped or delivered twice.
//! 6. Keys after the segment's end belong to the next segment; they are cut off. Pages wait until all before them have
//!    been delivered, and go through a channel of two pages to the reader.

mod files;
mod key_space;
mod parallel;
mod segmented;
mod sequential;

use std::sync::Arc;

use oss_protocol::xml::listed::ListedObjects;
use tokio::sync::mpsc;

use crate::{
    catalogue::{Entry, Page},
    client::Client,
    error::{Error, Result},
    paginate::{PageSearch, check_continuation},
};

/// How to list.
#[derive(Clone, Debug)]
pub struct ListingOptions {
    /// Only keys after this one.
    pub start_after: Option<String>,
    /// Lists several segments at once, for at most a tenth more requests and 64.
    pub parallel: bool,
}

/// Pages that wait to be received: one being used and one ready.
const PAGES_READY: usize = 2;

/// Lists a prefix: its objects in key order, each once, without empty pages. Needs a tokio runtime; nothing is sent
/// after the receiver is dropped. An error is the last page, after everything before it.
pub fn pages(client: Client, bucket: &str, prefix: &str, options: ListingOptions) -> mpsc::Receiver<Page> {
    let (sender, receiver) = mpsc::channel(PAGES_READY);
    let listed = ListedPrefix { client, bucket: bucket.into(), prefix: prefix.to_owned(), detailed: false };
    tokio::spawn(async move {
        let listed = async {
            let entries = |page: ListedObjects| listed.entries(&page);
            if listed.client.is_local() {
                files::list(&listed, &options, &sender).await;
            } else if options.parallel {
                parallel::list(&listed, options, &sender, entries).await;
            } else {
                sequential::list(&listed, options, &sender, entries).await;
            }
        };
        tokio::select! {
            () = sender.closed() => {}
            () = listed => {}
        }
    });
    receiver
}

/// [`pages`] as the service says them, with the details of each object. Files of this machine have none.
pub fn detailed_pages(
    client: Client,
    bucket: &str,
    prefix: &str,
    options: ListingOptions,
) -> mpsc::Receiver<Result<ListedObjects>> {
    let (sender, receiver) = mpsc::channel(PAGES_READY);
    let listed = ListedPrefix { client, bucket: bucket.into(), prefix: prefix.to_owned(), detailed: true };
    tokio::spawn(async move {
        let listed = async {
            if options.parallel {
                parallel::list(&listed, options, &sender, |page| page).await;
            } else {
                sequential::list(&listed, options, &sender, |page| page).await;
            }
        };
        tokio::select! {
            () = sender.closed() => {}
            () = listed => {}
        }
    });
    receiver
}

/// What is listed, and through which client.
struct ListedPrefix {
    client: Client,
    bucket: Arc<str>,
    prefix: String,
    /// Whether pages have details.
    detailed: bool,
}

impl ListedPrefix {
    /// The next page that has keys, or the last one.
    async fn page(&self, start_after: Option<String>, mut continuation: Option<String>) -> Result<ListedObjects> {
        let options = crate::ops::list::ListOptions { prefix: self.prefix.clone(), start_after, ..Default::default() };
        let mut search = PageSearch::new(&self.client);
        loop {
            let mut budget = search.budget(&self.client);
            let asked = continuation.as_deref();
            let listed =
                self.client.list_packed_within(&self.bucket, &options, asked, self.detailed, &mut budget).await;
            let on = |error: Error| error.on(Some(&self.bucket), Some(&self.prefix));
            let page = listed.map_err(|error| on(search.explained(error)))?;
            check_continuation(page.continuation.as_deref(), continuation.as_deref()).map_err(on)?;
            if !page.is_empty() || page.continuation.is_none() {
                return Ok(page);
            }
            search.found_nothing().map_err(on)?;
            continuation = page.continuation;
        }
    }

    fn entries(&self, page: &ListedObjects) -> Vec<Entry> {
        page.iter()
            .map(|object| Entry {
                bucket: Arc::clone(&self.bucket),
                key: object.key.into(),
                size: Some(object.size),
                etag: Some(object.etag.into()),
                label: None,
                span: None,
            })
            .collect()
    }
}
