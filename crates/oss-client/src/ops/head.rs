//! What an object is, without its bytes.

use std::time::SystemTime;

use http::{Method, header};
use oss_protocol::{header as oss_header, time};

use super::incomplete;
use crate::{client::Client, error::Result, request::Request, transport::Response};

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
    /// The description of a part of an object: its size, and the ETag of the whole.
    pub fn of_part(size: u64, etag: impl Into<String>) -> Self {
        let etag = etag.into();
        Self { size, etag, crc64: None, last_modified: None, content_type: None, object_type: None }
    }

    /// Reads the description from the head of an answer that carries the whole object.
    pub(crate) fn of(request: &Request, response: &Response) -> Result<Self> {
        let text = |name| response.header(name).map(str::to_owned);
        Ok(Self {
            size: size_of(response).ok_or_else(|| incomplete(request, "Content-Length"))?,
            etag: response.etag().ok_or_else(|| incomplete(request, "ETag"))?.to_owned(),
            crc64: response.crc64(),
            last_modified: response.header(&header::LAST_MODIFIED).and_then(|text| time::parse_http_date(text).ok()),
            content_type: text(&header::CONTENT_TYPE),
            object_type: text(&oss_header::OBJECT_TYPE),
        })
    }
}

/// The size of an object, so that two of them can be added.
fn size_of(response: &Response) -> Option<u64> {
    response.content_length().filter(|size| i64::try_from(*size).is_ok())
}

impl Client {
    /// Describes an object.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<ObjectMeta> {
        if self.is_local() {
            return self.head_file(bucket, key).await;
        }
        let request = Request::object(Method::HEAD, bucket, key);
        let response = self.send(&request).await?;
        ObjectMeta::of(&request, &response)
    }
}
