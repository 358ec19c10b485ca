//! Copying an object of any size inside the service.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderValue};
use oss_protocol::header as oss_header;
use tokio::runtime::Handle;

use super::{Lane, Schedule, Upload, parts::Destination};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    ops::{
        copy::{Source, describes},
        multipart::folded,
        put::PutOptions,
    },
};

/// Bytes copied by one request if an object is copied in parts, as in Alibaba's own SDKs.
const PART_SIZE: u64 = 64 << 20;

/// How an object is copied.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// A larger object is copied in parts. The service copies up to 1 GiB in one request.
    pub largest: u64,
    /// The source's size, if it is known: that saves a request.
    pub size: Option<u64>,
    /// Counts the bytes copied so far.
    pub copied: Arc<AtomicU64>,
    /// What is stored otherwise than at the source.
    pub put: PutOptions,
}

impl Client {
    /// Copies an object in the same region, with all that describes it; returns the ETag of the copy.
    ///
    /// In parts or not, the copy is of one version of the source and appears whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] if the source is replaced meanwhile.
    pub async fn copy(
        &self,
        source_bucket: &str,
        source_key: &str,
        bucket: &str,
        key: &str,
        mut options: CopyOptions,
    ) -> Result<String> {
        // Bytes and description must be those of one version.
        let mut version = None;
        let size = match options.size {
            Some(size) if size <= options.largest && !describes(&options.put.headers) => size,
            _ => {
                let mut source = self.copy_source(source_bucket, source_key).await?;
                if source.meta.size > options.largest && !source.is_link() {
                    return self.copy_in_parts(source, bucket, key, options).await;
                }
                if describes(&options.put.headers) {
                    // The service replaces all of the description or nothing of it.
                    options.put.headers = over(std::mem::take(&mut source.headers), options.put.headers);
                    version = Some(source.meta.etag);
                }
                source.meta.size
            }
        };
        let source = (source_bucket, source_key, version.as_deref());
        let etag = self.copy_object(source, bucket, key, &options.put).await?;
        options.copied.fetch_add(size, Ordering::Relaxed);
        Ok(etag)
    }

    async fn copy_in_parts(&self, mut source: Source, bucket: &str, key: &str, options: CopyOptions) -> Result<String> {
        let mut headers = std::mem::take(&mut source.headers);
        if source.has_tags && !options.put.headers.contains_key(oss_header::TAGGING) {
            let tags = self.tagging(&source.bucket, &source.key).await?;
            let tags =
                HeaderValue::from_str(&tags).map_err(|error| Error::new(ErrorKind::Config(error.to_string())))?;
            headers.insert(oss_header::TAGGING, tags);
        }
        // The service moves the bytes: one thread asks for all parts.
        let lane = Lane { client: self.clone(), runtime: Handle::current() };
        let size = source.meta.size;
        let put = PutOptions { headers: over(headers, options.put.headers), ..options.put };
        let mut upload = Upload::new(vec![lane], self, bucket, key, put, Some(size))?;
        upload.schedule = Schedule::new(PART_SIZE.min(options.largest) as usize, Some(size));
        match upload.publish_copy(&Arc::new(source), &options.copied).await {
            Ok(etag) => Ok(etag),
            Err(error) => Err(upload.give_up(error).await),
        }
    }
}

/// Headers with others in their place.
fn over(mut headers: HeaderMap, others: HeaderMap) -> HeaderMap {
    headers.extend(others);
    headers
}

impl Upload {
    async fn publish_copy(&mut self, source: &Arc<Source>, copied: &Arc<AtomicU64>) -> Result<String> {
        let size = source.meta.size;
        while self.written < size {
            let range = self.written..size.min(self.written + self.part_size() as u64);
            let (length, end) = (range.end - range.start, range.end);
            let upload_id = self.begin_part().await?;
            let Destination { bucket, key } = self.destination.clone();
            let (source, copied) = (Arc::clone(source), Arc::clone(copied));
            let send = |client: Client, number| async move {
                let part = client.upload_part_copy(&bucket, &key, &upload_id, number, &source, range).await?;
                copied.fetch_add(length, Ordering::Relaxed);
                Ok(part)
            };
            self.parts.start(length, false, send).await?;
            self.written = end;
        }
        let parts = self.parts.collect_all().await?;
        let (found, stored) = (folded(&parts), source.meta.crc64);
        if let (Some(found), Some(stored)) = (found, stored)
            && found != stored
        {
            let text = format!("the parts of the copy have CRC-64 {found}, the object has {stored}; copy it again");
            return Err(Error::new(ErrorKind::Integrity(text)).on(Some(&source.bucket), Some(&source.key)));
        }
        Ok(self.complete(&parts, stored.or(found)).await?.etag)
    }
}
