//! Writing an object of unknown length: nothing is visible before it is complete.
//!
//! ```text
//!  write ──copy──▶ part being filled ──▶ parts in flight, over all lanes ──▶ complete ──▶ visible
//!    └────────────── lent memory ──────▶    │ each: attempts of its own         └── answer lost? look at the object
//!                                           └ a part failed: the next call raises, give_up aborts
//! ```
//!
//! The life of one object:
//!
//! 1. [`Upload::fill`] copies bytes into the part being filled. The `schedule` decides the size of each part: the
//!    configured one at first, larger ones later, so that 10,000 parts suffice for the largest object that OSS stores.
//! 2. An object that ends within its first part is one request, `PutObject`: it needs no upload ID, and appears at
//!    once.
//! 3. When the first part is full, the upload is initiated. [`Upload::flush`] sends the part on the next lane: lanes
//!    are clients with I/O threads of their own, and take turns. It then waits until there is room for another part: at
//!    most `upload_concurrency` parts, and at most `upload_bytes` of memory, are in flight or being filled.
//! 4. A large write is not copied. [`Upload::lend`] sends whole parts from the caller's memory; only the last bytes, as
//!    many as can be in flight together, are copied, so that the caller can continue meanwhile
//!    ([`Upload::worth_lending`]).
//! 5. Each part has its CRC-64 compared with what the service received. The checksums of all parts are folded into that
//!    of the object.
//! 6. [`Upload::finish`] waits for all parts and sends the one request that publishes the object. Until then the object
//!    that was stored before stays as it is.
//! 7. If the answer to that request says that it failed, or does not arrive, `settle` looks at the object: it may have
//!    been published all the same.
//! 8. If anything fails, [`Upload::give_up`] aborts the upload, so that its parts cost no storage. A program that ends
//!    waits for that ([`GivingUp`]). What a killed process leaves behind is found by `osst uploads sweep`.
//! 9. [`Upload::continue_after`] continues one that was left behind ([`Upload::leave`]), if its caller knows its id.

mod copy;
mod ending;
mod parts;
mod published;
mod schedule;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use oss_protocol::crc64;
use tokio::runtime::Handle;

pub use self::{copy::CopyOptions, ending::GivingUp, published::Published, schedule::MAX_OBJECT_SIZE};
use self::{
    parts::{Destination, PartsInFlight},
    schedule::{MAX_PARTS, Schedule},
};
use crate::{
    buffer::PooledBuffer,
    client::Client,
    error::{Error, ErrorKind, Result, too_large},
    ops::{
        multipart::{Part, folded},
        put::PutOptions,
    },
};

/// A client, and the runtime that drives it. The parts of an upload take turns on several.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The client.
    pub client: Client,
    /// Its runtime.
    pub runtime: Handle,
}

/// Receives an object's bytes in order and uploads them as they come.
#[derive(Debug)]
pub struct Upload {
    client: Client,
    destination: Destination,
    options: PutOptions,
    schedule: Schedule,
    upload_id: Option<Arc<str>>,
    filling: Filling,
    parts: PartsInFlight,
    written: u64,
    /// The parts of a failed upload stay, since a later one continues after them.
    is_kept: bool,
}

/// The part being filled.
#[derive(Debug, Default)]
struct Filling {
    buffer: Option<PooledBuffer>,
    length: usize,
}

impl Filling {
    fn take(&mut self) -> Bytes {
        let length = std::mem::take(&mut self.length);
        self.buffer.take().map_or_else(Bytes::new, |buffer| Bytes::from_owner(buffer).slice(..length))
    }
}

