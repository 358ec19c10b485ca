//! One page after the other: exactly as many requests as pages.

use tokio::sync::mpsc::Sender;

use super::{ListedPrefix, ListingOptions};
use crate::{catalogue::Page, error::Result, paginate::KeyOrder};

/// Sends the pages, or an error as the last.
pub(super) async fn list(listed: &ListedPrefix, options: ListingOptions, sender: &Sender<Page>) {
    if let Err(error) = run(listed, options, sender).await {
        // If the receiver was dropped, nobody needs the error.
        let _ = sender.send(Err(error.on(Some(&listed.bucket), Some(&listed.prefix)))).await;
    }
}

async fn run(listed: &ListedPrefix, options: ListingOptions, sender: &Sender<Page>) -> Result<()> {
    let mut order = KeyOrder::after(options.start_after.as_deref());
    let mut continuation: Option<String> = None;
    loop {
        let page = listed.page(options.start_after.clone(), continuation).await?;
        order.check(page.iter().map(|object| object.key))?;
        let entries = listed.entries(&page);
        if !entries.is_empty() && sender.send(Ok(entries)).await.is_err() {
            return Ok(());
        }
        if page.continuation.is_none() {
            return Ok(());
        }
        continuation = page.continuation;
    }
}
