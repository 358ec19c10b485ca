//! One version of one object, received range by range.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    future::try_join_all,
    stream::{self, StreamExt as _, TryStreamExt as _},
};
use oss_protocol::crc64::{Crc64, checksum};

use super::{coverage::Coverage, job::Jobs};
use crate::{
    catalogue::Entry,
    client::Client,
    error::{Error, ErrorKind, Result},
    metrics::METRICS,
    ops::head::ObjectMeta,
    sync::lock,
};

/// An open object. Every byte comes from the version with the ETag seen at opening, or the read fails.
///
/// Cheap to clone; clones share the coverage.
#[derive(Clone, Debug)]
pub struct ObjectReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One for each I/O thread.
    clients: Vec<Client>,
    bucket: String,
    key: String,
    /// The byte of the stored object that is byte 0 of this one: for members of archives.
    base: u64,
    meta: ObjectMeta,
    coverage: Mutex<Coverage>,
    /// Whether the checksum was compared and counted.
    compared: AtomicBool,
}

impl ObjectReader {
    /// Opens an object.
    pub async fn open(client: Client, bucket: &str, key: &str) -> Result<Self> {
        let meta = client.head(bucket, key).await?;
        Ok(Self::with_meta(client, bucket, key, meta))
    }

    /// Opens an object whose description is known already.
    pub fn with_meta(client: Client, bucket: &str, key: &str, meta: ObjectMeta) -> Self {
        Self::over(vec![client], bucket, key, meta)
    }

    /// Opens an object whose description is known already, to be read over several clients.
    pub fn over(clients: Vec<Client>, bucket: &str, key: &str, meta: ObjectMeta) -> Self {
        Self::starting_at(0, clients, bucket, key, meta)
    }

    /// Opens the object or the archive's member of an entry whose description is known already.
    pub fn of_entry(clients: Vec<Client>, entry: &Entry, meta: ObjectMeta) -> Self {
        match &entry.span {
            Some(span) => Self::starting_at(span.offset, clients, &entry.bucket, &span.archive, meta),
            None => Self::over(clients, &entry.bucket, &entry.key, meta),
        }
    }

    fn starting_at(base: u64, clients: Vec<Client>, bucket: &str, key: &str, meta: ObjectMeta) -> Self {
        let coverage = Mutex::new(Coverage::new(meta.size));
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Self {
            shared: Arc::new(Shared { clients, bucket, key, base, meta, coverage, compared: AtomicBool::new(false) }),
        }
    }

    /// The description of the object.
    pub fn meta(&self) -> &ObjectMeta {
        &self.shared.meta
    }

    /// The clients it is read over.
    pub fn clients(&self) -> &[Client] {
        &self.shared.clients
    }

