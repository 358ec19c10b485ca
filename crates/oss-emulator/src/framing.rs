//! Notices requests that state twice where their body ends, because proxies that disagree on which one counts let requests
//! be smuggled. If there is a `Transfer-Encoding`, the HTTP library takes `Content-Length` out of the headers, so the bytes of
//! the head are looked at as they arrive.

use std::io::{self, BufRead as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer heads are not looked at. The service refuses them.
const LARGEST_HEAD: usize = 32 * 1024;

/// Whether the latest head of a PUT or POST states two lengths.
#[derive(Debug, Default)]
pub(crate) struct Framing(AtomicBool);

impl Framing {
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection whose heads are looked at. A head is found if a read begins with it: clients that wait for answers send no
/// other ones.
#[derive(Debug)]
pub(crate) struct Framed<S> {
    stream: S,
    framing: Arc<Framing>,
    /// The part of a head that has arrived, if the rest has not.
    begun: Vec<u8>,
}

impl<S> Framed<S> {
    pub(crate) fn new(stream: S, framing: Arc<Framing>) -> Self {
        Self { stream, framing, begun: Vec::new() }
    }

    fn look(&mut self, fresh: &[u8]) {
        let head = if self.begun.is_empty() {
            if !fresh.starts_with(b"PUT ") && !fresh.starts_with(b"POST ") {
                return;
            }
            fresh
        } else {
            self.begun.extend_from_slice(fresh);
            &self.begun
        };
        let ambiguous = states_two_lengths(head);
        match ambiguous {
            None if head.len() < LARGEST_HEAD && !fresh.is_empty() => {
                if self.begun.is_empty() {
                    self.begun.extend_from_slice(fresh);
                }
            }
            _ => self.begun = Vec::new(),
        }
        self.framing.0.store(ambiguous.unwrap_or(false), Ordering::Relaxed);
    }
}

/// Whether a head has both headers; nothing if it is not whole.
fn states_two_lengths(mut head: &[u8]) -> Option<bool> {
    let (mut length, mut coding) = (false, false);
    loop {
        let rest = head;
        let line = rest.get(..head.skip_until(b'\n').ok()?)?;
        let is = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        match line {
            [] => return None,
            [b'\n'] | [b'\r', b'\n'] => return Some(length && coding),
            [b'c' | b'C', ..] => length |= is(b"content-length:"),
            [b't' | b'T', ..] => coding |= is(b"transfer-encoding:"),
            _ => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.look(&buffer.filled()[before..]);
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

    fn framed() -> Framed<()> {
        Framed::new((), Arc::default())
    }

    #[test]
    fn a_head_may_arrive_in_pieces() {
        // The first piece has to tell what it is the beginning of.
        for at in 4..BOTH.len() {
            let mut connection = framed();
            let (first, second) = BOTH.split_at(at);
            connection.look(first);
            connection.look(second);
            assert!(connection.framing.is_ambiguous(), "{at}");
        }
        let mut connection = framed();
        for piece in BOTH.chunks(4) {
            connection.look(piece);
        }
        assert!(connection.framing.is_ambiguous());
    }

    #[test]
    fn bodies_and_other_heads_are_not_mistaken() {
        for head in ["Content-Length: 3", "Transfer-Encoding: chunked", "Content-Length: 3\r\nx: Transfer-Encoding: y"]
        {
            let mut connection = framed();
            connection.look(BOTH);
            connection.look(format!("POST /b/k HTTP/1.1\r\n{head}\r\n\r\nTransfer-Encoding: chunked").as_bytes());
            assert!(!connection.framing.is_ambiguous(), "{head}");
        }
    }

    #[test]
    fn a_head_without_end_is_not_kept() {
        let mut connection = framed();
        connection.look(b"PUT ");
        for _ in 0..2 * LARGEST_HEAD {
            connection.look(b"x");
        }
        assert!(connection.begun.is_empty());
    }
}
