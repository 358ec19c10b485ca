//! The store of buckets and objects. The index is always in memory; the bytes are in memory or under a directory.

mod bucket;
mod budget;
mod configuration;
mod content;
mod description;
mod directory;
mod etag;
mod headers;
mod object;
mod pages;
mod storage_class;
mod upload;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::RwLock;

pub(crate) use bucket::{Bucket, Walk};
pub(crate) use budget::Budget;
pub(crate) use configuration::{ConfigurationKind, Configurations};
pub(crate) use content::{Content, ContentWriter, DataFile, READ_CHUNK, Segment, blocking, read_chunk};
pub(crate) use directory::OpenError;
pub(crate) use etag::{Etag, EtagDigits};
pub(crate) use headers::Headers;
pub(crate) use object::{Acl, Attributes, Object, ObjectKind, Restoration, whole_seconds};
pub(crate) use storage_class::{Placement, Redundancy, StorageClass};
pub(crate) use upload::{Part, Upload};

use directory::Directory;
use pages::Pages;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the bucket exists")]
    BucketAlreadyExists,
    #[error("the bucket does not exist")]
    NoSuchBucket,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("the upload does not exist")]
    NoSuchUpload,
    #[error("the bucket may hold no more bytes")]
    QuotaExceeded,
    #[error("the configuration is wrong: {0}")]
    Configuration(String),
    #[error("the part does not follow the parts so far")]
    PartNotSequential,
    #[error("the disk refused: {0}")]
    Io(#[source] io::Error),
}

/// All buckets.
#[derive(Debug)]
pub(crate) struct Store {
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    directory: Option<Arc<Directory>>,
    budget: Option<Arc<Budget>>,
    /// Most bytes of the objects and parts of one bucket.
    quota: Option<u64>,
    pages: Arc<Pages>,
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            directory.close();
        }
    }
}

impl Store {
    /// A store that forgets everything when it is dropped, and keeps no more bytes than the limit.
    pub(crate) fn in_memory(limit: Option<u64>, quota: Option<u64>) -> Self {
        Self {
            buckets: RwLock::default(),
            directory: None,
            budget: limit.map(Budget::new),
            quota,
            pages: Pages::new(limit.is_some()),
        }
    }

