//! Writing an object in one request.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use oss_protocol::{crc64, header as oss_header};

use super::{incomplete, set_header};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
    transport::Response,
};

/// How an object is stored.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Headers that describe the object. Without a media type it is `application/octet-stream`.
    pub headers: HeaderMap,
    /// Fail if the key exists already.
    pub forbid_overwrite: bool,
}

impl PutOptions {
    /// The headers of a write in one request.
    fn apply(&self, request: &mut Request) -> Result<()> {
        request.headers.extend(self.headers.clone());
        set_default_type(&mut request.headers);
        self.forbid(request)
    }

    /// The headers of the first request of an upload in parts.
    pub(crate) fn apply_to_first(&self, request: &mut Request) -> Result<()> {
        self.apply(request)?;
        request.headers.remove(oss_header::OBJECT_ACL);
        Ok(())
    }

    /// The headers of the last request of an upload in parts. It is the one that takes the access rule:
    /// <https://www.alibabacloud.com/help/en/oss/developer-reference/completemultipartupload>.
    pub(crate) fn apply_to_last(&self, request: &mut Request) -> Result<()> {
        if let Some(rule) = self.headers.get(oss_header::OBJECT_ACL) {
            request.headers.insert(oss_header::OBJECT_ACL, rule.clone());
        }
        self.forbid(request)
    }

    fn forbid(&self, request: &mut Request) -> Result<()> {
        if self.forbid_overwrite {
            set_header(&mut request.headers, oss_header::FORBID_OVERWRITE, "true")?;
        }
        Ok(())
    }
}

/// What a write without a media type stores.
fn set_default_type(headers: &mut HeaderMap) {
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.entry(header::CONTENT_TYPE).or_insert(octets);
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
