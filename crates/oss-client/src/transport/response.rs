//! The answer to a request, as the rest of the crate sees it.

use http::{StatusCode, header};
use oss_protocol::header as oss_header;

use super::Body;
use crate::headers::Headers;

/// Head of a response, and the body that follows it.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: Headers,
    /// The body, not received yet.
    pub body: Body,
}

impl Response {
    /// Text of a header, if it is present and readable.
    pub fn header(&self, name: &http::HeaderName) -> Option<&str> {
        self.headers.text(name)
    }

    /// Length of the body that the server announced.
    pub fn content_length(&self) -> Option<u64> {
        self.header(&header::CONTENT_LENGTH)?.parse().ok()
    }

    /// `ETag` as sent, quotes included.
    pub fn etag(&self) -> Option<&str> {
        self.header(&header::ETAG)
    }

    /// CRC-64 of the whole object (also on a partial answer).
    pub fn crc64(&self) -> Option<u64> {
        self.header(&oss_header::HASH_CRC64ECMA)?.parse().ok()
    }

    /// Id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.header(&oss_header::REQUEST_ID)
    }
}
