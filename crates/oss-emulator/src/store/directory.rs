//! The files of a store that survives a restart.
//!
//! ```text
//! root/format.json                      version of this layout
//! root/lock                             held by the running emulator
//! root/temporary/N                      files being written
//! root/data/XX/N                        bytes of an object or a part; XX is the low byte of N
//! root/buckets/NAME/bucket.json
//! root/buckets/NAME/configurations/KIND  a configuration as the document it came in, such as lifecycle
//! root/buckets/NAME/objects/XX/N.json   describes one object and names its data
//! root/buckets/NAME/uploads/ID/upload.json and PART.json
//! ```
//!
//! Keys are inside the files, never in their names, so any key is as good as any other. Every file is written under
//! `temporary` and renamed, data before the description that names it: the description is what makes a write visible. Of two
//! descriptions of one key, which only an interruption leaves, the one with the higher number is the newer. Data that nothing
//! names is removed at the next start.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bucket::Bucket;
use super::configuration::{ConfigurationKind, Configurations};
use super::content::DataFile;
use super::description::{BucketDescription, Files, Format, ObjectDescription, PartDescription, UploadDescription};
use super::object::{Acl, Object};
use super::storage_class::Placement;
use super::upload::{Part, Upload};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("in use by another emulator")]
    InUse,
    #[error("{0}")]
    Foreign(String),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { path: path.display().to_string(), source }
}

/// An open root directory.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    fsync: bool,
    /// Number of the next file.
    next: AtomicU64,
    closing: Arc<AtomicBool>,
    /// Holds the lock until the last user of the directory is gone.
    _lock: File,
}

impl Directory {
    pub(super) fn open(root: &Path, fsync: bool) -> Result<Self, OpenError> {
        fs::create_dir_all(root).map_err(at(root))?;
        let format = root.join("format.json");
        if !format.exists() {
            let mut entries = fs::read_dir(root).map_err(at(root))?;
            let foreign = entries.find_map(|entry| entry.ok().filter(|entry| entry.file_name() != "lock"));
            if let Some(entry) = foreign {
                let name = entry.file_name();
                return Err(OpenError::Foreign(format!(
                    "it holds other files, such as {}; choose an empty directory or one that an emulator made",
                    name.to_string_lossy()
                )));
            }
        }
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
            Err(TryLockError::Error(source)) => return Err(at(&lock_path)(source)),
        }
        let temporary = root.join("temporary");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(at(&temporary))?;
        }
        for path in [temporary, root.join("data"), root.join("buckets")] {
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        let directory = Self {
            root: root.to_owned(),
            fsync,
            next: AtomicU64::new(1),
            // Nothing is removed until everything has been read and is known to be referred to, or not.
            closing: Arc::new(AtomicBool::new(true)),
            _lock: lock,
        };
        if format.exists() {
            let found: Format = read_json(&format).map_err(at(&format))?;
            if found != Format::CURRENT {
                return Err(OpenError::Foreign(format!(
                    "its layout has version {}, this emulator knows {}",
                    found.version,
                    Format::CURRENT.version
                )));
            }
        } else {
            directory.write_json(&format, &Format::CURRENT).map_err(at(&format))?;
        }
        Ok(directory)
    }

    /// From now on no file is removed for lack of references.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn data_path(&self, number: u64) -> PathBuf {
        self.root.join("data").join(shard(number)).join(file_name(number))
    }

    /// Starts a data file.
    pub(super) fn create_data(self: &Arc<Self>) -> io::Result<DataWriter> {
        let number = self.number();
        let temporary = self.root.join("temporary").join(file_name(number));
        let file = File::create_new(&temporary)?;
        Ok(DataWriter { directory: Arc::clone(self), number, temporary, file, finished: false })
    }

    /// Writes a description so that it is there wholly or not at all.
    fn write_json(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        self.write_file(path, &serde_json::to_vec(value)?)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.root.join("temporary").join(file_name(self.number()));
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        self.publish(&file, &temporary, path)
    }

    fn publish(&self, file: &File, temporary: &Path, path: &Path) -> io::Result<()> {
        if self.fsync {
            file.sync_all()?;
        }
        let renamed = fs::rename(temporary, path).or_else(|error| {
            // The first file of its directory.
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
                self.sync_directory(parent.parent())?;
            }
            fs::rename(temporary, path)
        });
        if let Err(error) = renamed {
            // The next start removes all that is left under `temporary`.
            let _ = fs::remove_file(temporary);
            return Err(error);
        }
        self.sync_directory(path.parent())
    }

    /// A new name, or the lack of an old one, is on the disk only after its directory is.
    fn sync_directory(&self, path: Option<&Path>) -> io::Result<()> {
        match path {
            Some(path) if self.fsync => File::open(path)?.sync_all(),
            _ => Ok(()),
        }
    }

    pub(super) fn create_bucket(self: &Arc<Self>, name: &str) -> io::Result<BucketDirectory> {
        let path = self.root.join("buckets").join(name);
        fs::create_dir_all(&path)?;
        self.sync_directory(path.parent())?;
        Ok(BucketDirectory { directory: Arc::clone(self), path })
    }

    /// Reads everything back, and removes what an interruption left behind.
    pub(super) fn load(self: &Arc<Self>, quota: Option<u64>) -> Result<BTreeMap<String, Arc<Bucket>>, OpenError> {
        let mut files = self.load_files()?;
        let mut highest = files.highest();
        let mut buckets = BTreeMap::new();
        let path = self.root.join("buckets");
        for entry in list(&path)? {
            let description = entry.join("bucket.json");
            if !description.exists() {
                fs::remove_dir_all(&entry).map_err(at(&entry))?;
                continue;
            }
            let description: BucketDescription = read_json(&description).map_err(at(&description))?;
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (created, placement, acl) = description.into_parts();
            let disk = BucketDirectory { directory: Arc::clone(self), path: entry };
            let objects = disk.load_objects(&mut files, &mut highest)?;
            let uploads = disk.load_uploads(&mut files)?;
            let configurations = disk.load_configurations()?;
            let mut bucket = Bucket::new(name.clone(), created, placement, acl, configurations, quota, Some(disk));
            bucket.load(objects, uploads);
            buckets.insert(name, Arc::new(bucket));
        }
        self.next.store(highest + 1, Ordering::Relaxed);
        self.closing.store(false, Ordering::Release);
        // Removes the data that nothing has claimed.
        drop(files);
        Ok(buckets)
    }

    fn load_files(&self) -> Result<Files, OpenError> {
        let mut files = HashMap::new();
        for shard in list(&self.root.join("data"))? {
            for path in list(&shard)? {
                let Some(number) = parse_number(&path) else { continue };
                let length = fs::metadata(&path).map_err(at(&path))?.len();
                let file = DataFile { number, path, closing: Arc::clone(&self.closing) };
                files.insert(number, (Arc::new(file), length));
            }
        }
        Ok(Files::new(files))
    }
}

