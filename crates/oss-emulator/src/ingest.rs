//! Bodies of requests: gathered and hashed as they arrive, and checked against what the client said of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, header as standard};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use md5::{Digest, Md5};
use oss_protocol::crc64::Crc64;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use crate::body::ResponseBody;
use crate::config::EtagMode;
use crate::request::Request;
use crate::response::ServiceError;
use crate::store::{Content, Store};

/// Largest body of one put, append or part: 5 GB, a limit of the service.
const LARGEST_CONTENT: u64 = 5 * 1024 * 1024 * 1024;

/// A body that has arrived in full and agrees with its checksums.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) content: Content,
    pub(crate) crc64: u64,
    /// Unless nobody needed it.
    pub(crate) md5: Option<[u8; 16]>,
}

impl Received {
    /// The ETag with its quotes.
    pub(crate) fn etag(&self) -> String {
        etag(self.md5, self.crc64, self.content.size())
    }
}

/// The checksums of content that is already in the store.
#[derive(Debug)]
pub(crate) struct Digests {
    pub(crate) crc64: u64,
    md5: Option<[u8; 16]>,
    size: u64,
}

impl Digests {
    pub(crate) async fn of(content: &Content, mode: EtagMode) -> Result<Self, ServiceError> {
        let mut md5 = (mode == EtagMode::Md5).then(Md5::new);
        let mut crc64 = Crc64::new();
        let mut body = ResponseBody::content(content.clone());
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(storage)?.into_data() else { continue };
            if let Some(md5) = &mut md5 {
                md5.update(&bytes);
            }
            crc64.update(&bytes);
            // Hashing a gigabyte in one go would stall every other connection of the thread.
            tokio::task::yield_now().await;
        }
        Ok(Self { crc64: crc64.value(), md5: md5.map(|md5| md5.finalize().into()), size: content.size() })
    }

    /// The ETag with its quotes.
    pub(crate) fn etag(&self) -> String {
        etag(self.md5, self.crc64, self.size)
    }
}

fn etag(md5: Option<[u8; 16]>, crc64: u64, size: u64) -> String {
    match md5 {
        Some(md5) => quoted_md5(md5),
        None => fast_etag(crc64, size),
    }
}

/// An MD5 as an ETag: uppercase, with quotes.
fn quoted_md5(md5: [u8; 16]) -> String {
    format!("\"{:032X}\"", u128::from_be_bytes(md5))
}

/// An ETag without an MD5.
pub(crate) fn fast_etag(crc64: u64, size: u64) -> String {
    format!("\"{crc64:016X}{size:016X}\"")
}

/// Receives the content of an object or a part.
pub(crate) async fn receive(
    request: &mut Request<'_>,
    store: &Store,
    mode: EtagMode,
) -> Result<Received, ServiceError> {
    let expected = request.content_length()?;
    if expected.is_none() && !request.headers.contains_key(standard::TRANSFER_ENCODING) {
        return Err(ServiceError::new(ErrorCode::MissingContentLength));
    }
    if expected.is_some_and(|size| size > LARGEST_CONTENT) {
        return Err(ServiceError::new(ErrorCode::EntityTooLarge));
    }
    let expected_md5 = content_md5(request)?;
    let expected_crc = expected_crc64(request)?;
    let mut md5 = (mode == EtagMode::Md5 || expected_md5.is_some()).then(Md5::new);
    let mut crc64 = Crc64::new();
    let mut size = 0;
    let mut writer = store.writer(expected);
    let mut body = request.take_body().ok_or_else(incomplete)?;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|_| incomplete())?.into_data() else { continue };
        size += bytes.len() as u64;
        if size > LARGEST_CONTENT {
            return Err(ServiceError::new(ErrorCode::EntityTooLarge));
        }
        if let Some(md5) = &mut md5 {
            md5.update(&bytes);
        }
        crc64.update(&bytes);
        writer.write(&bytes).await.map_err(storage)?;
    }
    let md5: Option<[u8; 16]> = md5.map(|md5| md5.finalize().into());
    if expected_md5.is_some() && expected_md5 != md5 {
        return Err(ServiceError::new(ErrorCode::InvalidDigest));
    }
    if expected_crc.is_some_and(|expected| expected != crc64.value()) {
        return Err(ServiceError::new(ErrorCode::InvalidCRC64));
    }
    let content = writer.finish().await.map_err(storage)?;
    let md5 = md5.filter(|_| mode == EtagMode::Md5);
    Ok(Received { content, crc64: crc64.value(), md5 })
}

/// Receives a small body, such as an XML document.
pub(crate) async fn receive_document(request: &mut Request<'_>, limit: usize) -> Result<Bytes, ServiceError> {
    let expected_md5 = content_md5(request)?;
    let body: Incoming = request.take_body().ok_or_else(incomplete)?;
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(ServiceError::new(ErrorCode::MalformedXML).with_message("The body is too large."));
        }
        Err(_) => return Err(incomplete()),
    };
    if expected_md5.is_some_and(|expected| expected != <[u8; 16]>::from(Md5::digest(&bytes))) {
        return Err(ServiceError::new(ErrorCode::InvalidDigest));
    }
    Ok(bytes)
}

fn content_md5(request: &Request<'_>) -> Result<Option<[u8; 16]>, ServiceError> {
    let name = HeaderName::from_static("content-md5");
    let Some(text) = request.header(&name)? else { return Ok(None) };
    match STANDARD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) {
        Some(md5) => Ok(Some(md5)),
        None => Err(ServiceError::new(ErrorCode::InvalidDigest)
            .with_message("The Content-MD5 you specified is invalid.")
            .with_field("Content-MD5", text)),
    }
}

fn expected_crc64(request: &Request<'_>) -> Result<Option<u64>, ServiceError> {
    let Some(text) = request.header(&header::HASH_CRC64ECMA)? else { return Ok(None) };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(ServiceError::invalid_argument(header::HASH_CRC64ECMA.as_str(), text)),
    }
}

fn incomplete() -> ServiceError {
    ServiceError::new(ErrorCode::IncompleteBody)
}

fn storage(error: std::io::Error) -> ServiceError {
    crate::store::StoreError::Io(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_have_32_digits_in_quotes() {
        assert_eq!(quoted_md5(Md5::digest(b"hello world").into()), "\"5EB63BBBE01EEED093CB22BB8F5ACDC3\"");
        assert_eq!(fast_etag(0xABC, 17), "\"0000000000000ABC0000000000000011\"");
    }
}
