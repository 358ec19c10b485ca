//! Several segments at once: sends the requests that a [`SegmentedListing`] names, and delivers its pages in order.

use futures_util::{StreamExt, stream::FuturesUnordered};
use oss_protocol::xml::listed::ListedObjects;
use tokio::sync::mpsc::Sender;

use super::{
    ListingOptions, Target,
    segmented::{Disorder, PageRequest, SegmentedListing},
};
use crate::{
    catalogue::Page,
    error::{Error, ErrorKind, Result},
    ops::list::MOST_KEYS,
};

/// Most pages in flight: at 50 ms they are 320 requests and 300,000 keys a second, more than one thread reads objects.
/// An account has 10,000 requests a second for all its processes, and each rank of a job lists for itself.
const MOST_PAGES: usize = 16;

/// Most bytes of rows ahead of the reader: two hundred pages of ordinary keys. Each page in flight may add one more.
const MEMORY: usize = 32 << 20;

/// Sends the pages, or an error as the last.
pub(super) async fn list(target: &Target, options: ListingOptions, sender: &Sender<Page>) {
    let mut listing = SegmentedListing::new(&target.prefix, options.start_after, MOST_KEYS.into(), MEMORY);
    let mut asked = FuturesUnordered::new();
    while !listing.is_done() {
        let most = MOST_PAGES.min(target.client.concurrency().limit());
        while let Some(request) = listing.next(most) {
            asked.push(ask(target, request));
        }
        tokio::select! {
            biased;
            permit = sender.reserve(), if listing.is_ready() => {
                let (Ok(permit), Some(page)) = (permit, listing.pop()) else { return };
                permit.send(page.map(|page| target.entries(&page)));
            }
            Some((segment, answer)) = asked.next(), if !asked.is_empty() => {
                if let Err(Disorder) = listing.answer(segment, answer) {
                    listing.fail(segment, target.disorder());
                }
            }
            // A listing that is not done has a page to deliver or a request in flight.
            else => {
                // If the receiver was dropped, nobody needs the error.
                let _ = sender.send(Err(target.disorder())).await;
                return;
            }
        }
    }
}

async fn ask(target: &Target, request: PageRequest) -> (u64, Result<ListedObjects>) {
    let answer = target.page(request.start_after, request.continuation.as_deref()).await;
    (request.segment, answer)
}

impl Target {
    fn disorder(&self) -> Error {
        let text = "the listing is not in the order of the keys, or does not go on where it ended; \
                    set fast_list=False to list one page after the other";
        Error::new(ErrorKind::InvalidReply(text.to_owned())).on(Some(&self.bucket), Some(&self.prefix))
    }
}