impl Upload {
    /// Begins an object; nothing is sent yet.
    ///
    /// `size_hint` is about how many bytes will be written. It makes parts larger if the object would not fit
    /// otherwise, and is not a limit.
    ///
    /// # Errors
    ///
    /// The hint is larger than the largest object of OSS.
    pub fn new(
        lanes: Vec<Lane>,
        client: &Client,
        bucket: &str,
        key: &str,
        options: PutOptions,
        size_hint: Option<u64>,
    ) -> Result<Self> {
        let destination = Destination { bucket: bucket.into(), key: key.into() };
        check_size(size_hint.unwrap_or(0), &destination)?;
        let config = client.config();
        Ok(Self {
            schedule: Schedule::new(config.part_size, size_hint),
            parts: PartsInFlight::new(lanes, config.upload_concurrency, config.upload_bytes as u64),
            client: client.clone(),
            destination,
            options,
            upload_id: None,
            filling: Filling::default(),
            written: 0,
            is_kept: false,
        })
    }

    /// Continues an upload after its first parts: their bytes count as written. Nothing may have been written yet.
    pub fn continue_after(&mut self, upload_id: &str, parts: Vec<Part>) {
        self.is_kept = true;
        self.upload_id = Some(upload_id.into());
        self.written = parts.iter().map(|part| part.length).sum();
        self.parts.continue_after(parts);
    }

    /// Begins the upload in parts, also of an object that would be one request, and returns its id. If it fails, its
    /// parts are left to a later one.
    ///
    /// # Errors
    ///
    /// Why it could not be begun.
    pub async fn begin(&mut self) -> Result<Arc<str>> {
        self.is_kept = true;
        self.begin_part().await
    }

