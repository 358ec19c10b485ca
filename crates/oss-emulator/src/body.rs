//! Bodies of responses: nothing, a text, or the content of an object block by block.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::gzip::Gzip;
use crate::store::{Content, DataFile, READ_CHUNK, Segment, read_chunk};

/// The body of a response.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    queue: VecDeque<Segment>,
    /// Bytes not handed out yet.
    left: u64,
    reading: Option<Reading>,
    gzip: Option<Box<Gzip>>,
}

/// A chunk on its way, with the handle it was read from.
type Reading = JoinHandle<io::Result<(Arc<File>, Bytes)>>;

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self { queue: VecDeque::new(), left: 0, reading: None, gzip: None }
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { left: bytes.len() as u64, queue: VecDeque::from([Segment::Memory(bytes)]), reading: None, gzip: None }
    }

    pub(crate) fn content(content: Content) -> Self {
        Self { left: content.size(), queue: content.into_queue(), reading: None, gzip: None }
    }

    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// Sends the rest in the format of gzip, in chunks.
    pub(crate) fn pack(&mut self) {
        self.gzip = Some(Box::default());
    }

    /// Begins to read the next chunk if a file comes next. `open` is the handle if the file is already open.
    fn read_ahead(&mut self, open: Option<Arc<File>>) {
        let Some(Segment::File { file, offset, length }) = self.queue.front_mut() else { return };
        let chunk = (*length).min(READ_CHUNK as u64);
        let source: Arc<DataFile> = Arc::clone(file);
        let start = *offset;
        *offset += chunk;
        *length -= chunk;
        self.reading = Some(spawn_blocking(move || read_chunk(&source, open, start, chunk)));
    }

    /// The next bytes as they are stored.
    fn poll_stored(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self;
        loop {
            if let Some(reading) = &mut this.reading {
                let read = ready!(Pin::new(reading).poll(context));
                this.reading = None;
                let (open, bytes) = match read {
                    Ok(Ok(read)) => read,
                    Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                };
                // The next chunk is read while this one is being sent.
                if matches!(this.queue.front(), Some(Segment::File { length: 0, .. })) {
                    this.queue.pop_front();
                    this.read_ahead(None);
                } else {
                    this.read_ahead(Some(open));
                }
                this.left = this.left.saturating_sub(bytes.len() as u64);
                return Poll::Ready(Some(Ok(bytes)));
            }
            match this.queue.front() {
                None => return Poll::Ready(None),
                Some(Segment::File { .. }) => this.read_ahead(None),
                Some(Segment::Memory(_)) => {
                    let Some(Segment::Memory(bytes)) = this.queue.pop_front() else { return Poll::Ready(None) };
                    if !bytes.is_empty() {
                        this.left = this.left.saturating_sub(bytes.len() as u64);
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let stored = ready!(this.poll_stored(context)).transpose()?;
        let bytes = match (&mut this.gzip, stored) {
            (None, stored) => stored,
            (Some(gzip), Some(bytes)) => Some(gzip.pack(&bytes)),
            (Some(gzip), None) => (!gzip.has_ended()).then(|| gzip.end()),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.gzip.as_ref().is_none_or(|gzip| gzip.has_ended())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.gzip {
            None => SizeHint::with_exact(self.left),
            // Its length is announced for each chunk only.
            Some(_) => SizeHint::default(),
        }
    }
}
