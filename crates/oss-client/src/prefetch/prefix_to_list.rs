//! Listing a prefix into a listing file.

use std::{fmt, sync::Arc};

use tokio::sync::Notify;

use crate::{
    catalogue::{Producer, Row},
    client::Client,
    error::{Error, Result},
    listing::{self, ListingOptions},
};

/// Writes down why a listing failed, for readers in other processes.
pub type RecordFailure = Arc<dyn Fn(&Error) -> Vec<u8> + Send + Sync>;

/// A prefix that the first process that needs its rows will list.
#[derive(Clone)]
pub struct PrefixToList {
    /// Lists.
    pub client: Client,
    /// Bucket.
    pub bucket: String,
    /// What the keys start with.
    pub prefix: String,
    /// Keeps objects that stand for a directory only.
    pub directory_markers: bool,
    /// Writes down a failure.
    pub record: RecordFailure,
}

impl fmt::Debug for PrefixToList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PrefixToList")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl PrefixToList {
    /// Lists to the end, behind the rows that are committed, and notifies `progress` of each page.
    ///
    /// # Errors
    /// Only if the file cannot be written. A failure of the listing is recorded in the file.
    pub(super) async fn list(self, mut producer: Producer, progress: Arc<Notify>) -> Result<()> {
        let start_after = match producer.rows().checked_sub(1) {
            Some(last) => Some(producer.listing().entry(last)?.key.into()),
            None => None,
        };
        let options = ListingOptions { start_after, parallel: self.client.config().fast_list };
        let mut pages = listing::pages(self.client, &self.bucket, &self.prefix, options);
        // Markers behind the last row: a producer that continues after that row meets them again.
        let mut markers = 0;
        while let Some(page) = pages.recv().await {
            let mut page = match page {
                Ok(page) => page,
                Err(error) => {
                    let ended = producer.fail(&(self.record)(&error));
                    progress.notify_one();
                    return ended;
                }
            };
            let listed = page.len();
            let mut behind = 0;
            if !self.directory_markers {
                behind = page.iter().rev().take_while(|entry| entry.is_directory_marker()).count();
                page.retain(|entry| !entry.is_directory_marker());
            }
            if page.is_empty() {
                markers += listed as u64;
                continue;
            }
            producer.append(page.iter().map(Row::from), markers + (listed - page.len() - behind) as u64)?;
            markers = behind as u64;
            progress.notify_one();
        }
        let ended = producer.finish(markers);
        progress.notify_one();
        ended
    }
}
