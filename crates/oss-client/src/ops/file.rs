//! Files as objects: what the operations do for a client without an endpoint.

use std::{fs::Metadata, os::unix::fs::FileExt as _};

use oss_protocol::crc64::checksum;

use super::{
    get::{FetchedObject, Part},
    head::ObjectMeta,
};
use crate::{
    client::Client,
    error::{ErrorKind, Result, too_large},
    local::{etag, failed, on_blocking_thread, open, path_of},
};

impl Client {
    /// [`Client::head`] of a file.
    pub(crate) async fn head_file(&self, bucket: &str, key: &str) -> Result<ObjectMeta> {
        let path = path_of(bucket, key);
        let described = move || open(&path).map(|(_, metadata)| describe(&metadata));
        on_blocking_thread(described).await.map_err(|error| error.on(Some(bucket), Some(key)))
    }

    /// [`Client::get`] of a file.
    pub(crate) async fn get_file(
        &self,
        bucket: &str,
        key: &str,
        mut wanted: impl FnMut(u64) -> bool + Send + 'static,
    ) -> Result<FetchedObject> {
        let path = path_of(bucket, key);
        let buffers = self.buffers().clone();
        let fetched = move || {
            let (file, metadata) = open(&path)?;
            let meta = describe(&metadata);
            if !wanted(meta.size) {
                return Ok(FetchedObject { meta, bytes: None });
            }
            let buffer = usize::try_from(meta.size).ok().and_then(|size| buffers.take(size));
            let mut bytes = buffer.ok_or_else(|| too_large(meta.size))?;
            file.read_exact_at(&mut bytes, 0).map_err(|error| failed(&path, &error))?;
            Ok(FetchedObject { meta, bytes: Some(bytes) })
        };
        on_blocking_thread(fetched).await.map_err(|error| error.on(Some(bucket), Some(key)))
    }

    /// [`Client::get_scattered`] of a file.
    pub(crate) async fn read_file(
        &self,
        bucket: &str,
        key: &str,
        etag: &str,
        start: u64,
        parts: &mut [Part<'_>],
    ) -> Result<u64> {
        let path = path_of(bucket, key);
        let etag = etag.to_owned();
        // The blocking thread cannot be stopped, so it reads into memory of its own and not into the caller's.
        let length = parts.iter().map(Part::length).sum();
        let own = self.buffers().take(length);
        let mut own = own.ok_or_else(|| too_large(length as u64).on(Some(bucket), Some(key)))?;
        let read = move || {
            let (file, metadata) = open(&path)?;
            if describe(&metadata).etag != etag {
                let text = format!("{} was changed while it was being read; read it again", path.display());
                return Err(ErrorKind::Changed(text).into());
            }
            file.read_exact_at(&mut own, start).map_err(|error| failed(&path, &error))?;
            Ok(own)
        };
        let own = on_blocking_thread(read).await.map_err(|error| error.on(Some(bucket), Some(key)))?;
        let mut rest = &own[..];
        for part in parts {
            let (bytes, behind) = rest.split_at(part.length());
            if let Part::Keep(buffer) = part {
                buffer.copy_from_slice(bytes);
            }
            rest = behind;
        }
        Ok(checksum(&own))
    }
}

fn describe(metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        size: metadata.len(),
        etag: etag(metadata),
        crc64: None,
        last_modified: metadata.modified().ok(),
        content_type: None,
        object_type: None,
    }
}
