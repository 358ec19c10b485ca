//! One connection: a request goes out, the head and the body of its response come in.
//!
//! The task that waits for a response drives the socket itself, and receives the body into the caller's memory. There
//! is no second task and no second buffer between.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
};

use futures_util::FutureExt as _;
use http::Method;
use tokio::time::{Duration, Instant};

use super::{
    head::{self, Framing, Head, RequestHead},
    stream::Stream,
};
use crate::descriptors::Counted;

/// Received at a time while a head is expected. Heads are a few hundred bytes; what comes with one is copied once more,
/// which for an object of this size costs less than a second call to the kernel.
const BUFFER: usize = 16 << 10;

/// Longest head: 8 KiB of user metadata, as much again for all else, and room.
const LONGEST_HEAD: usize = 64 << 10;

/// Most answers that only announce the answer: servers send one, or one every few seconds while they work.
const MOST_INTERIM: usize = 100;

/// Most bytes of the lines after the last chunk.
const LONGEST_TRAILER: usize = LONGEST_HEAD;

/// Bytes that are sent in a few packets: once no more are to come, each wait may be for an acknowledgement.
const NEARLY_DONE: u64 = 256 << 10;

/// How long nothing comes in the middle of a long answer before what has come is acknowledged. Linux does it after 40 ms
/// by itself; a timer cannot be shorter.
const ACKNOWLEDGED_AFTER: Duration = Duration::from_millis(1);

/// A body up to this size is sent in one piece with its head: a copy is cheaper than a packet.
const SENT_WITH_HEAD: usize = 16 << 10;

/// An open connection and what was received over it and not used yet.
pub(crate) struct Connection {
    stream: Stream,
    /// `buffer[start..end]` is not used yet.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Absent in the first steps through a proxy.
    _counted: Option<Counted>,
}

/// Why a connection cannot be used further.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nothing moved for the read timeout.
    Silent,
    /// The deadline of the whole operation passed.
    Late,
    /// The connection broke; `unanswered` if the server has sent nothing in answer to this request.
    Lost { cause: io::Error, unanswered: bool },
    /// What was received is not HTTP.
    NotHttp(String),
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) read_timeout: Duration,
    /// What the deadline was made from, for messages.
    pub(crate) total_timeout: Duration,
    pub(crate) deadline: Instant,
}

impl Patience {
    /// Waits for `action` as long as silence is allowed. Most of the time it is ready at once, and a timer for each
    /// read would cost as much as the read.
    async fn wait<T>(self, action: impl Future<Output = T>) -> Result<T, Broken> {
        let mut action = pin!(action);
        match (&mut action).now_or_never() {
            Some(done) => Ok(done),
            None => self.wait_for(action).await,
        }
    }

