//! Notices requests that state twice where their body ends, because proxies that disagree on which one counts let requests
//! be smuggled. If there is a `Transfer-Encoding`, the HTTP library takes `Content-Length` out of the headers, so the bytes of
//! the head are looked at as they arrive.

use std::io::{self, BufRead as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Method;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer heads are not looked at.
const LARGEST_HEAD: usize = 16 * 1024;

/// What arrived on a connection since its latest PUT or POST. Most requests have no `Transfer-Encoding` and are never looked at,
/// so the bytes are only kept.
#[derive(Debug, Default)]
pub(crate) struct Framing(Mutex<Vec<u8>>);

impl Framing {
    /// Whether the head of a request that has just arrived states two lengths.
    pub(crate) fn is_ambiguous(&self, parts: &Parts) -> bool {
        matches!(parts.method, Method::PUT | Method::POST)
            && parts.headers.contains_key(TRANSFER_ENCODING)
            && states_two_lengths(&self.0.lock())
    }

    /// Keeps the bytes of one read. Clients that wait for answers begin a read with a head.
    fn keep(&self, fresh: &[u8]) {
        let mut head = self.0.lock();
        if fresh.starts_with(b"PUT ") || fresh.starts_with(b"POST ") {
            head.clear();
        } else if head.is_empty() {
            return;
        }
        let more = fresh.len().min(LARGEST_HEAD - head.len());
        head.extend_from_slice(&fresh[..more]);
    }
}

/// A connection whose heads are kept.
#[derive(Debug)]
pub(crate) struct Framed<S> {
    stream: S,
    framing: Arc<Framing>,
}

impl<S> Framed<S> {
    pub(crate) fn new(stream: S, framing: Arc<Framing>) -> Self {
        Self { stream, framing }
    }
}

fn states_two_lengths(mut bytes: &[u8]) -> bool {
    let (mut length, mut coding) = (false, false);
    loop {
        let rest = bytes;
        let read = bytes.skip_until(b'\n').unwrap_or(0);
        let line = &rest[..read];
        let is = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        match line {
            [] | b"\n" | b"\r\n" => return length && coding,
            _ => {
                length |= is(b"content-length:");
                coding |= is(b"transfer-encoding:");
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.framing.keep(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] = b"PUT /b/k HTTP/1.1\r\nTRANSFER-encoding: chunked\r\nx: y\r\nContent-Length: 3\r\n\r\n3\r\nabc";

    #[test]
    fn a_head_may_arrive_in_pieces() {
        // The first piece has to tell what it is the beginning of.
        for at in 4..BOTH.len() {
            let framing = Framing::default();
            let (first, second) = BOTH.split_at(at);
            framing.keep(first);
            framing.keep(second);
            assert!(states_two_lengths(&framing.0.lock()), "{at}");
        }
        let framing = Framing::default();
        for piece in BOTH.chunks(4) {
            framing.keep(piece);
        }
        assert!(states_two_lengths(&framing.0.lock()));
    }

    #[test]
    fn bodies_and_other_heads_are_not_mistaken() {
        for head in ["Content-Length: 3", "Transfer-Encoding: chunked", "Content-Length: 3\r\nx: Transfer-Encoding: y"]
        {
            let framing = Framing::default();
            framing.keep(BOTH);
            framing.keep(format!("POST /b/k HTTP/1.1\r\n{head}\r\n\r\nTransfer-Encoding: a\r\n").as_bytes());
            framing.keep(b"Transfer-Encoding: a\r\nContent-Length: 3\r\n");
            assert!(!states_two_lengths(&framing.0.lock()), "{head}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let framing = Framing::default();
        framing.keep(&BOTH.repeat(1000));
        framing.keep(b"x");
        assert_eq!(framing.0.lock().len(), LARGEST_HEAD);
    }
}
