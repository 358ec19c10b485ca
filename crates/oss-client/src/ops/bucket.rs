//! Buckets.

use http::Method;
use oss_protocol::{
    error_code::ErrorCode,
    xml::{Document, bucket::ListBucketsResult},
};

use super::{exchange, incomplete};
use crate::{client::Client, error::Result, request::Request};

/// A page of at most 1,000 buckets.
const ANSWER_LIMIT: usize = 4 << 20;

impl Client {
    /// Creates a bucket; one that the same account owns already is left as it is.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let refused = match self.send(&Request::bucket(Method::PUT, bucket)).await {
            Ok(response) => return response.body.finish().await,
            Err(error) if error.code() == Some(&ErrorCode::BucketAlreadyExists) => error,
            Err(error) => return Err(error),
        };
        // OSS says so of all buckets with that name, also of one's own with another storage class. Only to its owner, or
        // to those whom the owner allows it, it describes the bucket.
        match self.send(&Request::bucket(Method::GET, bucket).query("bucketInfo", "")).await {
            Ok(response) => response.body.finish().await,
            Err(_) => Err(refused),
        }
    }

    /// Removes an empty bucket.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        self.send(&Request::bucket(Method::DELETE, bucket)).await?.body.finish().await
    }

    /// Names of the account's buckets.
    pub async fn list_buckets(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut marker = String::new();
        loop {
            let mut request = Request::bucket(Method::GET, "");
            request.bucket = None;
            if !marker.is_empty() {
                request = request.query("marker", marker.as_str());
            }
            let (page, ()) = exchange(self, &request, ANSWER_LIMIT, |_| Ok(()), ListBucketsResult::parse).await?;
            names.extend(page.buckets.into_iter().map(|bucket| bucket.name));
            if !page.is_truncated {
                return Ok(names);
            }
            // The markers ascend. Without this a server's mistake would make the listing endless or silently short.
            marker =
                page.next_marker.filter(|next| *next > marker).ok_or_else(|| incomplete(&request, "NextMarker"))?;
        }
    }
}