    /// How long the quickest range took to its first byte, over any of the clients; None before the first.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.clients().iter().filter_map(Client::first_byte).min()
    }

    /// The same version of the object, with nothing received.
    #[must_use]
    pub fn reopened(&self) -> Self {
        let shared = &self.shared;
        Self::starting_at(shared.base, shared.clients.clone(), &shared.bucket, &shared.key, shared.meta.clone())
    }

    /// Fills `buffer` from byte `offset` with concurrent ranged requests over the first client; returns the number of
    /// bytes read, less than the buffer's length only at the end of the object.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let available = self.meta().size.saturating_sub(offset);
        let length = buffer.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let config = self.shared.clients[0].config();
        let part_size = config.part_size.max(1);
        let slices = buffer[..length].chunks_mut(part_size).enumerate();
        stream::iter(slices)
            .map(Ok::<_, Error>)
            .try_for_each_concurrent(config.prefetch_concurrency, |(index, slice)| async move {
                self.fetch(0, offset + (index * part_size) as u64, &mut [slice]).await
            })
            .await?;
        Ok(length)
    }

    /// Fetches ranges over client number `lane`, `concurrency` at a time, until none is left or one fails.
    pub async fn work<B: AsMut<[u8]> + Send>(self, lane: usize, jobs: Arc<Jobs<B>>, concurrency: usize) -> Result<()> {
        let worker = || async {
            while let Some(mut job) = jobs.next() {
                if let Err(error) = self.receive(lane, job.start, &mut job.slices(), jobs.counted).await {
                    jobs.forget();
                    return Err(error);
                }
            }
            Ok(())
        };
        try_join_all((0..concurrency.max(1)).map(|_| worker())).await.map(|_| ())
    }

    /// Receives the bytes from `start` into `slices`, one after the other.
    pub(crate) async fn fetch(&self, lane: usize, start: u64, slices: &mut [&mut [u8]]) -> Result<()> {
        self.receive(lane, start, slices, true).await.map(drop)
    }

    /// Receives the bytes from `start` into `target`, with one request over client number `lane`, and returns the
    /// CRC-64 of each range in `checked`. If the caller checks the bytes itself and may fetch them again, they must not
    /// be `counted` for the checksum of the object.
    pub async fn receive_checked(
        &self,
        lane: usize,
        start: u64,
        target: &mut [u8],
        checked: &[Range<usize>],
        counted: bool,
    ) -> Result<Vec<u64>> {
        let crc = self.receive(lane, start, &mut [&mut *target], counted).await?;
        let checksum_of =
            |range: &Range<usize>| if range.len() == target.len() { crc } else { checksum(&target[range.clone()]) };
        Ok(checked.iter().map(checksum_of).collect())
    }

    /// Receives the bytes from `start` into `slices`, one after the other, and returns their CRC-64.
    async fn receive(&self, lane: usize, start: u64, slices: &mut [&mut [u8]], counted: bool) -> Result<u64> {
        let shared = &*self.shared;
        let client = &shared.clients[lane % shared.clients.len()];
        let crc = client.get_into(&shared.bucket, &shared.key, &shared.meta.etag, shared.base + start, slices).await?;
        if counted {
            let end = slices.iter().fold(start, |end, slice| end + slice.len() as u64);
            lock(&shared.coverage).record(start..end, crc, |new| checksum_of(slices, start, &new));
        }
        Ok(crc)
    }

    /// Bytes of the object never received.
    pub fn left(&self) -> u64 {
        lock(&self.shared.coverage).left()
    }

    /// The ranges that were received, with the CRC-64 of what came first, in order.
    pub fn received(&self) -> Vec<(Range<u64>, u64)> {
        lock(&self.shared.coverage).received()
    }

    /// The ranges of the object that were never received, if they have at most `limit` bytes together.
    pub(crate) fn remainder(&self, limit: u64) -> Vec<Range<u64>> {
        let coverage = lock(&self.shared.coverage);
        if coverage.left() > limit { Vec::new() } else { coverage.missing(0..self.meta().size) }
    }

    /// Compares the checksum, once every byte has been received.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if it is not the one that OSS stores.
    pub fn verify(&self) -> Result<()> {
        let found = lock(&self.shared.coverage).checksum();
        match (found, self.meta().crc64) {
            (Some(found), Some(stored)) if found != stored => {
                let text = format!(
                    "the bytes received have CRC-64 {found}, the object has {stored}: they were corrupted on the way; \
                     read it again from the start"
                );
                Err(Error::new(ErrorKind::Integrity(text)).on(Some(&self.shared.bucket), Some(&self.shared.key)))
            }
            (Some(_), Some(_)) => {
                if !self.shared.compared.swap(true, Ordering::Relaxed) {
                    METRICS.compared.add(self.meta().size);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// CRC-64 of a range of the bytes in `slices`, the first of which is byte `start`.
fn checksum_of(slices: &[&mut [u8]], start: u64, range: &Range<u64>) -> u64 {
    let mut crc = Crc64::default();
    let mut at = start;
    for slice in slices {
        let end = at + slice.len() as u64;
        let (from, to) = (range.start.clamp(at, end), range.end.clamp(at, end));
        crc.update(&slice[(from - at) as usize..(to - at) as usize]);
        at = end;
    }
    crc.value()
}

#[cfg(test)]
mod tests {
    use oss_protocol::crc64::checksum;

    use super::*;

    #[test]
    fn a_checksum_runs_over_slices() {
        let bytes: Vec<u8> = (0..100).collect();
        let (mut one, mut two, mut three) = (bytes[..10].to_vec(), bytes[10..11].to_vec(), bytes[11..].to_vec());
        let slices = [&mut one[..], &mut two[..], &mut [], &mut three[..]];
        for (from, to) in [(0, 100), (0, 10), (5, 12), (10, 11), (11, 100), (50, 50), (99, 100)] {
            let expected = checksum(&bytes[from..to]);
            assert_eq!(checksum_of(&slices, 7, &(7 + from as u64..7 + to as u64)), expected);
        }
    }
}
