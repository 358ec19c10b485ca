//! Listings of objects, in both versions of the call.

use std::time::SystemTime;

use super::{Cursor, EncodingType, Owner, Writer, XmlError, non_empty, read_common_prefix, write_common_prefixes};
use crate::time::format_xml_timestamp;

pub(super) const ROOT: &str = "ListBucketResult";

/// What one element of `Contents` takes written out, without its key; so that a page is written with one allocation.
const CONTENTS_BYTES: usize = 320;

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// The key.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// The entity tag, with its quotes.
    pub etag: String,
    /// When the object was last written.
    pub last_modified: SystemTime,
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    pub object_type: String,
    /// The storage class.
    pub storage_class: String,
    /// The owner; version 2 gives it only when asked.
    pub owner: Option<Owner>,
}

impl ObjectSummary {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let (mut key, mut size, mut last_modified) = (None, None, None);
        let (mut etag, mut object_type, mut storage_class, mut owner) =
            (String::new(), String::new(), String::new(), None);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Key" => key = Some(cursor.text()?),
                "Size" => size = Some(cursor.number("Size")?),
                "ETag" => etag = cursor.text()?,
                "LastModified" => last_modified = Some(cursor.time("LastModified")?),
                "Type" => object_type = cursor.text()?,
                "StorageClass" => storage_class = cursor.text()?,
                "Owner" => owner = Some(Owner::read(cursor)?),
                _ => cursor.skip()?,
            }
        }
        Ok(Self {
            key: key.ok_or(XmlError::Missing { element: "Key" })?,
            size: size.ok_or(XmlError::Missing { element: "Size" })?,
            etag,
            last_modified: last_modified.ok_or(XmlError::Missing { element: "LastModified" })?,
            object_type,
            storage_class,
            owner,
        })
    }

    fn as_entry(&self) -> ObjectEntry<'_> {
        ObjectEntry {
            key: &self.key,
            size: self.size,
            etag: &self.etag,
            last_modified: self.last_modified,
            object_type: &self.object_type,
            storage_class: &self.storage_class,
            owner: self.owner.as_ref(),
            restore_info: None,
        }
    }
}

/// One object to write into a listing: an [`ObjectSummary`] that owns nothing.
#[derive(Clone, Copy, Debug)]
pub struct ObjectEntry<'a> {
    /// The key.
    pub key: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The entity tag, with its quotes.
    pub etag: &'a str,
    /// When the object was last written.
    pub last_modified: SystemTime,
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    pub object_type: &'a str,
    /// The storage class.
    pub storage_class: &'a str,
    /// The owner, if the answer contains it.
    pub owner: Option<&'a Owner>,
    /// How far the restoration of an archived object is, as `x-oss-restore` says.
    pub restore_info: Option<&'a str>,
}

/// The objects of a listing that is being written.
#[derive(Debug)]
pub struct Contents<'w> {
    writer: &'w mut Writer,
    encoding: EncodingType,
    /// The time written last and its text: neighbours were often written in the same second.
    time: Option<(SystemTime, String)>,
    /// The owner written last and its element: most often all objects belong to one.
    owner: Option<(Owner, String)>,
}

impl<'w> Contents<'w> {
    fn new(writer: &'w mut Writer, encoding: EncodingType) -> Self {
        Self { writer, encoding, time: None, owner: None }
    }

    /// Reserves memory for this many objects, whose keys have this many bytes in total.
    pub fn reserve(&mut self, objects: usize, key_bytes: usize) {
        self.writer.reserve(objects * CONTENTS_BYTES + key_bytes + 512);
    }

    /// Writes the next object.
    pub fn push(&mut self, object: &ObjectEntry<'_>) {
        let writer = &mut *self.writer;
        writer.markup("<Contents><Key>");
        self.encoding.write_text(writer, object.key);
        writer.markup("</Key><LastModified>");
        match &self.time {
            Some((time, text)) if *time == object.last_modified => writer.markup(text),
            _ => {
                let text = format_xml_timestamp(object.last_modified);
                writer.markup(&text);
                self.time = Some((object.last_modified, text));
            }
        }
        writer.markup("</LastModified><ETag>");
        writer.text(object.etag);
        writer.markup("</ETag><Type>");
        writer.text(object.object_type);
        writer.markup("</Type><Size>");
        writer.number(object.size);
        writer.markup("</Size><StorageClass>");
        writer.text(object.storage_class);
        writer.markup("</StorageClass>");
        if let Some(text) = object.restore_info {
            writer.leaf("RestoreInfo", text);
        }
        if let Some(owner) = object.owner {
            match &self.owner {
                Some((known, element)) if known == owner => writer.markup(element),
                _ => {
                    let start = writer.written().len();
                    owner.write(writer);
                    self.owner = Some((owner.clone(), writer.written()[start..].to_owned()));
                }
            }
        }
        writer.markup("</Contents>");
    }

