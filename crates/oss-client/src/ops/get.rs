//! Reading objects, whole or by range. A broken body is resumed at its next byte; length and checksum are compared.

use std::time::Instant;

use http::{Method, StatusCode, header};
use oss_protocol::{
    crc64::{Crc64, checksum},
    header as oss_header,
    range::ContentRange,
};

use super::{
    head::{ObjectMeta, size_of},
    incomplete, set_header,
};
use crate::{
    buffer::PooledBuffer,
    client::Client,
    error::{Error, ErrorKind, Result, too_large},
    metrics::METRICS,
    request::Request,
    retry::RetryBudget,
    transport::Response,
};

/// What to do with the next bytes of a range.
#[derive(Debug)]
pub enum Slice<'buffer> {
    /// Receive them into this buffer.
    Keep(&'buffer mut [u8]),
    /// Drop this many of them.
    Skip(usize),
}

impl Slice<'_> {
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
    /// Its description.
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

    /// [`Client::get`] of an object, if `wanted` is true for its size. It is called for each size that the service
    /// names, and again if the object has been replaced.
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
            let fetched = match size_of(&response) {
                Some(size) => self.receive_whole(&request, response, size, &mut wanted, &mut budget).await,
                // Boxed, because it is rare and would make each object's future larger.
                None => Box::pin(self.receive_unannounced(&request, response, &mut wanted)).await,
            };
            match fetched {
                Ok(fetched) => return Ok(fetched),
                // Replaced while being read: nothing has been handed out, so the new object can be read instead.
                Err(error) if matches!(error.kind(), ErrorKind::Changed(_)) => {
                    budget.wait_after(retryable_change(&error)).await?;
                }
                Err(error) => budget.wait_after(error.on(Some(bucket), Some(key))).await?,
            }
        }
    }

    async fn receive_whole(
        &self,
        request: &Request,
        response: Response,
        size: u64,
        wanted: &mut (impl FnMut(u64) -> bool + Send),
        budget: &mut RetryBudget,
    ) -> Result<FetchedObject> {
        let meta = ObjectMeta::of(request, &response, size)?;
        if !wanted(size) {
            return Ok(FetchedObject { meta, bytes: None });
        }
        let bytes = usize::try_from(size).ok().and_then(|size| self.buffers().take(size));
        let mut bytes = bytes.ok_or_else(|| too_large(size))?;
        let checksum = self.fill(request, response, &meta.etag, 0, &mut [Slice::Keep(&mut bytes)], budget).await?;
        verify(&meta, checksum)?;
        Ok(FetchedObject { meta, bytes: Some(bytes) })
    }

    /// Receives an object whose size only the end of its body tells: proxies send such.
    async fn receive_unannounced(
        &self,
        request: &Request,
        mut response: Response,
        wanted: &mut (impl FnMut(u64) -> bool + Send),
    ) -> Result<FetchedObject> {
        let mut meta = ObjectMeta::of(request, &response, 0)?;
        // If the end of the connection ends the body, only the checksum tells whether it was cut off.
        let ends = response.body.is_chunked() || meta.crc64.is_some();
        if response.status != StatusCode::OK || !ends {
            return Err(incomplete(request, "Content-Length"));
        }
        let limit = self.config().prefetch_bytes;
        let mut bytes = Vec::new();
        loop {
            let filled = bytes.len();
            if !wanted(filled as u64) {
                // Another request follows, and may need its descriptor.
                response.body.abandon();
                meta = self.described(request, &response).await?;
                return Ok(FetchedObject { meta, bytes: None });
            }
            if filled > limit {
                let text = format!(
                    "the answer has no Content-Length, and more than {limit} bytes; open the object and read it in \
                     pieces"
                );
                return Err(ErrorKind::InvalidReply(text).into());
            }
            let more = filled.max(RECEIVE_PIECE);
            bytes.try_reserve_exact(more).map_err(|_| too_large((filled + more) as u64))?;
            bytes.resize(filled + more, 0);
            let count = response.body.read_into(&mut bytes[filled..]).await?;
            bytes.truncate(filled + count);
            if count < more {
                break;
            }
        }
        meta.size = bytes.len() as u64;
        if !wanted(meta.size) {
            return Ok(FetchedObject { meta, bytes: None });
        }
        verify(&meta, checksum(&bytes))?;
        METRICS.received.add(meta.size);
        Ok(FetchedObject { meta, bytes: Some(PooledBuffer::detached(bytes)) })
    }

    /// Fills `buffer` from byte `start` of an object whose ETag is `etag`; returns the CRC-64 of those bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] if the object has been replaced by now.
    pub async fn get_range(&self, bucket: &str, key: &str, etag: &str, start: u64, buffer: &mut [u8]) -> Result<u64> {
        self.get_into(bucket, key, etag, start, &mut [buffer]).await
    }

    /// [`Client::get_range`] into several buffers that follow each other: one request fills all.
    pub async fn get_into(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        start: u64,
        slices: &mut [&mut [u8]],
    ) -> Result<u64> {
        let mut slices: Vec<_> = slices.iter_mut().map(|slice| Slice::Keep(slice)).collect();
        self.get_scattered(bucket, key, etag, start, &mut slices).await
    }

    /// [`Client::get_into`] with gaps between the buffers: one request fetches what lies close together.
    pub async fn get_scattered(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        start: u64,
        slices: &mut [Slice<'_>],
    ) -> Result<u64> {
        let length = slices.iter().map(Slice::length).sum();
        if length == 0 {
            return Ok(0);
        }
        if self.is_local() {
            return self.read_file(bucket, key, etag, start, slices).await;
        }
        let request = Request::object(Method::GET, bucket, key);
        let mut budget = self.budget();
        let response = self.request_range(&request, etag, start, length, &mut budget).await?;
        self.fill(&request, response, etag, start, slices, &mut budget).await
    }

    /// Fills `slices` from `response`, which starts at byte `start` of the object; if it breaks, asks
    /// for the rest.
    async fn fill(
        &self,
        request: &Request,
        mut response: Response,
        etag: &str,
        start: u64,
        slices: &mut [Slice<'_>],
        budget: &mut RetryBudget,
    ) -> Result<u64> {
        let length: usize = slices.iter().map(Slice::length).sum();
        let most_skipped = slices.iter().map(|slice| if let Slice::Skip(length) = slice { *length } else { 0 }).max();
        let mut skipped = vec![0; most_skipped.unwrap_or_default().min(SKIPPED_PIECE)];
        let mut crc = Crc64::default();
        let mut filled = 0;
        // The slice being filled, and how far.
        let (mut slice, mut at) = (0, 0);
        loop {
            let error = loop {
                while slices.get(slice).is_some_and(|full| full.length() == at) {
                    (slice, at) = (slice + 1, 0);
                }
                // In pieces, so that the bytes of a connection that breaks are known and kept.
                let piece = match slices.get_mut(slice) {
                    Some(Slice::Keep(buffer)) => {
                        let end = buffer.len().min(at + RECEIVE_PIECE);
                        &mut buffer[at..end]
                    }
                    Some(Slice::Skip(length)) => {
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
                            METRICS.received.add(length as u64);
                            return Ok(crc.value());
                        }
                    }
                    Err(error) => break error,
                }
            };
            let (bucket, key) = (request.bucket.as_deref(), request.key.as_deref());
            budget.wait_after(error.on(bucket, key)).await?;
            let from = start + filled as u64;
            // Boxed, because it is rare and would make each object's future larger.
            response = Box::pin(self.request_range(request, etag, from, length - filled, budget)).await?;
        }
    }

    /// Asks for `length` bytes from `start` of the object with this ETag, and checks that the answer has this range.
    pub(super) async fn request_range(
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
        match response.etag() {
            Some(now) if now == etag => {}
            Some(_) => return Err(on(changed(etag).into())),
            // It may be a range of another version of the object.
            None => return Err(incomplete(&request, "ETag")),
        }
        let range = match (response.status, response.header(&header::CONTENT_RANGE)) {
            (StatusCode::PARTIAL_CONTENT, Some(text)) => {
                ContentRange::parse(text).ok_or_else(|| incomplete(&request, "Content-Range"))?
            }
            // A range of all bytes may be answered with the whole object.
            (StatusCode::OK, _) if start == 0 && response.content_length().is_none_or(|sent| sent == length as u64) => {
                return Ok(response);
            }
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
            METRICS.compared.add(meta.size);
            Ok(())
        }
        None => Ok(()),
    }
}
