//! A listing page by page.

use oss_protocol::xml::list::ListObjectsV2Result;

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::list::ListOptions,
};

/// The pages of one listing, in key order.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    bucket: String,
    options: ListOptions,
    continuation: Option<String>,
    done: bool,
}

impl Pages {
    /// Lists `bucket`; nothing is sent before the first page is asked for.
    pub fn new(client: Client, bucket: impl Into<String>, options: ListOptions) -> Self {
        Self { client, bucket: bucket.into(), options, continuation: None, done: false }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<ListObjectsV2Result>> {
        if self.done {
            return Ok(None);
        }
        let page = self.client.list_page(&self.bucket, &self.options, self.continuation.as_deref()).await?;
        let next = page.next_continuation_token.clone().filter(|token| !token.is_empty());
        if page.is_truncated {
            // Without this a server's mistake would make the listing endless or, worse, silently short.
            if next.is_none() || next == self.continuation {
                let text = "the listing is truncated, but names no next page".to_owned();
                let error = Error::new(ErrorKind::InvalidReply(text));
                return Err(error.on(Some(&self.bucket), Some(&self.options.prefix)));
            }
            self.continuation = next;
        } else {
            self.done = true;
        }
        Ok(Some(page))
    }
}