    /// A store that keeps everything under `root`, with what is already there.
    pub(crate) fn open(root: &Path, fsync: bool, quota: Option<u64>) -> Result<Self, OpenError> {
        let directory = Arc::new(Directory::open(root, fsync)?);
        let buckets = RwLock::new(directory.load(quota)?);
        Ok(Self { buckets, directory: Some(directory), budget: None, quota, pages: Pages::new(true) })
    }

    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.buckets.read().get(name).cloned()
    }

    /// Buckets after `marker` in name order.
    pub(crate) fn buckets_after(&self, marker: &str) -> Vec<Arc<Bucket>> {
        let after = if marker.is_empty() { Bound::Unbounded } else { Bound::Excluded(marker) };
        self.buckets.read().range::<str, _>((after, Bound::Unbounded)).map(|(_, bucket)| Arc::clone(bucket)).collect()
    }

    pub(crate) async fn create_bucket(
        self: &Arc<Self>,
        name: &str,
        acl: Acl,
        placement: Placement,
        configurations: Configurations,
    ) -> Result<(), StoreError> {
        let store = Arc::clone(self);
        let name = name.to_owned();
        self.run(move || {
            // Writers of the map wait here for the disk; buckets are not made in a hurry.
            let mut buckets = store.buckets.write();
            if buckets.contains_key(&name) {
                return Err(StoreError::BucketAlreadyExists);
            }
            let created = whole_seconds(SystemTime::now());
            let disk = match &store.directory {
                None => None,
                Some(directory) => {
                    let disk = directory.create_bucket(&name)?;
                    for (kind, document) in configurations.documents() {
                        disk.write_configuration(kind, document)?;
                    }
                    disk.write_bucket(created, placement, acl)?;
                    Some(disk)
                }
            };
            let bucket = Bucket::new(name.clone(), created, placement, acl, configurations, store.quota, disk);
            buckets.insert(name, Arc::new(bucket));
            Ok(())
        })
        .await
    }

    pub(crate) async fn delete_bucket(self: &Arc<Self>, name: &str) -> Result<(), StoreError> {
        let store = Arc::clone(self);
        let name = name.to_owned();
        self.run(move || {
            let mut buckets = store.buckets.write();
            buckets.get(&name).ok_or(StoreError::NoSuchBucket)?.retire()?;
            buckets.remove(&name);
            Ok(())
        })
        .await
    }

    pub(crate) async fn set_bucket_acl(&self, bucket: &Arc<Bucket>, acl: Acl) -> Result<(), StoreError> {
        let bucket = Arc::clone(bucket);
        self.run(move || bucket.set_acl(acl)).await
    }

    /// Takes a document of a configuration, or removes the present one.
    pub(crate) async fn configure(
        &self,
        bucket: &Arc<Bucket>,
        kind: ConfigurationKind,
        document: Option<Bytes>,
    ) -> Result<(), StoreError> {
        let bucket = Arc::clone(bucket);
        self.run(move || bucket.configure(kind, document)).await
    }

    /// Returns a writer that gathers the body of a request to any bucket.
    pub(crate) fn writer(&self, expected: Option<u64>) -> ContentWriter {
        ContentWriter::new(self.directory.clone(), self.budget.as_ref(), &self.pages, expected)
    }

    /// Replaces the object under `key` with what `make` makes of the present one. Readers see either the old or the new object.
    pub(crate) async fn replace<E>(
        &self,
        bucket: &Arc<Bucket>,
        key: &str,
        make: impl FnOnce(Option<&Object>) -> Result<Object, E> + Send + 'static,
    ) -> Result<Arc<Object>, E>
    where
        E: From<StoreError> + Send + 'static,
    {
        let bucket = Arc::clone(bucket);
        let key = key.to_owned();
        self.run(move || bucket.replace(&key, None, make)).await
    }

    /// Replaces the object that an upload is for, and ends the upload: both or neither.
    pub(crate) async fn complete<E>(
        &self,
        bucket: &Arc<Bucket>,
        upload: &Arc<Upload>,
        make: impl FnOnce(Option<&Object>) -> Result<Object, E> + Send + 'static,
    ) -> Result<Arc<Object>, E>
    where
        E: From<StoreError> + Send + 'static,
    {
        let bucket = Arc::clone(bucket);
        let upload = Arc::clone(upload);
        self.run(move || bucket.replace(&upload.key, Some(&upload.id), make)).await
    }

    /// Removes those of the objects that exist.
    pub(crate) async fn remove(&self, bucket: &Arc<Bucket>, keys: Vec<String>) -> Result<(), StoreError> {
        let bucket = Arc::clone(bucket);
        self.run(move || keys.iter().try_for_each(|key| bucket.remove(key))).await
    }

    pub(crate) async fn add_upload(&self, bucket: &Arc<Bucket>, upload: Upload) -> Result<Arc<Upload>, StoreError> {
        let bucket = Arc::clone(bucket);
        self.run(move || bucket.add_upload(upload)).await
    }

    pub(crate) async fn add_part(
        &self,
        bucket: &Arc<Bucket>,
        upload: &Arc<Upload>,
        number: u16,
        part: Part,
    ) -> Result<(), StoreError> {
        let bucket = Arc::clone(bucket);
        let upload = Arc::clone(upload);
        self.run(move || bucket.add_part(&upload, number, part)).await
    }

    pub(crate) async fn remove_upload(&self, bucket: &Arc<Bucket>, key: &str, id: &str) -> Result<(), StoreError> {
        let bucket = Arc::clone(bucket);
        let key = key.to_owned();
        let id = id.to_owned();
        self.run(move || bucket.remove_upload(&key, &id)).await
    }

    /// Runs a change: at once when it only touches memory, on the blocking pool when it touches the disk.
    async fn run<T, E>(&self, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        if self.directory.is_none() {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Io(io::Error::other(error)).into()),
        }
    }
}
