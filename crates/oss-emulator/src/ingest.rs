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
use crate::store::{Content, ContentWriter, Etag, Store};

/// Largest body of one put, append or part: 5 GB, a limit of the service.
pub(crate) const LARGEST_CONTENT: u64 = 5 * 1024 * 1024 * 1024;

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
    pub(crate) md5: Option<[u8; 16]>,
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
        Some(md5) => Etag::Md5(md5).to_string(),
        None => fast_etag(crc64, size),
    }
}

/// An ETag without an MD5.
pub(crate) fn fast_etag(crc64: u64, size: u64) -> String {
    Etag::Fast { crc64, size }.to_string()
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
    let mut gathering = Gathering::new(store, expected, mode == EtagMode::Md5 || expected_md5.is_some());
    let mut size = 0;
    let mut body = request.take_body().ok_or_else(incomplete)?;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|_| incomplete())?.into_data() else { continue };
        size += bytes.len() as u64;
        let refusal = if size > LARGEST_CONTENT {
            ServiceError::new(ErrorCode::EntityTooLarge)
        } else if let Err(error) = gathering.write(&bytes).await {
            storage(error)
        } else {
            continue;
        };
        request.give_back(body);
        return Err(refusal);
    }
    let digests = gathering.digests();
    if expected_md5.is_some() && expected_md5 != digests.md5 {
        return Err(ServiceError::new(ErrorCode::InvalidDigest));
    }
    if expected_crc.is_some_and(|expected| expected != digests.crc64) {
        return Err(ServiceError::new(ErrorCode::InvalidCRC64));
    }
    let mut received = gathering.finish().await.map_err(storage)?;
    received.md5 = received.md5.filter(|_| mode == EtagMode::Md5);
    Ok(received)
}

/// A body on its way into the store, hashed as it arrives.
#[derive(Debug)]
pub(crate) struct Gathering {
    writer: ContentWriter,
    md5: Option<Md5>,
    crc64: Crc64,
    size: u64,
}

impl Gathering {
    /// `expected` is the announced size.
    pub(crate) fn new(store: &Store, expected: Option<u64>, with_md5: bool) -> Self {
        Self { writer: store.writer(expected), md5: with_md5.then(Md5::new), crc64: Crc64::new(), size: 0 }
    }

    pub(crate) async fn write(&mut self, bytes: &Bytes) -> std::io::Result<()> {
        // The writer is asked first: what it cannot take need not be hashed.
        self.writer.write(bytes).await?;
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        self.crc64.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn digests(&self) -> Digests {
        let md5 = self.md5.clone().map(|md5| md5.finalize().into());
        Digests { crc64: self.crc64.value(), md5, size: self.size }
    }

    pub(crate) async fn finish(self) -> std::io::Result<Received> {
        let Digests { crc64, md5, .. } = self.digests();
        Ok(Received { content: self.writer.finish().await?, crc64, md5 })
    }
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