/// A data file being written. Unless finished it is removed.
#[derive(Debug)]
pub(super) struct DataWriter {
    directory: Arc<Directory>,
    number: u64,
    temporary: PathBuf,
    file: File,
    finished: bool,
}

impl DataWriter {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    pub(super) fn finish(mut self) -> io::Result<Arc<DataFile>> {
        let path = self.directory.data_path(self.number);
        self.directory.publish(&self.file, &self.temporary, &path)?;
        self.finished = true;
        Ok(Arc::new(DataFile { number: self.number, path, closing: Arc::clone(&self.directory.closing) }))
    }
}

impl Drop for DataWriter {
    fn drop(&mut self) {
        if !self.finished {
            // The next start removes all that is left under `temporary`.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The directory of one bucket.
#[derive(Debug)]
pub(super) struct BucketDirectory {
    directory: Arc<Directory>,
    path: PathBuf,
}

impl BucketDirectory {
    pub(super) fn write_bucket(&self, created: SystemTime, placement: Placement, acl: Acl) -> io::Result<()> {
        let description = BucketDescription::new(created, placement, acl);
        self.directory.write_json(&self.path.join("bucket.json"), &description)
    }

    fn configuration_path(&self, kind: ConfigurationKind) -> PathBuf {
        self.path.join("configurations").join(kind.as_str())
    }

    pub(super) fn write_configuration(&self, kind: ConfigurationKind, document: &[u8]) -> io::Result<()> {
        self.directory.write_file(&self.configuration_path(kind), document)
    }

    pub(super) fn remove_configuration(&self, kind: ConfigurationKind) -> io::Result<()> {
        let path = self.configuration_path(kind);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.directory.sync_directory(path.parent()),
        }
    }

    /// A configuration that cannot be read is an error: without it a bucket could be open to more than its owner said.
    fn load_configurations(&self) -> Result<Configurations, OpenError> {
        let mut configurations = Configurations::default();
        for path in list(&self.path.join("configurations"))? {
            let Some(kind) = path.file_name().and_then(|name| ConfigurationKind::parse(name.to_str()?)) else {
                continue;
            };
            let document = fs::read(&path).map_err(at(&path))?;
            configurations.set(kind, Some(document.into())).map_err(|reason| {
                OpenError::Foreign(format!("{} is damaged: {reason}; mend or remove the file", path.display()))
            })?;
        }
        Ok(configurations)
    }

    /// The description goes first: without it the rest is rubble that the next start clears.
    pub(super) fn remove_bucket(&self) -> io::Result<()> {
        fs::remove_file(self.path.join("bucket.json"))?;
        self.directory.sync_directory(Some(&self.path))?;
        fs::remove_dir_all(&self.path)
    }

    fn object_path(&self, number: u64) -> PathBuf {
        self.path.join("objects").join(shard(number)).join(format!("{}.json", file_name(number)))
    }

    /// Returns the number of the description.
    pub(super) fn write_object(&self, key: &str, object: &Object) -> io::Result<Option<NonZeroU64>> {
        let number = self.directory.number();
        let description = ObjectDescription::new(key, object)?;
        self.directory.write_json(&self.object_path(number), &description)?;
        Ok(NonZeroU64::new(number))
    }

    pub(super) fn remove_object(&self, object: &Object) -> io::Result<()> {
        let Some(number) = object.record else { return Ok(()) };
        let path = self.object_path(number.get());
        fs::remove_file(&path)?;
        self.directory.sync_directory(path.parent())
    }

    pub(super) fn write_upload(&self, upload: &Upload) -> io::Result<()> {
        let path = self.path.join("uploads").join(&upload.id).join("upload.json");
        self.directory.write_json(&path, &UploadDescription::new(upload)?)
    }

    pub(super) fn write_part(&self, upload: &str, number: u16, part: &Part) -> io::Result<()> {
        let path = self.path.join("uploads").join(upload).join(format!("{number}.json"));
        self.directory.write_json(&path, &PartDescription::new(part)?)
    }

    pub(super) fn remove_upload(&self, id: &str) -> io::Result<()> {
        let path = self.path.join("uploads").join(id);
        fs::remove_file(path.join("upload.json"))?;
        self.directory.sync_directory(Some(&path))?;
        fs::remove_dir_all(&path)
    }

    fn load_objects(&self, files: &mut Files, highest: &mut u64) -> Result<BTreeMap<Arc<str>, Arc<Object>>, OpenError> {
        let mut objects: BTreeMap<Arc<str>, Arc<Object>> = BTreeMap::new();
        for shard in list(&self.path.join("objects"))? {
            for path in list(&shard)? {
                let Some(number) = parse_number(&path) else { continue };
                *highest = number.max(*highest);
                let loaded = read_json::<ObjectDescription>(&path).and_then(|found| found.into_object(number, files));
                let (key, object) = match loaded {
                    Ok(loaded) => loaded,
                    Err(error) => {
                        // Without fsync a loss of power can leave a description without its data. Such an object was
                        // never safely written; a wrong one would be worse than none.
                        tracing::warn!(path = %path.display(), %error, "dropping an object whose files are damaged");
                        fs::remove_file(&path).map_err(at(&path))?;
                        continue;
                    }
                };
                let older = match objects.get(&key) {
                    Some(present) if present.record > object.record => Some(object),
                    _ => objects.insert(key, Arc::new(object)).map(Arc::unwrap_or_clone),
                };
                if let Some(older) = older {
                    self.remove_object(&older).map_err(at(&path))?;
                }
            }
        }
        Ok(objects)
    }

    fn load_uploads(&self, files: &mut Files) -> Result<Vec<Upload>, OpenError> {
        let mut uploads = Vec::new();
        for path in list(&self.path.join("uploads"))? {
            let description = path.join("upload.json");
            if !description.exists() {
                fs::remove_dir_all(&path).map_err(at(&path))?;
                continue;
            }
            let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found: UploadDescription = read_json(&description).map_err(at(&description))?;
            let mut upload = found.into_upload(id).map_err(at(&description))?;
            for path in list(&path)? {
                let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u16>().ok()) else {
                    continue;
                };
                match read_json::<PartDescription>(&path).and_then(|found| found.into_part(files)) {
                    Ok(part) => {
                        upload.parts.get_mut().insert(number, part);
                    }
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "dropping a part whose files are damaged");
                        fs::remove_file(&path).map_err(at(&path))?;
                    }
                }
            }
            uploads.push(upload);
        }
        Ok(uploads)
    }
}

fn file_name(number: u64) -> String {
    format!("{number:016x}")
}

/// Files are spread over 256 directories: a directory of millions is slow to list on many file systems.
fn shard(number: u64) -> String {
    format!("{:02x}", number & 0xff)
}

fn parse_number(path: &Path) -> Option<u64> {
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The entries of a directory; none if it does not exist yet.
fn list(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    match fs::read_dir(path) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().map_err(at(path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at(path)(error)),
    }
}