    fn push_all(&mut self, objects: &[ObjectSummary]) {
        self.reserve(objects.len(), objects.iter().map(|object| object.key.len()).sum());
        for object in objects {
            self.push(&object.as_entry());
        }
    }
}

/// The answer to `ListObjects`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/listobjects>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListObjectsResult {
    /// The bucket.
    pub name: String,
    /// The beginning that all keys have in common.
    pub prefix: String,
    /// The key after which the listing starts.
    pub marker: String,
    /// The limit of entries in a page.
    pub max_keys: u32,
    /// The text that ends a common prefix.
    pub delimiter: Option<String>,
    /// How keys are encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// The position at which the next page starts, if there is one.
    pub next_marker: Option<String>,
    /// The objects.
    pub contents: Vec<ObjectSummary>,
    /// The groups of keys up to the delimiter.
    pub common_prefixes: Vec<String>,
}

impl ListObjectsResult {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, ROOT)?;
        let mut result = Self::default();
        let mut is_truncated = None;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Contents" => result.contents.push(ObjectSummary::read(&mut cursor)?),
                "CommonPrefixes" => read_common_prefix(&mut cursor, &mut result.common_prefixes)?,
                "Name" => result.name = cursor.text()?,
                "Prefix" => result.prefix = cursor.text()?,
                "Marker" => result.marker = cursor.text()?,
                "MaxKeys" => result.max_keys = cursor.number("MaxKeys")?,
                "Delimiter" => result.delimiter = non_empty(cursor.text()?),
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "IsTruncated" => is_truncated = Some(cursor.boolean("IsTruncated")?),
                "NextMarker" => result.next_marker = non_empty(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        result.is_truncated = is_truncated.ok_or(XmlError::Missing { element: "IsTruncated" })?;
        let encoding = result.encoding_type;
        encoding.decode("Prefix", &mut result.prefix)?;
        encoding.decode("Marker", &mut result.marker)?;
        encoding.decode_option("Delimiter", &mut result.delimiter)?;
        encoding.decode_option("NextMarker", &mut result.next_marker)?;
        decode_entries(encoding, &mut result.contents, &mut result.common_prefixes)?;
        if result.is_truncated && result.next_marker.is_none() {
            return Err(XmlError::Missing { element: "NextMarker" });
        }
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        self.to_xml_with(|contents| contents.push_all(&self.contents))
    }

    /// Writes a body with the objects that `write` adds. The field `contents` is not used.
    pub fn to_xml_with(&self, write: impl FnOnce(&mut Contents<'_>)) -> String {
        let mut writer = Writer::document(ROOT);
        let encoding = self.encoding_type;
        writer.leaf("Name", &self.name);
        encoding.write_leaf(&mut writer, "Prefix", &self.prefix);
        encoding.write_leaf(&mut writer, "Marker", &self.marker);
        writer.plain("MaxKeys", self.max_keys);
        encoding.write_leaf(&mut writer, "Delimiter", self.delimiter.as_deref().unwrap_or(""));
        encoding.write(&mut writer);
        writer.plain("IsTruncated", self.is_truncated);
        encoding.write_option(&mut writer, "NextMarker", self.next_marker.as_deref());
        write(&mut Contents::new(&mut writer, encoding));
        write_common_prefixes(&mut writer, encoding, &self.common_prefixes);
        writer.finish(ROOT)
    }
}

