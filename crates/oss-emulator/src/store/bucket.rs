//! One bucket: its objects in key order, and its uploads.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::StoreError;
use super::configuration::{ConfigurationKind, Configurations};
use super::directory::BucketDirectory;
use super::headers::SharedHeaders;
use super::object::{Acl, Object};
use super::storage_class::{Placement, Redundancy, StorageClass};
use super::upload::{Part, Upload};
use crate::rights::Policy;

/// Key and upload identifier, which is also the order of a listing of uploads.
pub(crate) type UploadName = (Arc<str>, String);

/// A bucket. Methods that change it may write to the disk, so they run through [`Store`](super::Store), which chooses the
/// thread.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) created: SystemTime,
    pub(crate) storage_class: StorageClass,
    pub(crate) redundancy: Redundancy,
    acl: Mutex<Acl>,
    configurations: RwLock<Configurations>,
    /// Bytes of all objects, and of the parts of uploads under way.
    stored: AtomicU64,
    /// Most bytes of both.
    quota: Option<u64>,
    objects: RwLock<BTreeMap<Arc<str>, Arc<Object>>>,
    uploads: RwLock<BTreeMap<UploadName, Arc<Upload>>>,
    /// Held while a change is made, so that disk and index change in the same order and readers of the index never wait for
    /// the disk. The value tells whether the bucket is deleted.
    commit: Mutex<bool>,
    disk: Option<BucketDirectory>,
    headers: SharedHeaders,
}

impl Bucket {
    pub(super) fn new(
        name: String,
        created: SystemTime,
        placement: Placement,
        acl: Acl,
        configurations: Configurations,
        quota: Option<u64>,
        disk: Option<BucketDirectory>,
    ) -> Self {
        Self {
            name,
            created,
            storage_class: placement.storage_class,
            redundancy: placement.redundancy,
            acl: Mutex::new(acl),
            configurations: RwLock::new(configurations),
            stored: AtomicU64::new(0),
            quota,
            objects: RwLock::default(),
            uploads: RwLock::default(),
            commit: Mutex::new(false),
            disk,
            headers: SharedHeaders::default(),
        }
    }

    /// Fills a bucket read from the disk.
    pub(super) fn load(&mut self, objects: BTreeMap<Arc<str>, Arc<Object>>, uploads: Vec<Upload>) {
        let parts: u64 = uploads.iter().map(Upload::size).sum();
        *self.stored.get_mut() = parts + objects.values().map(|object| object.size()).sum::<u64>();
        *self.objects.get_mut() = objects;
        *self.uploads.get_mut() = uploads
            .into_iter()
            .map(|upload| ((Arc::clone(&upload.key), upload.id.clone()), Arc::new(upload)))
            .collect();
    }

    pub(crate) fn acl(&self) -> Acl {
        *self.acl.lock()
    }

