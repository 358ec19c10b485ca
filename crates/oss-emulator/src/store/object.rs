//! The description of an object: everything except its bytes.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use oss_protocol::time::{from_unix_seconds, unix_seconds};

use super::content::{Content, Segment};
use super::etag::Etag;
use super::headers::Headers;
use super::storage_class::StorageClass;

/// The access that anonymous requests have to a bucket or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Acl {
    /// An object that follows its bucket.
    #[default]
    Default,
    Private,
    PublicRead,
    PublicReadWrite,
}

impl Acl {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "default" => Some(Self::Default),
            "private" => Some(Self::Private),
            "public-read" => Some(Self::PublicRead),
            "public-read-write" => Some(Self::PublicReadWrite),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
        }
    }

    /// Whether it opens anything to everyone.
    pub(crate) fn is_public(self) -> bool {
        self.allows_anyone(false)
    }

    /// Whether anyone may read, or with `write` change.
    pub(crate) fn allows_anyone(self, write: bool) -> bool {
        match self {
            Self::Default | Self::Private => false,
            Self::PublicRead => !write,
            Self::PublicReadWrite => true,
        }
    }
}

/// How an object came to be, as `x-oss-object-type` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Normal,
    Multipart,
    Appendable,
    /// A symbolic link. It has no content; its target is one of its headers.
    Symlink,
}

impl ObjectKind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "Normal" => Some(Self::Normal),
            "Multipart" => Some(Self::Multipart),
            "Appendable" => Some(Self::Appendable),
            "Symlink" => Some(Self::Symlink),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
            Self::Appendable => "Appendable",
            Self::Symlink => "Symlink",
        }
    }
}

/// The attributes that the writer of an object set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    /// Headers returned as they came: the content type, the cache rules and the user's metadata. The values are UTF-8.
    pub(crate) headers: Headers,
    pub(crate) acl: Acl,
    /// `None` follows the bucket.
    pub(crate) storage_class: Option<StorageClass>,
    /// Keys and values; `None` for none. Few objects have tags, so the many pay for a pointer only.
    pub(crate) tags: Option<Box<[(String, String)]>>,
}

/// The thaw of an archived object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restoration {
    /// When the content can be read.
    pub(crate) ready: SystemTime,
    /// When it is archived again.
    pub(crate) expiry: SystemTime,
}

/// An object. It never changes: a write replaces it, and a response under way keeps the one it began with.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Content,
    pub(crate) etag: Etag,
    pub(crate) crc64: u64,
    /// Seconds since 1970, which is all that the protocol can tell.
    pub(super) modified: u64,
    pub(crate) kind: ObjectKind,
    pub(crate) storage_class: StorageClass,
    pub(crate) attributes: Attributes,
    /// For an archived object that was asked to be restored.
    pub(crate) restoration: Option<Box<Restoration>>,
    /// Number of the file that describes the object in a directory store.
    pub(super) record: Option<NonZeroU64>,
}

impl Object {
    pub(crate) fn new(
        content: Content,
        etag: &str,
        md5: Option<[u8; 16]>,
        crc64: u64,
        kind: ObjectKind,
        attributes: Attributes,
        storage_class: StorageClass,
    ) -> Self {
        Self {
            content,
            etag: Etag::from_text(etag, md5),
            crc64,
            modified: unix_seconds(SystemTime::now()),
            kind,
            storage_class,
            attributes,
            restoration: None,
            record: None,
        }
    }

    /// With its quotes.
    pub(crate) fn etag(&self) -> String {
        self.etag.to_string()
    }

    /// The MD5 of the content, if it is known.
    pub(crate) fn md5(&self) -> Option<[u8; 16]> {
        self.etag.md5()
    }

    /// The content for a response. Of an object of one block, the response holds the object: a block that is shared by itself
    /// takes a counter of its own from then on, which millions of small objects would feel.
    pub(crate) fn read(self: &Arc<Self>) -> Content {
        match self.content.segments() {
            [Segment::Memory(_)] => Content::new(vec![Segment::Memory(Bytes::from_owner(Held(Arc::clone(self))))]),
            _ => self.content.clone(),
        }
    }

    pub(crate) fn last_modified(&self) -> SystemTime {
        from_unix_seconds(self.modified)
    }

    /// Says that the object changed when `other` did, if that was later.
    pub(crate) fn modified_with(&mut self, other: &Self) {
        self.modified = self.modified.max(other.modified);
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }
}

struct Held(Arc<Object>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        match self.0.content.segments() {
            [Segment::Memory(bytes)] => bytes,
            _ => &[],
        }
    }
}

/// The time without its fraction of a second.
pub(crate) fn whole_seconds(time: SystemTime) -> SystemTime {
    from_unix_seconds(unix_seconds(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_takes_little_memory() {
        // With the two counters of its Arc and the allocator's own word that is 160 bytes, a size the allocator has. The rest
        // of the 300 is the key, its place in the index, and what an allocation is rounded up by.
        assert!(size_of::<Object>() <= 136, "{}", size_of::<Object>());
    }
}
