//! The answer to a request, as the rest of the crate sees it.

use http::{StatusCode, header};
use oss_protocol::header as oss_header;

use super::Body;
use crate::{
    credentials::Secrets,
    error::{ErrorKind, Result},
    headers::{Headers, text_of},
};

/// Head of a response, and the body that follows it.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: Headers,
    /// The body, not received yet.
    pub body: Body,
    /// What its texts must not show.
    pub(crate) secrets: Option<Secrets>,
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

    /// CRC-64 of the whole object (also on a partial answer); `None` if the server names none.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if it cannot be read: then nothing shows whether the bytes are right.
    pub fn crc64(&self) -> Result<Option<u64>> {
        let mut read = None;
        for value in self.headers.all(&oss_header::HASH_CRC64ECMA) {
            let digits = text_of(value).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|text| text.parse().ok());
            if number.is_none() || (read.is_some() && read != number) {
                let text = format!(
                    "the answer's {} is not one decimal number, so its bytes cannot be verified; see what changes \
                     headers between here and the service",
                    oss_header::HASH_CRC64ECMA
                );
                return Err(ErrorKind::Integrity(text).into());
            }
            read = number;
        }
        Ok(read)
    }

    /// Id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.header(&oss_header::REQUEST_ID)
    }
}
