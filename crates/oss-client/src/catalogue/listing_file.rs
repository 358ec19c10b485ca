//! The place of a dataset's listing file, and the right to write it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{
    page_file::{PageFile, State, failed},
    producer::{Producer, is_same},
};
use crate::{
    error::{Error, ErrorKind, Result},
    sync::lock,
};

/// Name of the file in its directory.
const FILE_NAME: &str = "listing";

/// The listing of a dataset: a file in a directory of its own, shared by all processes that know the directory.
#[derive(Debug)]
pub struct ListingFile {
    directory: PathBuf,
    limit: u64,
    /// The file that this process uses.
    current: Mutex<Option<Arc<PageFile>>>,
}

/// The answer to a process that asks to be the producer.
#[derive(Debug)]
pub enum Turn {
    /// This process appends.
    Ours(Box<Producer>),
    /// Another process appends.
    Taken,
    /// Nothing is to be appended any more.
    Over,
}

impl ListingFile {
    /// A listing in `directory`, which is made when it is first needed. A complete one of more than `limit` bytes is
    /// not kept.
    pub fn new(directory: impl Into<PathBuf>, limit: u64) -> Self {
        Self { directory: directory.into(), limit, current: Mutex::new(None) }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Most bytes that are kept once it is complete.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The file that this process uses or would use; `None` if there is none yet.
    pub fn opened(&self) -> Result<Option<Arc<PageFile>>> {
        let mut current = lock(&self.current);
        if current.is_none()
            && let Some(file) = self.existing()?
        {
            *current = Some(Arc::new(PageFile::new(file, &self.path())));
        }
        Ok(current.clone())
    }

    fn existing(&self) -> Result<Option<File>> {
        let path = self.path();
        self.check_directory()?;
        match OpenOptions::new().read(true).open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, "opened", &error)),
        }
    }

    /// Lets go of the file; the next use opens the file that has the name then.
    pub fn close(&self) {
        lock(&self.current).take();
    }

    /// Removes the name of the file: the next use lists anew, and readers of the old file can finish.
    pub fn discard(&self) -> Result<()> {
        self.close();
        let path = self.path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, "removed", &error)),
            _ => Ok(()),
        }
    }

    /// The file to read from: the one in use, else the one that has the name, else a new one. A file whose listing
    /// failed is replaced. `None` if another process is replacing it at this moment: ask again.
    pub fn open(&self) -> Result<Option<Arc<PageFile>>> {
        let mut current = lock(&self.current);
        if let Some(file) = &*current
            && file.is_current()?
            && file.refresh()?.state != State::Failed
        {
            return Ok(Some(Arc::clone(file)));
        }
        let path = self.path();
        let Some(file) = self.existing()?.map_or_else(|| self.create(), |file| Ok(Some(file)))? else {
            return Ok(None);
        };
        let file = Arc::new(PageFile::new(file, &path));
        if file.refresh()?.state == State::Failed {
            self.replace(&file)?;
            return Ok(None);
        }
        *current = Some(Arc::clone(&file));
        Ok(Some(file))
    }

    /// Asks to append to a file.
    pub fn produce(&self, file: &Arc<PageFile>) -> Result<Turn> {
        if file.refresh()?.state != State::Running {
            return Ok(Turn::Over);
        }
        let path = self.path();
        let locked = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(locked) => locked,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.given_up(file),
            Err(error) => return Err(failed(&path, "opened", &error)),
        };
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Turn::Taken),
            Err(TryLockError::Error(error)) => return Err(failed(&path, "locked", &error)),
        }
        if !file.is_current()? {
            return self.given_up(file);
        }
        Ok(match Producer::new(Arc::clone(file), locked, self.limit)? {
            Some(producer) => Turn::Ours(Box::new(producer)),
            None => Turn::Over,
        })
    }

    /// The name leads nowhere or to another file.
    fn given_up(&self, file: &PageFile) -> Result<Turn> {
        // If it is complete by now, it may have been larger than the limit.
        if file.refresh()?.state != State::Running {
            return Ok(Turn::Over);
        }
        let directory = self.directory.display();
        let text = format!("the listing in {directory} was discarded before it was complete; iterate again");
        Err(Error::new(ErrorKind::Listing(text)))
    }

    /// Removes a failed file, unless somebody did so before.
    fn replace(&self, failed_file: &PageFile) -> Result<()> {
        let path = self.path();
        let error = |error: io::Error| failed(&path, "replaced", &error);
        let lock = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(error(cause)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(cause)) => return Err(error(cause)),
        }
        // Under the lock, so that the new file of a faster process stays.
        if failed_file.is_current()? && is_same(&lock, &path).map_err(error)? {
            std::fs::remove_file(&path).map_err(error)?;
        }
        Ok(())
    }

    /// Makes directory and file; `None` if another process made the file at this moment.
    fn create(&self) -> Result<Option<File>> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&self.directory, "made", &error)),
        }
        self.check_directory()?;
        let path = self.path();
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            // The directory was removed meanwhile: it is made again at the next try.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, "made", &error)),
        }
    }

    /// A file that is trusted must not lie in a directory that others can write.
    fn check_directory(&self) -> Result<()> {
        let found = match std::fs::symlink_metadata(&self.directory) {
            Ok(found) => found,
            // Its maker removed it; a file that is open can still be read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&self.directory, "read", &error)),
        };
        let wrong = if !found.is_dir() {
            "is no directory"
        } else if found.uid() != rustix::process::geteuid().as_raw() {
            "belongs to another user"
        } else if found.mode() & 0o077 != 0 {
            "is open to other users"
        } else {
            return Ok(());
        };
        let text = format!(
            "{} {wrong}: a listing is kept in a private directory only; remove it, or set TMPDIR to another place",
            self.directory.display()
        );
        Err(Error::new(ErrorKind::Listing(text)))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }
}
