//! Writing an object of unknown length: nothing is visible before it is complete.
//!
//! An object shorter than one part is one request. A longer one is uploaded in parts while it is being written, and
//! published by one request at the end; until then the object that was there before stays as it is.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::{multipart::Part, put::PutOptions},
};

/// Most parts of one object.
const MAX_PARTS: usize = 10_000;

/// The part size doubles after each so many parts: 10,000 parts that start at 8 MiB then hold more than 8 TiB, while
/// small objects keep small parts.
const PARTS_PER_SIZE: usize = 1_000;

/// Smallest part that OSS accepts before the last one.
const MIN_PART_SIZE: usize = 100 << 10;

/// Largest part that OSS accepts.
const MAX_PART_SIZE: usize = 5 << 30;

/// Receives an object's bytes in order and uploads them as they come.
#[derive(Debug)]
pub struct Upload {
    client: Client,
    bucket: String,
    key: String,
    options: PutOptions,
    upload_id: Option<String>,
    buffer: Vec<u8>,
    parts: Vec<Part>,
    in_flight: VecDeque<JoinHandle<Result<Part>>>,
    started: usize,
    written: u64,
}

impl Upload {
    /// Begins an object; nothing is sent yet.
    pub fn new(client: Client, bucket: &str, key: &str, options: PutOptions) -> Self {
        Self {
            client,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            options,
            upload_id: None,
            buffer: Vec::new(),
            parts: Vec::new(),
            in_flight: VecDeque::new(),
            started: 0,
            written: 0,
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Copies bytes into the part being filled; returns how many fit.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let part_size = self.part_size();
        let room = part_size - self.buffer.len();
        let count = bytes.len().min(room);
        if self.buffer.capacity() - self.buffer.len() < count {
            // The first part grows with what is written, since most objects are small; a later one is filled whole.
            let more = if self.started == 0 { count } else { room };
            self.buffer.reserve(more);
        }
        self.buffer.extend_from_slice(&bytes[..count]);
        self.written += count as u64;
        count
    }

    /// Whether the part being filled has to be uploaded before more bytes fit.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= self.part_size()
    }

    /// Uploads the filled part; waits while as many are in flight as are allowed.
    pub async fn flush(&mut self) -> Result<()> {
        self.start_part().await
    }

    /// Appends bytes that are in memory already.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.fill(bytes)..];
            if self.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Publishes the object and returns its ETag.
    pub async fn finish(&mut self) -> Result<String> {
        if self.upload_id.is_none() {
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            return self.client.put(&self.bucket, &self.key, bytes, &self.options).await;
        }
        if !self.buffer.is_empty() {
            self.start_part().await?;
        }
        while self.collect_part().await? {}
        let upload_id = self.upload_id.as_deref().unwrap_or_default();
        let etag =
            self.client.complete_multipart(&self.bucket, &self.key, upload_id, &self.parts, &self.options).await?;
        self.upload_id = None;
        Ok(etag)
    }

    /// Gives up because of `error`, and returns it: what went wrong first is what the caller must know.
    pub async fn give_up(&mut self, error: Error) -> Error {
        if let Err(second) = self.abort().await {
            tracing::warn!(error = %second, "a failed upload could not be aborted; its parts remain");
        }
        error
    }

    /// Gives up: stops the parts in flight and removes those that arrived.
    pub async fn abort(&mut self) -> Result<()> {
        for part in &self.in_flight {
            part.abort();
        }
        for part in self.in_flight.drain(..) {
            // Cancelled, failed or done: a part that no longer runs cannot arrive after the abort.
            drop(part.await);
        }
        self.buffer = Vec::new();
        match self.upload_id.take() {
            Some(upload_id) => self.client.abort_multipart(&self.bucket, &self.key, &upload_id).await,
            None => Ok(()),
        }
    }

    fn part_size(&self) -> usize {
        let first = self.client.config().part_size.clamp(MIN_PART_SIZE, MAX_PART_SIZE);
        let doublings = u32::try_from(self.started / PARTS_PER_SIZE).unwrap_or(u32::MAX);
        first.saturating_mul(2_usize.saturating_pow(doublings)).min(MAX_PART_SIZE)
    }

    async fn start_part(&mut self) -> Result<()> {
        if self.started == MAX_PARTS {
            let text = format!("an object has at most {MAX_PARTS} parts; use a larger part_size");
            return Err(Error::new(ErrorKind::Config(text)).on(Some(&self.bucket), Some(&self.key)));
        }
        if self.upload_id.is_none() {
            let id = self.client.initiate_multipart(&self.bucket, &self.key, &self.options).await?;
            self.upload_id = Some(id);
        }
        // Bytes in flight stay the same while parts grow.
        let first_size = self.client.config().part_size.max(1);
        let allowed = (self.client.config().upload_concurrency * first_size / self.part_size()).max(1);
        while self.in_flight.len() >= allowed {
            self.collect_part().await?;
        }
        self.started += 1;
        let (client, bucket, key) = (self.client.clone(), self.bucket.clone(), self.key.clone());
        let upload_id: Arc<str> = self.upload_id.as_deref().unwrap_or_default().into();
        let (number, bytes) = (self.started as u32, Bytes::from(std::mem::take(&mut self.buffer)));
        self.in_flight
            .push_back(tokio::spawn(async move { client.upload_part(&bucket, &key, &upload_id, number, bytes).await }));
        Ok(())
    }

    /// Waits for the oldest part in flight; false where there is none.
    async fn collect_part(&mut self) -> Result<bool> {
        let Some(part) = self.in_flight.pop_front() else { return Ok(false) };
        match part.await {
            Ok(part) => self.parts.push(part?),
            Err(_) => {
                let text = "a part of the upload was stopped".to_owned();
                return Err(ErrorKind::Cancelled(text).into());
            }
        }
        Ok(true)
    }
}

impl Drop for Upload {
    /// Stops the parts in flight. Those that arrived are removed by a task of the runtime this happens in; outside of one,
    /// call [`Upload::abort`] before.
    fn drop(&mut self) {
        for part in &self.in_flight {
            part.abort();
        }
        let (Some(upload_id), Ok(runtime)) = (self.upload_id.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (client, bucket, key) = (self.client.clone(), self.bucket.clone(), self.key.clone());
        let in_flight = std::mem::take(&mut self.in_flight);
        runtime.spawn(async move {
            for part in in_flight {
                drop(part.await);
            }
            if let Err(error) = client.abort_multipart(&bucket, &key, &upload_id).await {
                tracing::warn!(%error, "an unfinished upload could not be aborted; its parts remain");
            }
        });
    }
}
