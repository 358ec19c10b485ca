//! The JSON descriptions in the files of a directory store.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};
use oss_protocol::time::{from_unix_seconds, unix_seconds};
use serde::{Deserialize, Serialize};

use super::content::{Content, DataFile, Segment};
use super::etag::Etag;
use super::object::{Acl, Attributes, Object, ObjectKind, Restoration};
use super::storage_class::{Placement, Redundancy, StorageClass};
use super::upload::{Part, Upload};

/// Version of the layout.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) version: u32,
}

impl Format {
    pub(super) const CURRENT: Self = Self { version: 1 };
}

/// The data files found at the start, claimed by the descriptions that name them.
#[derive(Debug)]
pub(super) struct Files(HashMap<u64, (Arc<DataFile>, u64)>);

impl Files {
    pub(super) fn new(files: HashMap<u64, (Arc<DataFile>, u64)>) -> Self {
        Self(files)
    }

    pub(super) fn highest(&self) -> u64 {
        self.0.keys().copied().max().unwrap_or(0)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BucketDescription {
    created: u64,
    storage_class: String,
    acl: String,
    /// Stores of earlier releases have none.
    #[serde(default)]
    redundancy: Option<String>,
}

impl BucketDescription {
    pub(super) fn new(created: SystemTime, placement: Placement, acl: Acl) -> Self {
        Self {
            created: unix_seconds(created),
            storage_class: placement.storage_class.as_str().to_owned(),
            redundancy: Some(placement.redundancy.as_str().to_owned()),
            acl: acl.as_str().to_owned(),
        }
    }

    pub(super) fn into_parts(self) -> (SystemTime, Placement, Acl) {
        (
            from_unix_seconds(self.created),
            Placement {
                storage_class: StorageClass::parse(&self.storage_class).unwrap_or_default(),
                redundancy: self.redundancy.as_deref().and_then(Redundancy::parse).unwrap_or_default(),
            },
            Acl::parse(&self.acl).unwrap_or(Acl::Private),
        )
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SegmentDescription {
    file: u64,
    offset: u64,
    length: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct AttributesDescription {
    headers: Vec<(String, String)>,
    acl: String,
    storage_class: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RestorationDescription {
    ready: u64,
    expiry: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ObjectDescription {
    key: String,
    etag: String,
    md5: Option<[u8; 16]>,
    crc64: u64,
    last_modified: u64,
    kind: String,
    storage_class: String,
    attributes: AttributesDescription,
    segments: Vec<SegmentDescription>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restoration: Option<RestorationDescription>,
}

impl ObjectDescription {
    pub(super) fn new(key: &str, object: &Object) -> io::Result<Self> {
        Ok(Self {
            key: key.to_owned(),
            etag: object.etag(),
            md5: object.md5(),
            crc64: object.crc64,
            last_modified: object.modified,
            kind: object.kind.as_str().to_owned(),
            storage_class: object.storage_class.as_str().to_owned(),
            attributes: describe_attributes(&object.attributes)?,
            segments: describe_content(&object.content)?,
            restoration: object.restoration.as_deref().map(|restoration| RestorationDescription {
                ready: unix_seconds(restoration.ready),
                expiry: unix_seconds(restoration.expiry),
            }),
        })
    }

    pub(super) fn into_object(self, number: u64, files: &Files) -> io::Result<(Arc<str>, Object)> {
        let object = Object {
            content: content(&self.segments, files)?,
            etag: Etag::from_text(&self.etag, self.md5),
            crc64: self.crc64,
            modified: self.last_modified,
            kind: ObjectKind::parse(&self.kind).ok_or_else(|| damaged("unknown kind of object"))?,
            storage_class: storage_class(&self.storage_class)?,
            attributes: attributes(self.attributes)?,
            restoration: self.restoration.map(|restoration| {
                Box::new(Restoration {
                    ready: from_unix_seconds(restoration.ready),
                    expiry: from_unix_seconds(restoration.expiry),
                })
            }),
            record: NonZeroU64::new(number),
        };
        Ok((Arc::from(self.key), object))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UploadDescription {
    key: String,
    initiated: u64,
    attributes: AttributesDescription,
    #[serde(default)]
    sequential: bool,
}

impl UploadDescription {
    pub(super) fn new(upload: &Upload) -> io::Result<Self> {
        Ok(Self {
            key: upload.key.as_ref().to_owned(),
            initiated: unix_seconds(upload.initiated),
            attributes: describe_attributes(&upload.attributes)?,
            sequential: upload.sequential,
        })
    }

    pub(super) fn into_upload(self, id: String) -> io::Result<Upload> {
        let (key, initiated) = (Arc::from(self.key), from_unix_seconds(self.initiated));
        Ok(Upload::new(id, key, initiated, attributes(self.attributes)?, self.sequential))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PartDescription {
    etag: String,
    crc64: u64,
    last_modified: u64,
    segments: Vec<SegmentDescription>,
}

impl PartDescription {
    pub(super) fn new(part: &Part) -> io::Result<Self> {
        Ok(Self {
            etag: part.etag.clone(),
            crc64: part.crc64,
            last_modified: unix_seconds(part.last_modified),
            segments: describe_content(&part.content)?,
        })
    }

    pub(super) fn into_part(self, files: &Files) -> io::Result<Part> {
        Ok(Part {
            content: content(&self.segments, files)?,
            etag: self.etag,
            crc64: self.crc64,
            last_modified: from_unix_seconds(self.last_modified),
        })
    }
}

fn describe_attributes(attributes: &Attributes) -> io::Result<AttributesDescription> {
    let headers = attributes
        .headers
        .iter()
        .map(|(name, value)| {
            let value = str::from_utf8(value.as_bytes()).map_err(io::Error::other)?;
            Ok((name.as_str().to_owned(), value.to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok(AttributesDescription {
        headers,
        acl: attributes.acl.as_str().to_owned(),
        storage_class: attributes.storage_class.map(|class| class.as_str().to_owned()),
        tags: attributes.tags.as_deref().map(<[_]>::to_vec).unwrap_or_default(),
    })
}

fn attributes(description: AttributesDescription) -> io::Result<Attributes> {
    let headers = description
        .headers
        .into_iter()
        .map(|(name, value)| {
            let name = HeaderName::try_from(name).map_err(io::Error::other)?;
            let value = HeaderValue::try_from(value).map_err(io::Error::other)?;
            Ok((name, value))
        })
        .collect::<io::Result<_>>()?;
    let acl = Acl::parse(&description.acl).ok_or_else(|| damaged("unknown access control list"))?;
    let tags = (!description.tags.is_empty()).then(|| description.tags.into_boxed_slice());
    let storage_class = description.storage_class.as_deref().map(storage_class).transpose()?;
    Ok(Attributes { headers, acl, storage_class, tags })
}

fn describe_content(content: &Content) -> io::Result<Vec<SegmentDescription>> {
    content
        .segments()
        .iter()
        // Empty content has no file.
        .filter(|segment| segment.len() > 0)
        .map(|segment| match segment {
            Segment::File { file, offset, length } => {
                Ok(SegmentDescription { file: file.number, offset: *offset, length: *length })
            }
            Segment::Memory(_) => Err(io::Error::other("content in memory cannot be described in a file")),
        })
        .collect()
}

fn content(segments: &[SegmentDescription], files: &Files) -> io::Result<Content> {
    let segments = segments
        .iter()
        .map(|segment| {
            let (file, length) = files.0.get(&segment.file).ok_or_else(|| damaged("a data file is missing"))?;
            let end = segment.offset.checked_add(segment.length);
            if end.is_none_or(|end| end > *length) {
                return Err(damaged("a data file is too short"));
            }
            Ok(Segment::File { file: Arc::clone(file), offset: segment.offset, length: segment.length })
        })
        .collect::<io::Result<_>>()?;
    Ok(Content::new(segments))
}

fn storage_class(text: &str) -> io::Result<StorageClass> {
    StorageClass::parse(text).ok_or_else(|| damaged("unknown storage class"))
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
