//! Loading the files of a directory into a bucket, before the server answers.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};
use oss_protocol::uri::validate_key;

use crate::config::EtagMode;
use crate::ingest::{Gathering, Received};
use crate::store::{Attributes, Bucket, Object, ObjectKind, Store, StoreError, blocking};

/// How much of a file is read at a time: a block of the store.
const READ: u64 = 1024 * 1024;

/// Makes an object of every file below `root`. The key is the path below `root`, with slashes.
pub(crate) async fn import(store: &Store, bucket: &Arc<Bucket>, etag: EtagMode, root: &Path) -> io::Result<()> {
    let root = root.to_owned();
    let files = blocking(move || list(&root)).await?;
    for (key, path) in files {
        load(store, bucket, etag, key, &path).await.map_err(at(&path))?;
    }
    Ok(())
}

/// Keys and paths of all files. A link to a file is a file; a link to a directory is left out, since it may be a loop.
fn list(root: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    let mut pending = vec![(String::new(), root.to_owned())];
    while let Some((prefix, directory)) = pending.pop() {
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            let path = entry.path();
            let name = entry.file_name();
            let key = match name.to_str() {
                Some(name) => format!("{prefix}{name}"),
                None => return Err(at(&path)(io::Error::other("a name that is not UTF-8 cannot be a key"))),
            };
            if entry.file_type().map_err(at(&path))?.is_dir() {
                pending.push((key + "/", path));
            } else if fs::metadata(&path).map_err(at(&path))?.is_file() {
                validate_key(&key).map_err(|error| at(&path)(io::Error::other(error)))?;
                files.push((key, path));
            }
        }
    }
    Ok(files)
}

async fn load(store: &Store, bucket: &Arc<Bucket>, etag: EtagMode, key: String, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let (mut file, size) = blocking(move || {
        let file = File::open(&path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    })
    .await?;
    let mut gathering = Gathering::new(store, Some(size), etag == EtagMode::Md5);
    loop {
        let (back, block) = blocking(move || {
            let mut block = Vec::new();
            Read::by_ref(&mut file).take(READ).read_to_end(&mut block)?;
            Ok((file, block))
        })
        .await?;
        file = back;
        if block.is_empty() {
            break;
        }
        gathering.write(&Bytes::from(block)).await?;
    }
    let received = gathering.finish().await?;
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let attributes = Attributes { headers: [content_type].into_iter().collect(), ..Attributes::default() };
    let etag = received.etag();
    let Received { content, crc64, md5 } = received;
    let object = Object::new(content, &etag, md5, crc64, ObjectKind::Normal, attributes, bucket.storage_class);
    match store.replace(bucket, &key, move |_| Ok::<_, StoreError>(object)).await {
        Ok(_) => Ok(()),
        Err(StoreError::Io(error)) => Err(error),
        Err(other) => Err(io::Error::other(other)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}
