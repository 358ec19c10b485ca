//! The objects under a prefix, page by page in key order: one request after the other, or in several places of the key
//! space at once.

mod files;
mod key_space;
mod parallel;
mod plan;
mod sequential;

use std::sync::Arc;

use oss_protocol::xml::listed::ListedObjects;
use tokio::sync::mpsc;

use crate::{
    catalogue::{Entry, Page},
    client::Client,
    error::Result,
};

/// How to list.
#[derive(Clone, Debug)]
pub struct ListingOptions {
    /// Only keys after this one.
    pub start_after: Option<String>,
    /// Lists in several places at once, for at most a tenth more requests and 64.
    pub parallel: bool,
}

/// Pages that wait to be received: one being used and one ready.
const PAGES_READY: usize = 2;

/// Lists a prefix: its objects in key order, each once, without empty pages. Needs a tokio runtime; nothing is sent
/// after the receiver is dropped. An error is the last page, after everything before it.
pub fn pages(client: Client, bucket: &str, prefix: &str, options: ListingOptions) -> mpsc::Receiver<Page> {
    let (sender, receiver) = mpsc::channel(PAGES_READY);
    let target = Target { client, bucket: bucket.into(), prefix: prefix.to_owned() };
    tokio::spawn(async move {
        let listed = async {
            if target.client.is_local() {
                files::list(&target, &options, &sender).await;
            } else if options.parallel {
                parallel::list(&target, options, &sender).await;
            } else {
                sequential::list(&target, options, &sender).await;
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
struct Target {
    client: Client,
    bucket: Arc<str>,
    prefix: String,
}

impl Target {
    async fn page(&self, start_after: Option<String>, continuation: Option<&str>) -> Result<ListedObjects> {
        let options = crate::ops::list::ListOptions { prefix: self.prefix.clone(), start_after, ..Default::default() };
        self.client.list_packed(&self.bucket, &options, continuation).await
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