    /// The same for an action that was not ready just now.
    async fn wait_for<T>(self, action: impl Future<Output = T>) -> Result<T, Broken> {
        let silent = Instant::now() + self.read_timeout;
        let broken = if self.deadline < silent { Broken::Late } else { Broken::Silent };
        tokio::time::timeout_at(self.deadline.min(silent), action).await.map_err(|_| broken)
    }
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, buffer: vec![0; BUFFER], start: 0, end: 0, _counted: None }
    }

    /// The same, as one of the connections of its process.
    pub(super) fn counted(self, counted: Counted) -> Self {
        Self { _counted: Some(counted), ..self }
    }

    /// The stream, if everything that was received over it has been used.
    pub(super) fn into_stream(self) -> Option<Stream> {
        (self.start == self.end).then_some(self.stream)
    }

    /// Whether an idle connection can be used again: the server has neither closed it nor sent anything.
    pub(super) fn is_usable(&mut self) -> bool {
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        // Reading is how TLS takes in what the server may send between two responses.
        self.start == self.end && poll_fn(|context| stream.poll_read(context, buffer)).now_or_never().is_none()
    }

    /// Sends a request and receives the head of its response. The body may have been left unsent if the server
    /// answered before; then the connection is not kept.
    pub(super) async fn exchange(
        &mut self,
        request: &RequestHead,
        body: &[u8],
        patience: Patience,
    ) -> Result<Head, Broken> {
        (self.start, self.end) = (0, 0);
        let together;
        let (first, rest) = if body.is_empty() || body.len() > SENT_WITH_HEAD {
            (request.bytes(), body)
        } else {
            together = [request.bytes(), body].concat();
            (together.as_slice(), &[][..])
        };
        let mut interim = 0;
        for bytes in [first, rest] {
            if let Some(mut head) = self.send(bytes, request.method(), &mut interim, patience).await? {
                head.keep_alive = false;
                return Ok(head);
            }
        }
        self.receive_head(request.method(), &mut interim, patience).await
    }

    /// Sends `bytes`, unless the server answers first: the answer's head then.
    async fn send(
        &mut self,
        bytes: &[u8],
        method: &Method,
        interim: &mut usize,
        patience: Patience,
    ) -> Result<Option<Head>, Broken> {
        let mut sent = 0;
        while sent < bytes.len() {
            let Self { stream, buffer, end, .. } = self;
            let step = patience.wait(poll_fn(|context| {
                if let Poll::Ready(written) = stream.poll_write(context, &bytes[sent..]) {
                    return Poll::Ready(written.map(|count| (count, 0)));
                }
                // The socket is full. A server that refuses the request says so now, and may read no further.
                stream.poll_read(context, &mut buffer[*end..]).map_ok(|count| (0, count))
            }));
            match step.await?.map_err(|cause| Broken::Lost { cause, unanswered: true })? {
                (0, 0) => return Err(Broken::Lost { cause: closed(), unanswered: true }),
                (0, received) => {
                    self.end += received;
                    // What only announces an answer asks for the rest of the body, not for its end.
                    while self.start < self.end {
                        let head = self.receive_one_head(method, interim, patience).await?;
                        if !head.status.is_informational() {
                            return Ok(Some(head));
                        }
                    }
                    (self.start, self.end) = (0, 0);
                }
                (written, _) => sent += written,
            }
        }
        let flushed = patience.wait(poll_fn(|context| self.stream.poll_flush(context))).await?;
        flushed.map_err(|cause| Broken::Lost { cause, unanswered: true })?;
        Ok(None)
    }

    async fn receive_head(&mut self, method: &Method, interim: &mut usize, patience: Patience) -> Result<Head, Broken> {
        loop {
            let head = self.receive_one_head(method, interim, patience).await?;
            // "Continue" and its like announce the answer; they are not it.
            if !head.status.is_informational() {
                return Ok(head);
            }
        }
    }

    /// Receives the next head, also one that only announces the answer; `interim` counts those.
    async fn receive_one_head(
        &mut self,
        method: &Method,
        interim: &mut usize,
        patience: Patience,
    ) -> Result<Head, Broken> {
        loop {
            let received = &self.buffer[self.start..self.end];
            let parsed = if received.is_empty() {
                None
            } else if is_tls(received) {
                return Err(Broken::NotHttp("it speaks TLS; write the endpoint with https://".to_owned()));
            } else {
                head::parse(received, method).map_err(Broken::NotHttp)?
            };
            match parsed {
                Some((head, length)) => {
                    self.start += length;
                    *interim += usize::from(head.status.is_informational());
                    if *interim > MOST_INTERIM {
                        return Err(Broken::NotHttp(format!("more than {MOST_INTERIM} answers before the answer")));
                    }
                    return Ok(head);
                }
                None if received.len() >= LONGEST_HEAD => {
                    return Err(Broken::NotHttp(format!("a head of more than {LONGEST_HEAD} bytes")));
                }
                None => {
                    let unanswered = received.is_empty() && *interim == 0;
                    match self.fill(!unanswered, patience).await {
                        Ok(0) => return Err(Broken::Lost { cause: closed(), unanswered }),
                        Ok(_) => {}
                        Err(Broken::Lost { cause, .. }) => return Err(Broken::Lost { cause, unanswered }),
                        Err(broken) => return Err(broken),
                    }
                }
            }
        }
    }

    /// Receives more after the bytes in the buffer; 0 at the end of the stream. `begun`: a part of the answer has come.
    async fn fill(&mut self, begun: bool, patience: Patience) -> Result<usize, Broken> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let Self { stream, buffer, end, .. } = self;
        let target = &mut buffer[*end..];
        let received = if begun {
            receive_rest(stream, target, true, patience).await?
        } else {
            patience.wait(poll_fn(|context| stream.poll_read(context, target))).await?
        };
        let count = received.map_err(|cause| Broken::Lost { cause, unanswered: false })?;
        self.end += count;
        Ok(count)
    }

    /// Receives some bytes into `target`; 0 at the end of the stream. `nearly_done`: few bytes are still to come.
    async fn receive(&mut self, target: &mut [u8], nearly_done: bool, patience: Patience) -> Result<usize, Broken> {
        if self.start < self.end {
            let count = target.len().min(self.end - self.start);
            target[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            return Ok(count);
        }
        let received = receive_rest(&mut self.stream, target, nearly_done, patience).await?;
        received.map_err(|cause| Broken::Lost { cause, unanswered: false })
    }

    /// Receives a line, without its end.
    async fn receive_line(&mut self, patience: Patience) -> Result<Vec<u8>, Broken> {
        loop {
            let received = &self.buffer[self.start..self.end];
            if let Some(length) = received.iter().position(|&byte| byte == b'\n') {
                let line = received[..length].trim_ascii_end().to_vec();
                self.start += length + 1;
                return Ok(line);
            }
            if received.len() >= LONGEST_HEAD {
                return Err(Broken::NotHttp("a chunk without its size".to_owned()));
            }
            if self.fill(true, patience).await? == 0 {
                return Err(ended_early());
            }
        }
    }
}

