//! Bytes that are being fetched ahead of their reader.

use std::{fmt, ops::Range, sync::Arc};

use tokio::{runtime::Handle, sync::SetOnce, task::AbortHandle};

use super::object::ObjectReader;
use crate::{
    buffer::{BufferPool, PooledBuffer},
    error::{Error, ErrorKind, Result, too_large},
};

type Outcome = SetOnce<Result<PooledBuffer>>;

/// A range of an object that is being received into memory. Dropping it cancels the request.
pub struct Piece {
    range: Range<u64>,
    outcome: Arc<Outcome>,
    task: AbortHandle,
}

impl Piece {
    /// Fetches a range over client number `lane`, whose I/O thread is `reactor`.
    pub(crate) fn fetch(
        object: ObjectReader,
        lane: usize,
        reactor: &Handle,
        range: Range<u64>,
        buffers: &BufferPool,
    ) -> Self {
        let outcome = Arc::new(Outcome::new());
        let promise = Promise(Arc::clone(&outcome));
        let (buffers, start, length) = (buffers.clone(), range.start, range.end - range.start);
        let task = reactor.spawn(async move {
            let received = match usize::try_from(length).ok().and_then(|length| buffers.take(length)) {
                Some(mut buffer) => object.fetch(lane, start, &mut [&mut buffer[..]]).await.map(|()| buffer),
                None => Err(too_large(length)),
            };
            promise.keep(received);
        });
        Self { range, outcome, task: task.abort_handle() }
    }

    /// Which bytes they are.
    pub fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// The bytes, or why there are none; `None` while the request is in flight.
    pub fn outcome(&self) -> Option<&Result<PooledBuffer>> {
        self.outcome.get()
    }

    /// The bytes from `at` on, if they have arrived.
    pub fn bytes_from(&self, at: u64) -> Option<&[u8]> {
        let bytes = self.outcome()?.as_ref().ok()?;
        bytes.get(usize::try_from(at.checked_sub(self.range.start)?).ok()?..)
    }

    /// Waits until the bytes have arrived or the request has failed.
    pub async fn arrival(&self) -> Result<()> {
        match self.outcome.wait().await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.outcome().is_none()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.outcome().is_some_and(Result::is_err)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Piece({:?}, under way: {})", self.range, self.is_under_way())
    }
}

/// The duty to report how the request ended: nobody must wait for a task that has stopped.
struct Promise(Arc<Outcome>);

impl Promise {
    fn keep(&self, outcome: Result<PooledBuffer>) {
        // Set once before, by the end of a task that was cancelled.
        drop(self.0.set(outcome));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.get().is_none() {
            let text = "the request was cancelled before its bytes arrived".to_owned();
            self.keep(Err(Error::new(ErrorKind::Cancelled(text))));
        }
    }
}
