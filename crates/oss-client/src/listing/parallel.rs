//! Several segments at once: sends the requests that a [`SegmentedListing`] names, and delivers its pages in order.

use futures_util::{StreamExt, stream::FuturesUnordered};
use oss_protocol::xml::listed::ListedObjects;
use tokio::sync::mpsc::Sender;

use super::{
    ListedPrefix, ListingOptions,
    segmented::{Disorder, PageRequest, SegmentedListing},
};
use crate::{
    error::{Error, ErrorKind, Result},
    ops::list::MOST_KEYS,
    paginate::DISORDER,
};

/// Most pages in flight: at 50 ms they are 320 requests and 300,000 keys a second, more than one thread reads objects.
/// An account has 10,000 requests a second for all its processes, and each rank of a job lists for itself.
const MOST_PAGES: usize = 16;

/// Most bytes of rows ahead of the reader: two hundred pages of ordinary keys. Each page in flight may add one more.
const MEMORY: usize = 32 << 20;

/// Sends the pages, or an error as the last.
pub(super) async fn list<T>(
    listed: &ListedPrefix,
    options: ListingOptions,
    sender: &Sender<Result<T>>,
    delivered: impl Fn(ListedObjects) -> T,
) {
    let mut listing = SegmentedListing::new(&listed.prefix, options.start_after, MOST_KEYS.into(), MEMORY);
    let mut asked = FuturesUnordered::new();
    while !listing.is_done() {
        let most = MOST_PAGES.min(listed.client.concurrency().limit());
        while let Some(request) = listing.next(most) {
            asked.push(ask(listed, request));
        }
        tokio::select! {
            biased;
            permit = sender.reserve(), if listing.is_ready() => {
                let (Ok(permit), Some(page)) = (permit, listing.pop()) else { return };
                permit.send(page.map(&delivered));
            }
            Some((segment, answer)) = asked.next(), if !asked.is_empty() => {
                if let Err(Disorder) = listing.answer(segment, answer) {
                    listing.fail(segment, listed.disorder());
                }
            }
            // A listing that is not done has a page to deliver or a request in flight.
            else => {
                // If the receiver was dropped, nobody needs the error.
                let _ = sender.send(Err(listed.disorder())).await;
                return;
            }
        }
    }
}

async fn ask(listed: &ListedPrefix, request: PageRequest) -> (u64, Result<ListedObjects>) {
    let answer = listed.page(request.start_after, request.continuation).await;
    (request.segment, answer)
}

impl ListedPrefix {
    fn disorder(&self) -> Error {
        let text = format!("{DISORDER}; set fast_list=False to list one page after the other");
        Error::new(ErrorKind::InvalidReply(text)).on(Some(&self.bucket), Some(&self.prefix))
    }
}
