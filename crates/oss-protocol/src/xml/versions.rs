//! Listings of versions, of buckets that keep none: each object has one version, which is called `null`.

use std::time::SystemTime;

use super::{EncodingType, Owner, Writer, write_common_prefixes};
use crate::time::format_xml_timestamp;

/// One version to write into a listing.
#[derive(Clone, Copy, Debug)]
pub struct VersionEntry<'a> {
    /// The key.
    pub key: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The entity tag, with its quotes.
    pub etag: &'a str,
    /// When the version was written.
    pub last_modified: SystemTime,
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    pub object_type: &'a str,
    /// The storage class.
    pub storage_class: &'a str,
}

/// The answer to `ListObjectVersions`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/listobjectversions>
#[derive(Clone, Debug)]
pub struct ListVersionsResult<'a> {
    /// The bucket.
    pub name: &'a str,
    /// What every key starts with.
    pub prefix: &'a str,
    /// The key after which the listing starts.
    pub key_marker: &'a str,
    /// The version of that key after which it starts.
    pub version_id_marker: &'a str,
    /// The most entries that a page may have.
    pub max_keys: u32,
    /// What ends a common prefix.
    pub delimiter: &'a str,
    /// How keys are encoded in the body.
    pub encoding_type: EncodingType,
    /// The last key of the page, if another page follows.
    pub next_key_marker: Option<&'a str>,
    /// The owner of all versions.
    pub owner: &'a Owner,
    /// The versions.
    pub versions: Vec<VersionEntry<'a>>,
    /// The groups of keys up to the delimiter.
    pub common_prefixes: &'a [String],
}

impl ListVersionsResult<'_> {
    /// Writes a body.
    pub fn to_xml(&self) -> String {
        const ROOT: &str = "ListVersionsResult";
        let mut writer = Writer::document(ROOT);
        let encoding = self.encoding_type;
        writer.leaf("Name", self.name);
        encoding.write_leaf(&mut writer, "Prefix", self.prefix);
        encoding.write_leaf(&mut writer, "KeyMarker", self.key_marker);
        writer.leaf("VersionIdMarker", self.version_id_marker);
        writer.plain("MaxKeys", self.max_keys);
        encoding.write_leaf(&mut writer, "Delimiter", self.delimiter);
        encoding.write(&mut writer);
        writer.plain("IsTruncated", self.next_key_marker.is_some());
        if let Some(next) = self.next_key_marker {
            encoding.write_leaf(&mut writer, "NextKeyMarker", next);
            writer.leaf("NextVersionIdMarker", "null");
        }
        for version in &self.versions {
            writer.open("Version");
            encoding.write_leaf(&mut writer, "Key", version.key);
            writer.leaf("VersionId", "null");
            writer.plain("IsLatest", true);
            writer.leaf("LastModified", &format_xml_timestamp(version.last_modified));
            writer.leaf("ETag", version.etag);
            writer.leaf("Type", version.object_type);
            writer.plain("Size", version.size);
            writer.leaf("StorageClass", version.storage_class);
            self.owner.write(&mut writer);
            writer.close("Version");
        }
        write_common_prefixes(&mut writer, encoding, self.common_prefixes);
        writer.finish(ROOT)
    }
}
