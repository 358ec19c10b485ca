//! A run of ranges of one object: the requests for it, and what became of them. No waiting, but to cancel.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use oss_client::{
    Client,
    coalesce::Located,
    reader::{ObjectReader, Target},
};
use oss_protocol::crc64::combine;
use pyo3::{buffer::PyUntypedBuffer, prelude::*};
use tokio::sync::OnceCell;

use crate::{buffer::LentBuffer, wait::Started};

/// One version of an object, opened by the first request for a range of it.
pub(super) struct Object {
    pub(super) bucket: String,
    pub(super) key: String,
    /// The size that the object must have.
    pub(super) size: Option<u64>,
    pub(super) reader: OnceCell<ObjectReader>,
}

impl Object {
    pub(super) async fn open(&self, clients: &Arc<[Client]>, lane: usize) -> oss_client::Result<&ObjectReader> {
        let open = || async {
            let meta = clients[lane].head(&self.bucket, &self.key).await?;
            Ok(ObjectReader::over(clients.to_vec(), &self.bucket, &self.key, meta))
        };
        self.reader.get_or_try_init(open).await
    }
}

/// A range that is to be fetched.
pub(super) struct Wanted {
    pub(super) tag: Py<PyAny>,
    pub(super) object: Arc<Object>,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) crc: Option<u64>,
    pub(super) memory: Option<Py<PyAny>>,
}

impl Located for Wanted {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.length
    }

    fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object) && self.memory.is_none() && other.memory.is_none()
    }
}

/// What a request brought.
pub(super) struct Received {
    /// The object's size.
    pub(super) size: u64,
    /// The checksums asked for; None if the object has another size than it must, and nothing was received.
    pub(super) checksums: Option<Vec<u64>>,
}

/// A request of a run that was not sent yet.
pub(super) struct Request {
    pub(super) start: u64,
    pub(super) target: LentBuffer,
    /// The parts of the target whose checksums are wanted.
    pub(super) spans: Vec<Range<usize>>,
}

/// Ranges that lie close together, and the memory that receives them. A long run takes several requests.
pub(super) struct Run {
    pub(super) ranges: VecDeque<Wanted>,
    pub(super) object: Arc<Object>,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) memory: Py<PyAny>,
    /// Held as long as an I/O thread may write to the memory.
    pub(super) buffer: PyUntypedBuffer,
    /// Bytes of the budget that it takes.
    pub(super) cost: u64,
    pub(super) waiting: VecDeque<Request>,
    /// The requests that were sent, with their lengths.
    pub(super) sent: Vec<(u64, Started<Received>)>,
    /// Fresh memory whose pages are not present yet.
    pub(super) absent: VecDeque<Range<usize>>,
    pub(super) attempts: usize,
}

impl Run {
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.sent.iter().all(|(_, one)| one.is_over())
    }

    pub(super) fn in_flight(&self) -> usize {
        self.sent.iter().filter(|(_, one)| !one.is_over()).count()
    }

    /// Whether the caller of the fetcher does not compare the bytes, so that they count for the object's checksum.
    pub(super) fn is_counted(&self) -> bool {
        self.ranges.iter().all(|range| range.crc.is_none())
    }

    /// Divides the run into requests of at most `longest` bytes.
    pub(super) fn prepare(&mut self, longest: u64) -> PyResult<()> {
        let mut target = LentBuffer::of_buffer(&self.buffer)?.shortened(self.length as usize);
        let mut at = self.start;
        while target.len() > 0 {
            let part = target.split_front(usize::try_from(longest).unwrap_or(usize::MAX));
            let end = at + part.len() as u64;
            let span = |range: Range<u64>| (range.start.max(at) - at) as usize..(range.end.min(end) - at) as usize;
            let checked =
                self.ranges.iter().filter(|range| range.crc.is_some() && range.length > 0).map(Located::range);
            let spans = checked.filter(|range| range.start < end && range.end > at).map(span).collect();
            self.waiting.push_back(Request { start: at, target: part, spans });
            at = end;
        }
        self.attempts += 1;
        Ok(())
    }

    /// Takes the results of all requests, which are over.
    pub(super) fn take(&mut self, py: Python<'_>) -> PyResult<Received> {
        let (mut size, mut has_size) = (0, true);
        let mut parts = Vec::new();
        let mut failure = None;
        for (length, sent) in self.sent.drain(..) {
            match sent.take(py) {
                Ok(Received { size: found, checksums }) => {
                    size = found;
                    has_size &= checksums.is_some();
                    parts.push((length, checksums.unwrap_or_default()));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(Received { size, checksums: has_size.then(|| folded(parts)) }),
        }
    }

    /// Whether each range has the bytes whose checksum the caller knows.
    pub(super) fn intact(&self, checksums: &[u64]) -> Vec<bool> {
        let mut found = checksums.iter();
        let mut is_intact = |range: &Wanted| match range.crc {
            None => true,
            // The checksum of no bytes.
            Some(crc) if range.length == 0 => crc == 0,
            Some(crc) => found.next() == Some(&crc),
        };
        self.ranges.iter().map(&mut is_intact).collect()
    }

    /// Waits until nothing of the requests is left.
    pub(super) fn cancel(&self, py: Python<'_>) {
        self.sent.iter().for_each(|(_, one)| one.cancel());
        self.sent.iter().for_each(|(_, one)| one.end(py));
    }
}

/// The checksums of ranges, from those of requests: one request for several ranges, or several requests for one range.
pub(super) fn folded(mut parts: Vec<(u64, Vec<u64>)>) -> Vec<u64> {
    if parts.len() <= 1 {
        return parts.pop().map(|(_, checksums)| checksums).unwrap_or_default();
    }
    let pairs = parts.into_iter().filter_map(|(length, checksums)| Some((length, *checksums.first()?)));
    let whole = pairs.reduce(|(before, first), (length, second)| (before + length, combine(first, second, length)));
    whole.map(|(_, crc)| crc).into_iter().collect()
}
