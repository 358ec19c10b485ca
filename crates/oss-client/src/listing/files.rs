//! Files of this machine, in the order of their keys.

use tokio::sync::mpsc::Sender;

use super::{ListingOptions, Target};
use crate::{
    catalogue::Page,
    error::Result,
    local::{Walk, on_blocking_thread},
};

/// Files of one page: as many as OSS lists.
const PAGE: usize = 1000;

/// Sends the pages, or an error as the last.
pub(super) async fn list(target: &Target, options: &ListingOptions, sender: &Sender<Page>) {
    if let Err(error) = run(target, options, sender).await {
        // If the receiver was dropped, nobody needs the error.
        let _ = sender.send(Err(error.on(Some(&target.bucket), Some(&target.prefix)))).await;
    }
}

async fn run(target: &Target, options: &ListingOptions, sender: &Sender<Page>) -> Result<()> {
    let (bucket, prefix) = (target.bucket.clone(), target.prefix.clone());
    let mut walk = on_blocking_thread(move || Walk::new(&bucket, &prefix)).await?;
    loop {
        let mut page;
        (walk, page) = on_blocking_thread(move || {
            let page = walk.next(PAGE)?;
            Ok((walk, page))
        })
        .await?;
        if page.is_empty() {
            return Ok(());
        }
        if let Some(start_after) = &options.start_after {
            page.retain(|file| *file.key > **start_after);
        }
        if !page.is_empty() && sender.send(Ok(page)).await.is_err() {
            return Ok(());
        }
    }
}
