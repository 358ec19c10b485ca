//! Reading objects, whole or by range. A broken body is resumed at its next byte; length and checksum are compared.

use std::time::Instant;

use http::{Method, StatusCode, header};
use oss_protocol::{crc64::Crc64, header as oss_header, range::ContentRange};

use super::{head::ObjectMeta, incomplete, set_header};
use crate::{
    buffer::PooledBuffer,
    client::Client,
    error::{Error, ErrorKind, Result, too_large},
    request::Request,
    retry::RetryBudget,
    traffic,
    transport::Response,
};

/// What becomes of the next bytes of a range.
#[derive(Debug)]
pub enum Part<'buffer> {
    /// They are wanted.
    Keep(&'buffer mut [u8]),
    /// So many of them lie between two that are.
    Skip(usize),
}

impl Part<'_> {
    /// Number of bytes.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Keep(buffer) => buffer.len(),
            Self::Skip(length) => *length,
        }
    }
}

/// A fetched object.
#[derive(Debug)]
pub struct FetchedObject {
    /// What it is.
    pub meta: ObjectMeta,
    /// Its bytes; `None` if it is larger than the caller wanted to hold.
    pub bytes: Option<PooledBuffer>,
}

impl Client {
    /// Fetches an object whole, unless it is larger than `limit` bytes; then only its description.
    ///
    /// Length and CRC-64 are verified. A broken body is resumed at its next byte, with the same ETag.
    pub async fn get(&self, bucket: &str, key: &str, limit: u64) -> Result<FetchedObject> {
        self.get_where(bucket, key, move |size| size <= limit).await
    }

    /// [`Client::get`] of an object whose size is `wanted`: it is asked for each size that the service names, and once
    /// more if the object has been replaced.
    pub(crate) async fn get_where(
        &self,
        bucket: &str,
        key: &str,
        mut wanted: impl FnMut(u64) -> bool + Send + 'static,
    ) -> Result<FetchedObject> {
        if self.is_local() {
            return self.get_file(bucket, key, wanted).await;
        }
        let mut budget = self.budget();
        let request = Request::object(Method::GET, bucket, key);
        loop {
            let response = self.send_within(&request, &mut budget).await?;
            let meta = ObjectMeta::of(&request, &response)?;
            if !wanted(meta.size) {
                return Ok(FetchedObject { meta, bytes: None });
            }
            let Some(mut bytes) = usize::try_from(meta.size).ok().and_then(|size| self.buffers().take(size)) else {
                return Err(too_large(meta.size).on(Some(bucket), Some(key)));
            };
            let checked =
                match self.fill(&request, response, &meta.etag, 0, &mut [Part::Keep(&mut bytes)], &mut budget).await {
                    Ok(checksum) => verify(&meta, checksum),
                    Err(error) => Err(error),
                };
            match checked {
                Ok(()) => return Ok(FetchedObject { meta, bytes: Some(bytes) }),
                // Replaced while being read: nothing has been handed out, so the new object can be read instead.
                Err(error) if matches!(error.kind(), ErrorKind::Changed(_)) => {
                    budget.wait_after(retryable_change(&error)).await?;
                }
                Err(error) => budget.wait_after(error.on(Some(bucket), Some(key))).await?,
            }
        }
    }

    /// Fills `buffer` from byte `start` of an object whose ETag is `etag`; returns the CRC-64 of those bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] if the object has been replaced by now.
    pub async fn get_range(&self, bucket: &str, key: &str, etag: &str, start: u64, buffer: &mut [u8]) -> Result<u64> {
        self.get_parts(bucket, key, etag, start, &mut [buffer]).await
    }

    /// [`Client::get_range`] into several buffers that follow each other: one request fills all.
    pub async fn get_parts(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        start: u64,
        parts: &mut [&mut [u8]],
    ) -> Result<u64> {
        let mut parts: Vec<_> = parts.iter_mut().map(|part| Part::Keep(part)).collect();
        self.get_scattered(bucket, key, etag, start, &mut parts).await
    }

