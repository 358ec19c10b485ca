//! One page after the other: exactly as many requests as pages.

use oss_protocol::xml::listed::ListedObjects;
use tokio::sync::mpsc::Sender;

use super::{ListedPrefix, ListingOptions};
use crate::{error::Result, paginate::KeyOrder};

/// Sends the pages, or an error as the last.
pub(super) async fn list<T>(
    listed: &ListedPrefix,
    options: ListingOptions,
    sender: &Sender<Result<T>>,
    delivered: impl Fn(ListedObjects) -> T,
) {
    if let Err(error) = run(listed, options, sender, delivered).await {
        // If the receiver was dropped, nobody needs the error.
        let _ = sender.send(Err(error.on(Some(&listed.bucket), Some(&listed.prefix)))).await;
    }
}

async fn run<T>(
    listed: &ListedPrefix,
    options: ListingOptions,
    sender: &Sender<Result<T>>,
    delivered: impl Fn(ListedObjects) -> T,
) -> Result<()> {
    let mut order = KeyOrder::after(options.start_after.as_deref());
    let mut continuation: Option<String> = None;
    loop {
        let page = listed.page(options.start_after.clone(), continuation).await?;
        order.check(page.iter().map(|object| object.key))?;
        let next = page.continuation.clone();
        if !page.is_empty() && sender.send(Ok(delivered(page))).await.is_err() {
            return Ok(());
        }
        if next.is_none() {
            return Ok(());
        }
        continuation = next;
    }
}
