//! Files as objects, for a client without an endpoint: bucket and key are the absolute path `/bucket/key`.
//!
//! Nothing here uses the network. The runtime's blocking threads open files, for reading only.

use std::{
    ffi::OsString,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    catalogue::Entry,
    error::{Error, ErrorKind, Result},
};

/// Runs what may wait for a disk.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    action: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(action).await.unwrap_or_else(|_| {
        let text = "the thread that read the file stopped".to_owned();
        Err(ErrorKind::Cancelled(text).into())
    })
}

pub(crate) fn path_of(bucket: &str, key: &str) -> PathBuf {
    PathBuf::from(format!("/{bucket}/{key}"))
}

/// Opens a regular file. Anything else is refused unopened: opening a pipe would wait for its writer.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata)> {
    let found = path.metadata().map_err(|error| failed(path, &error))?;
    if !found.is_file() {
        return Err(no_file(path));
    }
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    let metadata = file.metadata().map_err(|error| failed(path, &error))?;
    Ok((file, metadata))
}

/// Changes with the content, as far as a file system tells without reading it.
pub(crate) fn etag(metadata: &Metadata) -> String {
    let changed = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    format!("\"{:x}-{:x}-{changed:x}\"", metadata.ino(), metadata.len())
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> Error {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{} became shorter while it was being read", path.display()),
        _ => format!("{}: {error}", path.display()),
    };
    ErrorKind::File(error.kind(), text).into()
}

fn no_file(path: &Path) -> Error {
    let text = format!("{} is neither a file nor a directory and cannot be read as an object", path.display());
    ErrorKind::File(io::ErrorKind::InvalidInput, text).into()
}

/// The files whose path starts with `/bucket/prefix`, in the order of their keys' bytes, as a listing of OSS has them.
///
/// Symbolic links are followed. Memory holds the names of the directories on the way to the current file.
#[derive(Debug)]
pub struct Walk {
    bucket: Arc<str>,
    /// From the outermost directory to the one being read.
    open: Vec<Directory>,
    /// What comes after the files already found.
    failure: Option<Error>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Key of everything in it, up to and with the last slash.
    key: String,
    identity: (u64, u64),
    /// Names that are left, the next one last; a directory's ends with a slash.
    names: Vec<OsString>,
}

impl Walk {
    /// Reads the directory that the prefix lies in.
    pub fn new(bucket: &str, prefix: &str) -> Result<Self> {
        let (key, start) = match prefix.rfind('/') {
            Some(slash) => prefix.split_at(slash + 1),
            None => ("", prefix),
        };
        let mut walk = Self { bucket: bucket.into(), open: Vec::new(), failure: None };
        walk.enter(path_of(bucket, key), key.to_owned(), start)?;
        Ok(walk)
    }

    /// The next files, at most `count`; none after the last. An error comes after everything before it.
    pub fn next(&mut self, count: usize) -> Result<Vec<Entry>> {
        let mut page = Vec::with_capacity(count);
        let found = match self.failure.take() {
            Some(error) => Err(error),
            None => self.extend(&mut page, count),
        };
        match found {
            Err(error) if page.is_empty() => return Err(error),
            Err(error) => self.failure = Some(error),
            Ok(()) => {}
        }
        Ok(page)
    }

    fn extend(&mut self, page: &mut Vec<Entry>, count: usize) -> Result<()> {
        while page.len() < count
            && let Some(directory) = self.open.last_mut()
        {
            let Some(name) = directory.names.pop() else {
                self.open.pop();
                continue;
            };
            let path = directory.path.join(&name);
            let Some(name) = name.to_str() else {
                let text = format!("{}: the name is not UTF-8, which keys are", path.display());
                return Err(ErrorKind::File(io::ErrorKind::InvalidData, text).into());
            };
            let key = format!("{}{name}", directory.key);
            if name.ends_with('/') {
                self.enter(path, key, "")?;
                continue;
            }
            let metadata = path.metadata().map_err(|error| failed(&path, &error))?;
            if !metadata.is_file() {
                return Err(no_file(&path));
            }
            page.push(Entry {
                bucket: Arc::clone(&self.bucket),
                key: key.into(),
                size: Some(metadata.len()),
                etag: Some(etag(&metadata).into()),
                label: None,
                span: None,
            });
        }
        Ok(())
    }

    /// Goes into a directory, to the names in it that begin with `start`.
    fn enter(&mut self, path: PathBuf, key: String, start: &str) -> Result<()> {
        let read = |error: io::Error| failed(&path, &error);
        let metadata = path.metadata().map_err(read)?;
        let identity = (metadata.dev(), metadata.ino());
        if self.open.iter().any(|outer| outer.identity == identity) {
            let text = format!("{} is a symbolic link to a directory that it lies in", path.display());
            return Err(ErrorKind::File(io::ErrorKind::Other, text).into());
        }
        let mut names = Vec::new();
        for entry in path.read_dir().map_err(read)? {
            let entry = entry.map_err(read)?;
            let mut name = entry.file_name();
            if !name.as_encoded_bytes().starts_with(start.as_bytes()) {
                continue;
            }
            let mut kind = entry.file_type().map_err(read)?;
            if kind.is_symlink() {
                let path = entry.path();
                kind = path.metadata().map_err(|error| failed(&path, &error))?.file_type();
            }
            // With its slash a directory's name takes the place among the others that its files' keys have.
            if kind.is_dir() {
                name.push("/");
            }
            names.push(name);
        }
        names.sort_unstable_by(|one, other| other.as_encoded_bytes().cmp(one.as_encoded_bytes()));
        self.open.push(Directory { path, key, identity, names });
        Ok(())
    }
}