    /// Stops the parts in flight and leaves those that arrived, so that a later upload can continue after them.
    pub async fn leave(&mut self) {
        self.parts.stop().await;
        self.filling = Filling::default();
        self.upload_id = None;
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether a part has failed, so that the next [`Upload::flush`] returns its error.
    pub fn has_failed(&self) -> bool {
        self.parts.has_failed()
    }

    /// Checks that an object may have `count` more bytes.
    ///
    /// # Errors
    ///
    /// The object becomes larger than OSS allows.
    pub fn check_room(&self, count: usize) -> Result<()> {
        check_size(self.written.saturating_add(count as u64), &self.destination)
    }

    /// Copies bytes into the part being filled; returns how many fit.
    ///
    /// # Errors
    ///
    /// There is no memory for the part.
    pub fn fill(&mut self, bytes: &[u8]) -> Result<usize> {
        let part_size = self.part_size();
        let buffer = match &mut self.filling.buffer {
            Some(buffer) => buffer,
            none => none.insert(self.client.buffers().take(part_size).ok_or_else(|| too_large(part_size as u64))?),
        };
        let room = &mut buffer[self.filling.length..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.filling.length += count;
        self.written += count as u64;
        Ok(count)
    }

    /// Whether the part being filled has to be uploaded before more bytes fit.
    pub fn is_full(&self) -> bool {
        self.filling.buffer.as_ref().is_some_and(|buffer| buffer.len() == self.filling.length)
    }

    /// Uploads the part being filled if it is full, and waits until there is room for the next one.
    ///
    /// # Errors
    ///
    /// Why a part could not be uploaded, this one or one before.
    pub async fn flush(&mut self) -> Result<()> {
        if self.is_full() {
            let bytes = self.filling.take();
            self.start_part(bytes, false).await?;
        }
        self.parts.make_room(self.part_size() as u64).await
    }

    /// Which of `length` bytes that are to be written now are worth lending: those after the part being filled and
    /// before the last ones, which are as many as can be in flight together. Those are better copied, so that the
    /// caller can continue meanwhile.
    pub fn worth_lending(&self, length: usize) -> Range<usize> {
        let part_size = self.part_size();
        let start = self.filling.buffer.as_ref().map_or(0, |buffer| buffer.len() - self.filling.length);
        let kept = self.parts.most_in_flight(part_size as u64).saturating_mul(part_size);
        let end = length.saturating_sub(kept);
        if end.saturating_sub(start) < part_size { start..start } else { start..end }
    }

    /// Uploads whole parts straight from memory of the caller's, and returns how many bytes they have; then there is
    /// room for a part to fill. The part being filled must be empty. Copies of `bytes` are dropped when a part is done,
    /// or the upload aborted or dropped.
    ///
    /// # Errors
    ///
    /// Why a part could not be uploaded.
    pub async fn lend(&mut self, mut bytes: Bytes) -> Result<usize> {
        let length = bytes.len();
        while bytes.len() >= self.part_size() {
            self.lend_part(bytes.split_to(self.part_size())).await?;
        }
        // The bytes that follow are copied into the part being filled, which counts too.
        self.parts.make_room(self.part_size() as u64).await?;
        Ok(length - bytes.len())
    }

    async fn lend_part(&mut self, bytes: Bytes) -> Result<()> {
        self.parts.make_room(bytes.len() as u64).await?;
        let length = bytes.len() as u64;
        self.start_part(bytes, true).await?;
        self.written += length;
        Ok(())
    }

    /// Waits until nothing is being sent from memory of the caller's.
    ///
    /// # Errors
    ///
    /// Why a part could not be uploaded.
    pub async fn take_back_lent(&mut self) -> Result<()> {
        self.parts.collect_lent().await
    }

    /// Appends bytes that are in memory already.
    ///
    /// # Errors
    ///
    /// Why a part could not be uploaded.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.check_room(bytes.len())?;
        while !bytes.is_empty() {
            bytes = &bytes[self.fill(bytes)?..];
            if self.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes a whole object straight from memory and publishes it.
    ///
    /// # Errors
    ///
    /// Why it is not published; call [`Upload::give_up`] then.
    pub async fn publish(&mut self, bytes: Bytes) -> Result<Published> {
        if bytes.len() <= self.part_size() {
            self.written = bytes.len() as u64;
            return self.put(bytes).await;
        }
        self.check_room(bytes.len())?;
        let sent = self.lend(bytes.clone()).await?;
        let rest = bytes.slice(sent..);
        drop(bytes);
        if !rest.is_empty() {
            self.lend_part(rest).await?;
        }
        self.finish().await
    }

    /// Publishes the object.
    ///
    /// # Errors
    ///
    /// Why it is not published; call [`Upload::give_up`] then.
    pub async fn finish(&mut self) -> Result<Published> {
        let rest = self.filling.take();
        if self.upload_id.is_none() {
            return self.put(rest).await;
        }
        if !rest.is_empty() {
            self.start_part(rest, false).await?;
        }
        let parts = self.parts.collect_all().await?;
        let crc64 = folded(&parts);
        self.complete(&parts, crc64).await
    }

    async fn complete(&mut self, parts: &[Part], crc64: Option<u64>) -> Result<Published> {
        let Destination { bucket, key } = &self.destination;
        let upload_id = self.upload_id.as_deref().unwrap_or_default();
        let completed = self.client.complete_multipart(bucket, key, upload_id, parts, crc64, &self.options).await;
        let over = completed.as_ref().err().is_none_or(Error::is_not_found);
        let published = self.settle(completed, crc64).await?;
        if over {
            self.upload_id = None;
        } else if let Err(error) = self.abort().await {
            // If the same object was there before, the upload is still open.
            tracing::warn!(%error, "an upload may have been left open; `osst uploads` lists it");
        }
        Ok(published)
    }

    async fn put(&self, bytes: Bytes) -> Result<Published> {
        let crc64 = crc64::checksum(&bytes);
        let Destination { bucket, key } = &self.destination;
        let stored = self.client.put(bucket, key, bytes, &self.options).await;
        self.settle(stored, Some(crc64)).await
    }

    /// Finds out whether the object was published, although the answer says that it was not or did not arrive.
    async fn settle(&self, answer: Result<String>, crc64: Option<u64>) -> Result<Published> {
        let size = self.written;
        match answer {
            Ok(etag) => Ok(Published { etag, size, crc64 }),
            // If an object must not exist before, one with the same bytes may be somebody else's.
            Err(error) if self.options.forbid_overwrite => Err(error),
            Err(error) => published::ask(&self.client, &self.destination, size, crc64, error).await,
        }
    }

    /// Gives up because of `error`, and returns it: the caller must know the first error. The parts are removed, unless
    /// a later upload continues after them.
    pub async fn give_up(&mut self, error: Error) -> Error {
        if let Err(second) = self.end().await {
            tracing::warn!(error = %second, "a failed upload could not be aborted; its parts remain");
        }
        error
    }

    /// Gives up as [`Upload::abort`] does, but leaves the parts if a later upload continues after them.
    ///
    /// # Errors
    ///
    /// The parts that arrived could not be removed.
    pub async fn end(&mut self) -> Result<()> {
        if self.is_kept {
            self.leave().await;
            return Ok(());
        }
        self.abort().await
    }

    /// Gives up: stops the parts in flight and removes those that arrived.
    ///
    /// # Errors
    ///
    /// The parts that arrived could not be removed.
    pub async fn abort(&mut self) -> Result<()> {
        // A part that no longer runs cannot arrive after the abort.
        self.parts.stop().await;
        self.filling = Filling::default();
        let Destination { bucket, key } = &self.destination;
        match self.upload_id.take() {
            Some(upload_id) => self.client.abort_multipart(bucket, key, &upload_id).await,
            None => Ok(()),
        }
    }

    /// Bytes of the part being filled or about to be.
    fn part_size(&self) -> usize {
        let before = self.written - self.filling.length as u64;
        usize::try_from(self.schedule.part_size(before)).unwrap_or(usize::MAX)
    }

    async fn start_part(&mut self, bytes: Bytes, lent: bool) -> Result<()> {
        let length = bytes.len() as u64;
        let upload_id = self.begin_part().await?;
        let Destination { bucket, key } = self.destination.clone();
        let send =
            |client: Client, number| async move { client.upload_part(&bucket, &key, &upload_id, number, bytes).await };
        self.parts.start(length, lent, send).await
    }

    /// Checks that there may be another part, and returns the upload's id.
    async fn begin_part(&mut self) -> Result<Arc<str>> {
        if self.parts.started() == MAX_PARTS {
            let text = format!(
                "the {MAX_PARTS} parts that an object may have are used up by {} bytes; give size_hint, \
                 the approximate size",
                self.written
            );
            return Err(self.destination.name(ErrorKind::Config(text).into()));
        }
        if let Some(upload_id) = &self.upload_id {
            return Ok(Arc::clone(upload_id));
        }
        let Destination { bucket, key } = &self.destination;
        let upload_id = Arc::from(self.client.initiate_multipart(bucket, key, &self.options).await?);
        Ok(Arc::clone(self.upload_id.insert(upload_id)))
    }
}

fn check_size(size: u64, destination: &Destination) -> Result<()> {
    if size <= MAX_OBJECT_SIZE {
        return Ok(());
    }
    let text = format!("{size} bytes are more than an object may have, which is {MAX_OBJECT_SIZE} (48.8 TiB)");
    Err(destination.name(ErrorKind::Config(text).into()))
}

impl Drop for Upload {
    /// Stops the parts in flight. A task of the current runtime removes those that arrived; outside of a runtime, call
    /// [`Upload::abort`] before.
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (Some(upload_id), Ok(runtime)) = (self.upload_id.take(), Handle::try_current()) else {
            return;
        };
        let mut parts = self.parts.take();
        let (client, Destination { bucket, key }) = (self.client.clone(), self.destination.clone());
        let ending = GivingUp::begin();
        runtime.spawn(async move {
            let _until_done = ending;
            parts.stop().await;
            if let Err(error) = client.abort_multipart(&bucket, &key, &upload_id).await {
                tracing::warn!(%error, "an unfinished upload could not be aborted; its parts remain");
            }
        });
    }
}