/// Receives more of an answer. Before it waits, it acknowledges what has come, since the sender may wait for that. In the
/// middle of a long answer it does so only if nothing comes for a moment: while bytes keep coming, an acknowledgement for
/// each would make them come in smaller pieces.
async fn receive_rest(
    stream: &mut Stream,
    target: &mut [u8],
    nearly_done: bool,
    patience: Patience,
) -> Result<io::Result<usize>, Broken> {
    if let Some(received) = poll_fn(|context| stream.poll_read(context, target)).now_or_never() {
        return Ok(received);
    }
    if !nearly_done {
        let soon = poll_fn(|context| stream.poll_read(context, target));
        if let Ok(received) = tokio::time::timeout(ACKNOWLEDGED_AFTER, soon).await {
            return Ok(received);
        }
    }
    stream.acknowledge();
    patience.wait_for(poll_fn(|context| stream.poll_read(context, target))).await
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Connection({} bytes unread)", self.end - self.start)
    }
}

/// Whether a server answered with a record of TLS: an alert or a handshake, and a version of TLS.
fn is_tls(received: &[u8]) -> bool {
    matches!(received, [0x15 | 0x16, 0x03, 0x00..=0x04, ..])
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")
}

fn ended_early() -> Broken {
    let cause = io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it before the end of the body");
    Broken::Lost { cause, unanswered: false }
}

/// How much of a body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Length(u64),
    /// This many bytes of the present chunk, then more chunks.
    Chunk(u64),
    UntilClose,
    Nothing,
}

impl Rest {
    pub(super) fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Nothing,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunk(0),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Receives some bytes of the body into `target`, which is not empty; 0 at its end.
    pub(crate) async fn receive(
        &mut self,
        connection: &mut Connection,
        target: &mut [u8],
        patience: Patience,
    ) -> Result<usize, Broken> {
        let (left, chunked) = match *self {
            Self::Nothing => return Ok(0),
            Self::UntilClose => {
                let count = connection.receive(target, false, patience).await?;
                if count == 0 {
                    *self = Self::Nothing;
                }
                return Ok(count);
            }
            Self::Length(left) => (left, false),
            Self::Chunk(0) => match next_chunk(connection, patience).await? {
                0 => {
                    *self = Self::Nothing;
                    return Ok(0);
                }
                left => (left, true),
            },
            Self::Chunk(left) => (left, true),
        };
        // Never past the end: what follows belongs to the next response.
        let most = target.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = connection.receive(&mut target[..most], left <= NEARLY_DONE, patience).await?;
        if count == 0 {
            return Err(ended_early());
        }
        let left = left - count as u64;
        *self = match (chunked, left) {
            (false, 0) => Self::Nothing,
            (false, left) => Self::Length(left),
            (true, 0) => {
                // The line end that closes a chunk.
                connection.receive_line(patience).await?;
                Self::Chunk(0)
            }
            (true, left) => Self::Chunk(left),
        };
        Ok(count)
    }
}

/// Size of the next chunk; after the last one, which is empty, its trailer has been received.
async fn next_chunk(connection: &mut Connection, patience: Patience) -> Result<u64, Broken> {
    let line = connection.receive_line(patience).await?;
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let size = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let size = size.and_then(|text| u64::from_str_radix(text, 16).ok());
    let size = size.ok_or_else(|| Broken::NotHttp("a chunk without its size".to_owned()))?;
    if size == 0 {
        let mut received = 0;
        loop {
            let line = connection.receive_line(patience).await?;
            if line.is_empty() {
                break;
            }
            received += line.len();
            if received > LONGEST_TRAILER {
                return Err(Broken::NotHttp(format!("a trailer of more than {LONGEST_TRAILER} bytes")));
            }
        }
    }
    Ok(size)
}
