//! Writing an object in one request.

use bytes::Bytes;
use http::{HeaderMap, Method};
use oss_protocol::{crc64, header as oss_header};

use super::{incomplete, set_content_type, set_header};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
    transport::Response,
};

/// How an object is stored.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Media type; if absent, `application/octet-stream`.
    pub content_type: Option<String>,
    /// Further headers that describe the object; a media type here wins.
    pub headers: HeaderMap,
    /// Fail if the key exists already.
    pub forbid_overwrite: bool,
}

impl PutOptions {
    pub(crate) fn apply(&self, request: &mut Request) -> Result<()> {
        set_content_type(request, self.content_type.as_deref())?;
        for (name, value) in &self.headers {
            request.headers.insert(name, value.clone());
        }
        self.forbid(request)
    }

    pub(crate) fn forbid(&self, request: &mut Request) -> Result<()> {
        if self.forbid_overwrite {
            set_header(&mut request.headers, oss_header::FORBID_OVERWRITE, "true")?;
        }
        Ok(())
    }
}

impl Client {
    /// Stores an object in one request (at most 5 GB) and returns its ETag.
    ///
    /// The request carries the CRC-64 of the bytes, so the server stores no others; its own CRC-64 is compared.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Bytes, options: &PutOptions) -> Result<String> {
        let checksum = crc64::checksum(&bytes);
        let mut request = Request::object(Method::PUT, bucket, key).with_body(bytes);
        options.apply(&mut request)?;
        set_header(&mut request.headers, oss_header::HASH_CRC64ECMA, &checksum.to_string())?;
        let mut budget = self.budget();
        loop {
            let response = self.send_within(&request, &mut budget).await?;
            match compare_crc64(&request, &response, checksum) {
                Ok(()) => {
                    let etag = response.etag().ok_or_else(|| incomplete(&request, "ETag"))?.to_owned();
                    response.body.finish().await?;
                    return Ok(etag);
                }
                Err(error) => budget.wait_after(error).await?,
            }
        }
    }
}

/// Compares the checksum of the bytes with the server's.
pub(crate) fn compare_crc64(request: &Request, response: &Response, sent: u64) -> Result<()> {
    let compared = match response.crc64() {
        Ok(Some(stored)) if stored != sent => {
            let text = format!("sent bytes with CRC-64 {sent}, the server stored bytes with CRC-64 {stored}");
            Err(Error::new(ErrorKind::Integrity(text)))
        }
        other => other.map(drop),
    };
    compared.map_err(|error| error.on(request.bucket.as_deref(), request.key.as_deref()))
}