/// The answer to `ListObjectsV2`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/listobjectsv2>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListObjectsV2Result {
    /// The bucket.
    pub name: String,
    /// The beginning that all keys have in common.
    pub prefix: String,
    /// The key after which the listing starts.
    pub start_after: Option<String>,
    /// The token with which this page was requested.
    pub continuation_token: Option<String>,
    /// The limit of entries in a page.
    pub max_keys: u32,
    /// The text that ends a common prefix.
    pub delimiter: Option<String>,
    /// How keys are encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// The position at which the next page starts, if there is one.
    pub next_continuation_token: Option<String>,
    /// The number of objects and common prefixes together.
    pub key_count: u32,
    /// The objects.
    pub contents: Vec<ObjectSummary>,
    /// The groups of keys up to the delimiter.
    pub common_prefixes: Vec<String>,
}

impl ListObjectsV2Result {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, ROOT)?;
        let mut result = Self::default();
        let (mut is_truncated, mut key_count) = (None, None);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Contents" => result.contents.push(ObjectSummary::read(&mut cursor)?),
                "CommonPrefixes" => read_common_prefix(&mut cursor, &mut result.common_prefixes)?,
                "Name" => result.name = cursor.text()?,
                "Prefix" => result.prefix = cursor.text()?,
                "StartAfter" => result.start_after = non_empty(cursor.text()?),
                "ContinuationToken" => result.continuation_token = non_empty(cursor.text()?),
                "MaxKeys" => result.max_keys = cursor.number("MaxKeys")?,
                "Delimiter" => result.delimiter = non_empty(cursor.text()?),
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "IsTruncated" => is_truncated = Some(cursor.boolean("IsTruncated")?),
                "NextContinuationToken" => result.next_continuation_token = non_empty(cursor.text()?),
                "KeyCount" => key_count = Some(cursor.number("KeyCount")?),
                _ => cursor.skip()?,
            }
        }
        result.is_truncated = is_truncated.ok_or(XmlError::Missing { element: "IsTruncated" })?;
        let entries = result.contents.len() + result.common_prefixes.len();
        result.key_count = key_count.unwrap_or(u32::try_from(entries).unwrap_or(u32::MAX));
        let encoding = result.encoding_type;
        encoding.decode("Prefix", &mut result.prefix)?;
        encoding.decode_option("StartAfter", &mut result.start_after)?;
        encoding.decode_option("ContinuationToken", &mut result.continuation_token)?;
        encoding.decode_option("Delimiter", &mut result.delimiter)?;
        encoding.decode_option("NextContinuationToken", &mut result.next_continuation_token)?;
        decode_entries(encoding, &mut result.contents, &mut result.common_prefixes)?;
        if result.is_truncated && result.next_continuation_token.is_none() {
            return Err(XmlError::Missing { element: "NextContinuationToken" });
        }
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        self.to_xml_with(|contents| contents.push_all(&self.contents))
    }

    /// Writes a body with the objects that `write` adds. The field `contents` is not used.
    pub fn to_xml_with(&self, write: impl FnOnce(&mut Contents<'_>)) -> String {
        let mut writer = Writer::document(ROOT);
        let encoding = self.encoding_type;
        writer.leaf("Name", &self.name);
        encoding.write_leaf(&mut writer, "Prefix", &self.prefix);
        encoding.write_option(&mut writer, "StartAfter", self.start_after.as_deref());
        encoding.write_option(&mut writer, "ContinuationToken", self.continuation_token.as_deref());
        writer.plain("MaxKeys", self.max_keys);
        encoding.write_leaf(&mut writer, "Delimiter", self.delimiter.as_deref().unwrap_or(""));
        encoding.write(&mut writer);
        writer.plain("IsTruncated", self.is_truncated);
        encoding.write_option(&mut writer, "NextContinuationToken", self.next_continuation_token.as_deref());
        write(&mut Contents::new(&mut writer, encoding));
        write_common_prefixes(&mut writer, encoding, &self.common_prefixes);
        writer.plain("KeyCount", self.key_count);
        writer.finish(ROOT)
    }
}

fn decode_entries(
    encoding: EncodingType,
    contents: &mut [ObjectSummary],
    common_prefixes: &mut [String],
) -> Result<(), XmlError> {
    if encoding == EncodingType::None {
        return Ok(());
    }
    for object in contents {
        encoding.decode("Key", &mut object.key)?;
    }
    for prefix in common_prefixes {
        encoding.decode("Prefix", prefix)?;
    }
    Ok(())
}