    /// The present configurations.
    pub(crate) fn configurations(&self) -> RwLockReadGuard<'_, Configurations> {
        self.configurations.read()
    }

    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        self.configurations.read().policy.clone()
    }

    pub(crate) fn blocks_public_access(&self) -> bool {
        self.configurations.read().block_public_access
    }

    pub(super) fn configure(&self, kind: ConfigurationKind, document: Option<Bytes>) -> Result<(), StoreError> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        // Checked before it is written, and seen by readers after.
        let mut changed = self.configurations.read().clone();
        changed.set(kind, document).map_err(StoreError::Configuration)?;
        if let Some(disk) = &self.disk {
            match changed.document(kind) {
                Some(document) => disk.write_configuration(kind, document)?,
                None => disk.remove_configuration(kind)?,
            }
        }
        *self.configurations.write() = changed;
        Ok(())
    }

    pub(crate) fn object(&self, key: &str) -> Option<Arc<Object>> {
        self.objects.read().get(key).cloned()
    }

    pub(crate) fn upload(&self, key: &str, id: &str) -> Option<Arc<Upload>> {
        self.uploads.read().get(&(Arc::from(key), id.to_owned())).cloned()
    }

    /// Calls `visit` with each object from `from` on, in key order, until it says where to go on.
    pub(crate) fn walk_objects(&self, from: Bound<String>, mut visit: impl FnMut(&Arc<str>, &Arc<Object>) -> Walk) {
        let objects = self.objects.read();
        let mut from = from;
        'seek: loop {
            for (key, object) in objects.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded)) {
                match visit(key, object) {
                    Walk::Next => {}
                    Walk::Seek(next) => {
                        from = Bound::Included(next);
                        continue 'seek;
                    }
                    Walk::Stop => return,
                }
            }
            return;
        }
    }

    /// The same for uploads.
    pub(crate) fn walk_uploads(&self, from: Bound<UploadName>, mut visit: impl FnMut(&Arc<Upload>) -> Walk) {
        let uploads = self.uploads.read();
        let mut from = from;
        'seek: loop {
            for upload in uploads.range((from.as_ref(), Bound::Unbounded)).map(|(_, upload)| upload) {
                match visit(upload) {
                    Walk::Next => {}
                    Walk::Seek(next) => {
                        from = Bound::Included((Arc::from(next), String::new()));
                        continue 'seek;
                    }
                    Walk::Stop => return,
                }
            }
            return;
        }
    }

    /// The number of uploads, and for each storage class the bytes and the number of its objects.
    pub(crate) fn totals(&self) -> (u64, BTreeMap<StorageClass, (u64, u64)>) {
        let mut classes: BTreeMap<StorageClass, (u64, u64)> = BTreeMap::new();
        for object in self.objects.read().values() {
            let (bytes, count) = classes.entry(object.storage_class).or_default();
            *bytes += object.size();
            *count += 1;
        }
        (self.uploads.read().len() as u64, classes)
    }

    pub(super) fn set_acl(&self, acl: Acl) -> Result<(), StoreError> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        if let Some(disk) = &self.disk {
            let placement = Placement { storage_class: self.storage_class, redundancy: self.redundancy };
            disk.write_bucket(self.created, placement, acl)?;
        }
        *self.acl.lock() = acl;
        Ok(())
    }

    /// Marks the bucket as deleted if it holds nothing.
    pub(super) fn retire(&self) -> Result<(), StoreError> {
        let mut deleted = self.commit.lock();
        check_exists(*deleted)?;
        if !self.objects.read().is_empty() || !self.uploads.read().is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        if let Some(disk) = &self.disk {
            disk.remove_bucket()?;
        }
        *deleted = true;
        Ok(())
    }

    /// Replaces the object under `key` with what `make` makes of the present one. With an upload, which must still be
    /// there, the upload ends.
    pub(super) fn replace<E: From<StoreError>>(
        &self,
        key: &str,
        upload: Option<&str>,
        make: impl FnOnce(Option<&Object>) -> Result<Object, E>,
    ) -> Result<Arc<Object>, E> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        // The parts of an upload are counted already, those that become the object and those that are dropped.
        let parts = match upload {
            Some(id) => self.upload(key, id).ok_or(StoreError::NoSuchUpload)?.size(),
            None => 0,
        };
        let before = self.object(key);
        let mut object = make(before.as_deref())?;
        let freed = parts + before.as_ref().map_or(0, |object| object.size());
        self.check_room(freed, object.size())?;
        object.record = None;
        object.attributes.headers = self.headers.share(&object.attributes.headers);
        if let Some(disk) = &self.disk {
            object.record = disk.write_object(key, &object).map_err(StoreError::from)?;
        }
        let object = Arc::new(object);
        self.exchange(before.as_ref().map_or(0, |object| object.size()), object.size());
        self.objects.write().insert(Arc::from(key), Arc::clone(&object));
        if let (Some(disk), Some(before)) = (&self.disk, &before) {
            disk.remove_object(before).map_err(StoreError::from)?;
        }
        if let Some(id) = upload {
            self.end_upload(key, id)?;
        }
        Ok(object)
    }

    /// Removes the object under `key`, if there is one.
    pub(super) fn remove(&self, key: &str) -> Result<(), StoreError> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        let Some(object) = self.object(key) else { return Ok(()) };
        if let Some(disk) = &self.disk {
            disk.remove_object(&object)?;
        }
        self.objects.write().remove(key);
        self.exchange(object.size(), 0);
        Ok(())
    }

    pub(super) fn add_upload(&self, upload: Upload) -> Result<Arc<Upload>, StoreError> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        if let Some(disk) = &self.disk {
            disk.write_upload(&upload)?;
        }
        let upload = Arc::new(upload);
        self.uploads.write().insert((Arc::clone(&upload.key), upload.id.clone()), Arc::clone(&upload));
        Ok(upload)
    }

    pub(super) fn add_part(&self, upload: &Upload, number: u16, part: Part) -> Result<(), StoreError> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        // The upload may have been completed or aborted while the part was on its way.
        self.upload(&upload.key, &upload.id).ok_or(StoreError::NoSuchUpload)?;
        if upload.sequential && usize::from(number) > upload.parts.lock().len() + 1 {
            return Err(StoreError::PartNotSequential);
        }
        let (before, after) = (upload.part_size(number), part.content.size());
        self.check_room(before, after)?;
        if let Some(disk) = &self.disk {
            disk.write_part(&upload.id, number, &part)?;
        }
        upload.parts.lock().insert(number, part);
        self.exchange(before, after);
        Ok(())
    }

    pub(super) fn remove_upload(&self, key: &str, id: &str) -> Result<(), StoreError> {
        let deleted = self.commit.lock();
        check_exists(*deleted)?;
        self.upload(key, id).ok_or(StoreError::NoSuchUpload)?;
        self.end_upload(key, id)
    }

    /// The caller holds the commit lock.
    fn end_upload(&self, key: &str, id: &str) -> Result<(), StoreError> {
        if let Some(disk) = &self.disk {
            disk.remove_upload(id)?;
        }
        let ended = self.uploads.write().remove(&(Arc::from(key), id.to_owned()));
        self.exchange(ended.map_or(0, |upload| upload.size()), 0);
        Ok(())
    }

    /// Refuses bytes that the bucket may not hold. What does not grow is let through, so that a full bucket can still be
    /// described and cleared. The caller holds the commit lock.
    fn check_room(&self, before: u64, after: u64) -> Result<(), StoreError> {
        let limits = [self.quota, self.configurations.read().capacity];
        let Some(most) = limits.into_iter().flatten().min() else { return Ok(()) };
        let others = self.stored.load(Ordering::Relaxed).saturating_sub(before);
        if after > before && others.saturating_add(after) > most {
            return Err(StoreError::QuotaExceeded);
        }
        Ok(())
    }

    /// Counts bytes that took the place of others. The caller holds the commit lock.
    fn exchange(&self, before: u64, after: u64) {
        let others = self.stored.load(Ordering::Relaxed).saturating_sub(before);
        self.stored.store(others + after, Ordering::Relaxed);
    }
}

fn check_exists(deleted: bool) -> Result<(), StoreError> {
    if deleted { Err(StoreError::NoSuchBucket) } else { Ok(()) }
}

/// The next step of a walk after an entry.
#[derive(Debug)]
pub(crate) enum Walk {
    Next,
    /// Goes on at the first entry not before this key.
    Seek(String),
    Stop,
}

impl From<io::Error> for StoreError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}
