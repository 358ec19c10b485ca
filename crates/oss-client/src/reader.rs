//! Reading parts of one object, pinned to the version that was there when it was opened.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::{
    client::Client,
    error::{Error, Result},
    ops::head::ObjectMeta,
};

/// An open object. Every byte comes from the version with the ETag seen at opening, or the read fails.
#[derive(Clone, Debug)]
pub struct ObjectReader {
    client: Client,
    bucket: String,
    key: String,
    meta: ObjectMeta,
}

impl ObjectReader {
    /// Opens an object.
    pub async fn open(client: Client, bucket: &str, key: &str) -> Result<Self> {
        let meta = client.head(bucket, key).await?;
        Ok(Self::with_meta(client, bucket, key, meta))
    }

    /// Opens an object whose description is known already.
    pub fn with_meta(client: Client, bucket: &str, key: &str, meta: ObjectMeta) -> Self {
        Self { client, bucket: bucket.to_owned(), key: key.to_owned(), meta }
    }

    /// What is being read.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// Fills `buffer` from byte `offset` with concurrent ranged requests; returns the number of bytes read, less than
    /// the buffer's length only at the end of the object.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let available = self.meta.size.saturating_sub(offset);
        let length = buffer.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let part_size = self.client.config().part_size.max(1);
        let parts = buffer[..length].chunks_mut(part_size).enumerate();
        stream::iter(parts)
            .map(Ok::<_, Error>)
            .try_for_each_concurrent(self.client.config().prefetch_concurrency, |(index, part)| async move {
                let start = offset + (index * part_size) as u64;
                self.client.get_range(&self.bucket, &self.key, &self.meta.etag, start, part).await?;
                Ok(())
            })
            .await?;
        Ok(length)
    }
}
