//! One request and one response, as the rest of the crate sees them.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use oss_protocol::header as oss_header;
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind, Result},
    transport::{Lease, Progress},
};

/// What is asked of OSS. Signed anew for each attempt.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Bucket, absent for service-level requests.
    pub bucket: Option<String>,
    /// Object key, not encoded.
    pub key: Option<String>,
    /// Query parameters, not encoded; an empty value is sent as a bare name.
    pub query: Vec<(String, String)>,
    /// Headers beyond those that addressing and signing add.
    pub headers: HeaderMap,
    /// Request body.
    pub body: Bytes,
}

impl Request {
    /// A request about a bucket.
    pub fn bucket(method: Method, bucket: &str) -> Self {
        Self {
            method,
            bucket: Some(bucket.to_owned()),
            key: None,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A request about an object.
    pub fn object(method: Method, bucket: &str, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..Self::bucket(method, bucket) }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// Head of a response, and the body that follows it.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, not received yet.
    pub body: Body,
}

impl Response {
    /// Text of a header, where present and readable.
    pub fn header(&self, name: &http::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
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

/// A new connection costs about as much as receiving so many bytes.
const FINISH_LIMIT: usize = 64 << 10;

/// A body that is received into memory of the caller's choice.
///
/// Its connection is used again once the body has been received whole, and closed when the body is dropped before.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    pending: Bytes,
    lease: Option<Lease>,
    read_timeout: Duration,
    deadline: Instant,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, lease: Lease, read_timeout: Duration, deadline: Instant) -> Self {
        let mut body = Self { incoming, pending: Bytes::new(), lease: Some(lease), read_timeout, deadline };
        body.release_if_done();
        body
    }

    /// Receives until `buffer` is full or the body ends; returns the number of bytes received.
    pub async fn read_into(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.pending.is_empty() && !self.receive().await? {
                break;
            }
            let count = self.pending.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&self.pending[..count]);
            self.pending.advance(count);
            filled += count;
        }
        Ok(filled)
    }

    /// Receives the whole body, which may have at most `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> Result<Vec<u8>> {
        let mut collected = Vec::new();
        while self.receive().await? {
            if collected.len() + self.pending.len() > limit {
                let message = format!("the body is longer than the {limit} bytes expected at most");
                return Err(ErrorKind::InvalidReply(message).into());
            }
            collected.extend_from_slice(&self.pending);
            self.pending.clear();
        }
        Ok(collected)
    }

    /// Receives and forgets what is left of a body that is expected to be empty, so that its connection is free again.
    /// Where there is more than is worth receiving, the connection is closed instead.
    pub async fn finish(mut self) -> Result<()> {
        let mut received = 0;
        while self.lease.is_some() && received < FINISH_LIMIT && self.receive().await? {
            received += self.pending.len();
        }
        Ok(())
    }

    /// Waits for the next bytes; false at the end of the body.
    async fn receive(&mut self) -> Result<bool> {
        loop {
            if self.lease.is_none() && self.incoming.is_end_stream() {
                return Ok(false);
            }
            let limit = self.deadline.min(Instant::now() + self.read_timeout);
            let frame = match tokio::time::timeout_at(limit, self.incoming.frame()).await {
                Err(_) => return Err(self.fail(ErrorKind::Timeout(self.silence()))),
                Ok(None) => {
                    self.release_if_done();
                    return Ok(false);
                }
                Ok(Some(Err(error))) => {
                    let text = format!("the connection broke while the body was received: {}", root_cause(&error));
                    return Err(self.fail(ErrorKind::Transport(text)));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            self.release_if_done();
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.pending = data;
                return Ok(true);
            }
        }
    }

    fn silence(&self) -> String {
        format!("no bytes of the body arrived for {:.1} s", self.read_timeout.as_secs_f64())
    }

    fn release_if_done(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }

    fn fail(&mut self, kind: ErrorKind) -> Error {
        self.lease = None;
        kind.into()
    }
}

/// The innermost reason of an error: "connection reset by peer" says more than "error reading a body".
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A request body that reports how far it has been sent.
#[derive(Debug)]
pub(crate) struct UploadBody {
    rest: Bytes,
    progress: Progress,
}

/// Bytes handed to the connection at a time: large enough to cost nothing, small enough to show progress on a slow link.
const UPLOAD_CHUNK: usize = 256 << 10;

impl UploadBody {
    pub(crate) fn new(bytes: Bytes, progress: Progress) -> Self {
        Self { rest: bytes, progress }
    }
}

impl hyper::body::Body for UploadBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.progress.mark();
        let count = self.rest.len().min(UPLOAD_CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
