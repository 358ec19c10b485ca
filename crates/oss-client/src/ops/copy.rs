//! Copying inside the service.

use http::Method;
use oss_protocol::{canonical, error_code::ErrorCode, header as oss_header, xml::multipart::CopyObjectResult};

use super::{parse_body, set_header};
use crate::{client::Client, error::Result, http::Request};

/// A copy's answer holds an ETag and a date.
const ANSWER_LIMIT: usize = 64 << 10;

impl Client {
    /// Copies an object of at most 1 GB, in the same region; returns the ETag of the copy.
    pub async fn copy(&self, source_bucket: &str, source_key: &str, bucket: &str, key: &str) -> Result<String> {
        let mut request = Request::object(Method::PUT, bucket, key);
        let source = format!("/{source_bucket}/{}", canonical::encode_path(source_key));
        set_header(&mut request.headers, oss_header::COPY_SOURCE, &source)?;
        let response = self.send(&request).await.map_err(|error| {
            // "NoSuchKey" about the destination would mislead.
            let of_source = error.code() == Some(&ErrorCode::NoSuchKey);
            if of_source { error.about(source_bucket, source_key) } else { error }
        })?;
        let result = parse_body(&request, response, ANSWER_LIMIT, CopyObjectResult::parse).await?;
        Ok(result.etag)
    }
}
