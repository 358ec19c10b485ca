//! The connection below HTTP. A fault can slow it down here, or cut it.
//!
//! To cut the connection, a request calls [`Line::end`] and then sends nothing more. The server hands all bytes before the cut
//! to the socket and flushes it, and the flush cuts the connection.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// The time that one paced transfer covers: a client sees a rate, not bursts, and the timers can keep up.
const PACE_QUANTUM: Duration = Duration::from_millis(10);

/// The most moved at once while paced: a rate that a quantum of time does not limit needs no larger transfers.
const LARGEST_PACED: usize = 64 * 1024;

/// The precision of timers. A transfer that is due sooner is made at once, because a wait would take longer.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// How far behind its schedule a paced connection may catch up; without it each late timer would lower the rate.
const PACE_CREDIT: Duration = Duration::from_millis(20);

/// How an answer ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The connection is reset.
    Reset,
    /// The connection is closed in order, as far as TCP is concerned.
    Close,
    /// Nothing more comes, and the connection stays open.
    Stall,
}

/// A rate that one or more connections share.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: f64,
    /// When the next transfer is due.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, due: Mutex::new(None) }
    }

    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.bytes_per_second
    }

    /// The most to move at once.
    fn quantum(&self) -> usize {
        let bytes = self.bytes_per_second * PACE_QUANTUM.as_secs_f64();
        (bytes as usize).clamp(1, LARGEST_PACED)
    }

    /// Enters a transfer made now and returns when the next is due.
    fn spend(&self, now: Instant, bytes: usize) -> Instant {
        let oldest = now.checked_sub(PACE_CREDIT).unwrap_or(now);
        let mut due = self.due.lock();
        let start = due.map_or(now, |due| due.max(oldest));
        let next = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        *due = Some(next);
        next
    }
}

/// The means by which a request changes its own connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Whether there is anything in `state`; a connection without faults looks at nothing else.
    active: AtomicBool,
    held: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ending: Option<Ending>,
    pace: Option<Arc<Pace>>,
}

impl Line {
    /// Takes the rate of the request before off the connection.
    pub(crate) fn clear(&self) {
        if self.active.load(Ordering::Relaxed) {
            *self.state.lock() = State::default();
            self.active.store(false, Ordering::Release);
        }
    }

    /// Limits the rate in both directions until the next request.
    pub(crate) fn pace(&self, pace: Arc<Pace>) {
        self.state.lock().pace = Some(pace);
        self.active.store(true, Ordering::Release);
    }

    /// Ends the answer once everything handed over so far has been sent. Who calls this hands over nothing more.
    pub(crate) fn end(&self, ending: Ending) {
        if ending == Ending::Stall {
            self.held.store(true, Ordering::Relaxed);
        }
        self.state.lock().ending = Some(ending);
        self.active.store(true, Ordering::Release);
    }

    /// [`end`](Self::end), and never goes on.
    pub(crate) async fn end_now(&self, ending: Ending) -> Infallible {
        self.end(ending);
        std::future::pending().await
    }

    /// Delays the answer.
    pub(crate) async fn delay(&self, time: Duration) {
        self.held.store(true, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        self.held.store(false, Ordering::Relaxed);
    }

    /// Whether a fault holds the answer back or slows it down, so that a stopping server does not wait for it.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) || self.current_pace().is_some()
    }

    fn current_ending(&self) -> Option<Ending> {
        if self.active.load(Ordering::Acquire) { self.state.lock().ending } else { None }
    }

    fn current_pace(&self) -> Option<Arc<Pace>> {
        if self.active.load(Ordering::Acquire) { self.state.lock().pace.clone() } else { None }
    }
}

/// A socket that obeys its [`Line`].
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line, reading: None, writing: None }
    }
}

/// The wait until the next transfer is due, after one that was made now.
fn rest(pace: &Pace, bytes: usize) -> Option<Pin<Box<Sleep>>> {
    let now = Instant::now();
    let due = pace.spend(now, bytes);
    (bytes > 0 && due > now + TIMER_RESOLUTION).then(|| Box::pin(sleep_until(due)))
}

/// Waits until a paced transfer is due.
fn wait(sleep: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    if let Some(timer) = sleep {
        ready!(timer.as_mut().poll(context));
        *sleep = None;
    }
    Poll::Ready(())
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(pace) = this.line.current_pace() else {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        };
        ready!(wait(&mut this.reading, context));
        let mut space = vec![0; pace.quantum().min(buffer.remaining())];
        let mut part = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let read = part.filled();
        buffer.put_slice(read);
        this.reading = rest(&pace, read.len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(pace) = this.line.current_pace() else {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        };
        ready!(wait(&mut this.writing, context));
        let part = &bytes[..bytes.len().min(pace.quantum())];
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, part))?;
        this.writing = rest(&pace, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.line.current_pace().is_none() {
            return Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.line.current_ending() {
            None | Some(Ending::Stall) => Pin::new(&mut this.stream).poll_flush(context),
            Some(Ending::Reset) => {
                // Without lingering the kernel drops what it holds and resets the connection when it is closed.
                this.stream.set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            Some(Ending::Close) => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_adds_up_to_its_rate() {
        let pace = Pace::new(1_000_000.0);
        assert_eq!(pace.quantum(), 10_000);
        let start = Instant::now();
        let mut due = start;
        for _ in 0..100 {
            due = pace.spend(due, 10_000);
        }
        assert_eq!((due - start).as_millis(), 1000);
        // A connection that rested may not catch up more than the credit.
        let later = due + Duration::from_secs(5);
        assert_eq!(pace.spend(later, 10_000), later - PACE_CREDIT + Duration::from_millis(10));
    }

    #[test]
    fn slow_paces_move_at_least_a_byte_and_fast_ones_are_bounded() {
        assert_eq!(Pace::new(5.0).quantum(), 1);
        assert_eq!(Pace::new(1e12).quantum(), LARGEST_PACED);
    }
}
