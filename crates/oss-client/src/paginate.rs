//! A listing page by page.

use std::time::UNIX_EPOCH;

use oss_protocol::xml::list::{ListObjectsV2Result, ObjectSummary};

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    local::{Walk, on_blocking_thread},
    ops::list::ListOptions,
};

/// Files of one page: as many as OSS lists.
const FILES: usize = 1000;

/// The pages of one listing, in key order.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    bucket: String,
    options: ListOptions,
    continuation: Option<String>,
    /// Where a listing of local files stands; absent before it starts.
    walk: Option<Walk>,
    done: bool,
}

impl Pages {
    /// Lists `bucket`; nothing is sent before the first page is asked for.
    pub fn new(client: Client, bucket: impl Into<String>, options: ListOptions) -> Self {
        Self { client, bucket: bucket.into(), options, continuation: None, walk: None, done: false }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<ListObjectsV2Result>> {
        if self.done {
            return Ok(None);
        }
        if self.client.is_local() {
            return self.next_files().await;
        }
        let page = self.client.list_page(&self.bucket, &self.options, self.continuation.as_deref()).await?;
        let next = page.next_continuation_token.clone().filter(|token| !token.is_empty());
        if page.is_truncated {
            // Without this a server's mistake would make the listing endless or, worse, silently short.
            if next.is_none() || next == self.continuation {
                let text = "the listing is truncated, but does not say where it goes on".to_owned();
                let error = Error::new(ErrorKind::InvalidReply(text));
                return Err(error.on(Some(&self.bucket), Some(&self.options.prefix)));
            }
            self.continuation = next;
        } else {
            self.done = true;
        }
        Ok(Some(page))
    }

    async fn next_files(&mut self) -> Result<Option<ListObjectsV2Result>> {
        let (walk, bucket, prefix) = (self.walk.take(), self.bucket.clone(), self.options.prefix.clone());
        let listed = on_blocking_thread(move || {
            let mut walk = walk.map_or_else(|| Walk::new(&bucket, &prefix), Ok)?;
            let files = walk.next(FILES)?;
            Ok((walk, files))
        });
        let (walk, files) = match listed.await {
            Ok(listed) => listed,
            Err(error) => {
                self.done = true;
                return Err(error.on(Some(&self.bucket), Some(&self.options.prefix)));
            }
        };
        self.walk = Some(walk);
        self.done = files.is_empty();
        let contents = files.into_iter().map(|file| ObjectSummary {
            key: file.key.into(),
            size: file.size.unwrap_or_default(),
            etag: file.etag.unwrap_or_default().into(),
            last_modified: UNIX_EPOCH,
            object_type: String::new(),
            storage_class: String::new(),
            owner: None,
        });
        Ok((!self.done).then(|| ListObjectsV2Result { contents: contents.collect(), ..Default::default() }))
    }
}