    /// [`Client::get_parts`] with gaps between the buffers: one request fetches what lies close together.
    pub async fn get_scattered(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        start: u64,
        parts: &mut [Part<'_>],
    ) -> Result<u64> {
        let length = parts.iter().map(Part::length).sum();
        if length == 0 {
            return Ok(0);
        }
        if self.is_local() {
            return self.read_file(bucket, key, etag, start, parts).await;
        }
        let request = Request::object(Method::GET, bucket, key);
        let mut budget = self.budget();
        let response = self.request_range(&request, etag, start, length, &mut budget).await?;
        self.fill(&request, response, etag, start, parts, &mut budget).await
    }

    /// Fills `parts` from `response`, which starts at byte `start` of the object; if it breaks, asks
    /// for the rest.
    async fn fill(
        &self,
        request: &Request,
        mut response: Response,
        etag: &str,
        start: u64,
        parts: &mut [Part<'_>],
        budget: &mut RetryBudget,
    ) -> Result<u64> {
        let length: usize = parts.iter().map(Part::length).sum();
        let most_skipped = parts.iter().map(|part| if let Part::Skip(length) = part { *length } else { 0 }).max();
        let mut skipped = vec![0; most_skipped.unwrap_or_default().min(SKIPPED_PIECE)];
        let mut crc = Crc64::default();
        let mut filled = 0;
        // The part being filled, and how far.
        let (mut part, mut at) = (0, 0);
        loop {
            let error = loop {
                while parts.get(part).is_some_and(|full| full.length() == at) {
                    (part, at) = (part + 1, 0);
                }
                // In pieces, so that what a broken connection delivered is known and kept.
                let piece = match parts.get_mut(part) {
                    Some(Part::Keep(buffer)) => {
                        let end = buffer.len().min(at + RECEIVE_PIECE);
                        &mut buffer[at..end]
                    }
                    Some(Part::Skip(length)) => {
                        let most = skipped.len().min(*length - at);
                        &mut skipped[..most]
                    }
                    None => &mut [],
                };
                match response.body.read_into(piece).await {
                    Ok(0) if filled < length => {
                        let text = format!("the body ended after {filled} of {length} bytes");
                        break Error::new(ErrorKind::Transport(text));
                    }
                    Ok(count) => {
                        crc.update(&piece[..count]);
                        filled += count;
                        at += count;
                        budget.progressed(count);
                        if filled == length {
                            response.body.finish().await?;
                            traffic::count_received(length as u64);
                            return Ok(crc.value());
                        }
                    }
                    Err(error) => break error,
                }
            };
            let (bucket, key) = (request.bucket.as_deref(), request.key.as_deref());
            budget.wait_after(error.on(bucket, key)).await?;
            let from = start + filled as u64;
            // Rare, so kept out of what each object's future holds.
            response = Box::pin(self.request_range(request, etag, from, length - filled, budget)).await?;
        }
    }

    /// Asks for `length` bytes from `start` of the object with this ETag, and checks that this is what is answered.
    async fn request_range(
        &self,
        request: &Request,
        etag: &str,
        start: u64,
        length: usize,
        budget: &mut RetryBudget,
    ) -> Result<Response> {
        let mut request = request.clone();
        let end = start + length as u64 - 1;
        set_header(&mut request.headers, header::RANGE, &format!("bytes={start}-{end}"))?;
        set_header(&mut request.headers, header::IF_MATCH, etag)?;
        // Without it OSS answers a range past the end with the whole object.
        set_header(&mut request.headers, oss_header::RANGE_BEHAVIOR, "standard")?;
        let on = |error: Error| error.on(request.bucket.as_deref(), request.key.as_deref());
        let asked = Instant::now();
        let response = match self.send_within(&request, budget).await {
            Err(error) if error.status() == Some(StatusCode::PRECONDITION_FAILED) => {
                return Err(on(changed(etag).into()));
            }
            other => other?,
        };
        self.note_first_byte(asked.elapsed());
        if response.etag().is_some_and(|now| now != etag) {
            return Err(on(changed(etag).into()));
        }
        let range = match (response.status, response.header(&header::CONTENT_RANGE)) {
            (StatusCode::PARTIAL_CONTENT, Some(text)) => {
                ContentRange::parse(text).ok_or_else(|| incomplete(&request, "Content-Range"))?
            }
            // The whole object answers a range that is the whole object.
            _ if start == 0 && response.content_length() == Some(length as u64) => return Ok(response),
            _ => {
                let text = format!("asked for bytes {start}-{end}, answered with {}", response.status);
                return Err(on(ErrorKind::InvalidReply(text).into()));
            }
        };
        if range.start != start || range.end != end {
            let text = format!("asked for bytes {start}-{end}, answered with {}-{}", range.start, range.end);
            return Err(on(ErrorKind::InvalidReply(text).into()));
        }
        if response.content_length().is_some_and(|sent| sent != length as u64) {
            let text = format!("asked for bytes {start}-{end}, answered with another number of bytes");
            return Err(on(ErrorKind::InvalidReply(text).into()));
        }
        Ok(response)
    }
}

/// Bytes received before progress is recorded. Also the piece that is checksummed while it is still in the
/// processor's cache.
const RECEIVE_PIECE: usize = 256 << 10;

/// Bytes of a gap received at a time, into memory that stays in the processor's cache.
const SKIPPED_PIECE: usize = 16 << 10;

fn changed(etag: &str) -> ErrorKind {
    ErrorKind::Changed(format!(
        "the object was replaced while it was being read (it no longer has ETag {etag}); read it again from the start"
    ))
}

fn retryable_change(error: &Error) -> Error {
    let text = error.message();
    Error::new(ErrorKind::Integrity(text)).on(error.bucket(), error.key())
}

fn verify(meta: &ObjectMeta, checksum: u64) -> Result<()> {
    match meta.crc64 {
        Some(stored) if stored != checksum => {
            let text = format!(
                "the bytes received have CRC-64 {checksum}, the object has {stored}: they were corrupted on the way"
            );
            Err(ErrorKind::Integrity(text).into())
        }
        Some(_) => {
            traffic::count_compared(meta.size);
            Ok(())
        }
        None => Ok(()),
    }
}
