//! The description of an object.

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode, header};
use oss_protocol::{header as oss_header, range::ContentRange, time};

use super::incomplete;
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
    transport::Response,
};

/// Description of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Size in bytes.
    pub size: u64,
    /// ETag, quotes included, as it is sent back in `If-Match`.
    pub etag: String,
    /// CRC-64 of the content, which OSS stores for every object it received whole.
    pub crc64: Option<u64>,
    /// When the object was last written.
    pub last_modified: Option<SystemTime>,
    /// Media type.
    pub content_type: Option<String>,
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    pub object_type: Option<String>,
}

impl ObjectMeta {
    /// The description of a span of an object: its size, and the ETag of the whole.
    pub fn of_span(size: u64, etag: impl Into<String>) -> Self {
        let etag = etag.into();
        Self { size, etag, crc64: None, last_modified: None, content_type: None, object_type: None }
    }

    /// Reads the description of an object of `size` bytes from the head of an answer about the whole of it.
    pub(crate) fn of(request: &Request, response: &Response, size: u64) -> Result<Self> {
        let text = |name| response.header(name).map(str::to_owned);
        let on = |error: Error| error.on(request.bucket.as_deref(), request.key.as_deref());
        Ok(Self {
            size,
            etag: response.etag().ok_or_else(|| incomplete(request, "ETag"))?.to_owned(),
            crc64: response.crc64().map_err(on)?,
            last_modified: response.header(&header::LAST_MODIFIED).and_then(|text| time::parse_http_date(text).ok()),
            content_type: text(&header::CONTENT_TYPE),
            object_type: text(&oss_header::OBJECT_TYPE),
        })
    }
}

/// The size of an object if the answer names it, so that two of them can be added.
pub(super) fn size_of(response: &Response) -> Option<u64> {
    response.content_length().filter(|size| i64::try_from(*size).is_ok())
}

impl Client {
    /// Describes an object.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta> {
        self.head_if(bucket, key, HeaderMap::new()).await
    }

    /// Describes an object if it meets conditions: `If-Match`, `If-None-Match`, `If-Modified-Since` and
    /// `If-Unmodified-Since`.
    pub async fn head_if(&self, bucket: &str, key: &str, conditions: HeaderMap) -> Result<ObjectMeta> {
        if self.is_local() {
            if conditions.is_empty() {
                return self.head_file(bucket, key).await;
            }
            let text = "conditions are for objects of OSS, but objects are files of this machine here: leave them out";
            return Err(Error::new(ErrorKind::Config(text.to_owned())).on(Some(bucket), Some(key)));
        }
        let mut request = Request::object(Method::HEAD, bucket, key);
        request.headers = conditions;
        let response = self.send(&request).await?;
        self.described(&request, &response).await
    }

    /// The description in the head of an answer about a whole object. Proxies may leave its size out; then it costs a
    /// request.
    pub(super) async fn described(&self, request: &Request, response: &Response) -> Result<ObjectMeta> {
        let size = match size_of(response) {
            Some(size) => size,
            None if response.header(&header::CONTENT_LENGTH).is_some() => {
                return Err(incomplete(request, "Content-Length"));
            }
            // Boxed, because it is rare and would make each object's future larger.
            None => Box::pin(self.size_by_range(request, response)).await?,
        };
        ObjectMeta::of(request, response, size)
    }

    /// The size of an object, as the range of its first byte names it.
    async fn size_by_range(&self, request: &Request, response: &Response) -> Result<u64> {
        let (Some(etag), Some(bucket), Some(key)) = (response.etag(), &request.bucket, &request.key) else {
            return Err(incomplete(request, "ETag"));
        };
        let first = Request::object(Method::GET, bucket, key);
        match self.request_range(&first, etag, 0, 1, &mut self.budget()).await {
            Ok(range) => {
                let named = range.header(&header::CONTENT_RANGE).and_then(ContentRange::parse).map(|range| range.total);
                let size = named.or_else(|| size_of(&range)).filter(|size| i64::try_from(*size).is_ok());
                size.ok_or_else(|| incomplete(request, "Content-Length"))
            }
            Err(error) if error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => Ok(0),
            Err(error) => Err(error),
        }
    }
}
