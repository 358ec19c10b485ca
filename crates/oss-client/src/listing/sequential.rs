//! One page after the other: exactly as many requests as pages.

use tokio::sync::mpsc::Sender;

use super::{ListingOptions, Target};
use crate::{
    catalogue::Page,
    error::{Error, ErrorKind, Result},
};

/// Sends the pages, or an error as the last.
pub(super) async fn list(target: &Target, options: ListingOptions, sender: &Sender<Page>) {
    if let Err(error) = run(target, options, sender).await {
        // If the receiver was dropped, nobody needs the error.
        let _ = sender.send(Err(error)).await;
    }
}

async fn run(target: &Target, options: ListingOptions, sender: &Sender<Page>) -> Result<()> {
    let mut continuation: Option<String> = None;
    loop {
        let page = target.page(options.start_after.clone(), continuation.as_deref()).await?;
        let entries = target.entries(&page);
        if !entries.is_empty() && sender.send(Ok(entries)).await.is_err() {
            return Ok(());
        }
        if page.continuation.is_none() {
            return Ok(());
        }
        // A mistake of the server must not make the listing endless.
        if page.continuation == continuation {
            return Err(target.stuck());
        }
        continuation = page.continuation;
    }
}

impl Target {
    /// The server says twice that the listing goes on at the same place.
    pub(super) fn stuck(&self) -> Error {
        let text = "the listing is truncated, but does not say where it goes on".to_owned();
        Error::new(ErrorKind::InvalidReply(text)).on(Some(&self.bucket), Some(&self.prefix))
    }
}
