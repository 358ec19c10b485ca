//! What is known of an object beside its bytes.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue};
use oss_protocol::time::{from_unix_seconds, unix_seconds};

use super::content::Content;

/// Who may use a bucket or an object without a key.
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
}

impl ObjectKind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "Normal" => Some(Self::Normal),
            "Multipart" => Some(Self::Multipart),
            "Appendable" => Some(Self::Appendable),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
            Self::Appendable => "Appendable",
        }
    }
}

/// What the writer of an object said about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    /// Headers returned as they came: the content type, the cache rules and the user's metadata. The values are UTF-8.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) acl: Acl,
    /// `None` follows the bucket.
    pub(crate) storage_class: Option<String>,
}

/// An object. It never changes: a write replaces it, and a response under way keeps the one it began with.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Content,
    /// With its quotes.
    pub(crate) etag: String,
    pub(crate) md5: Option<[u8; 16]>,
    pub(crate) crc64: u64,
    /// In whole seconds, which is all that the protocol can tell.
    pub(crate) last_modified: SystemTime,
    pub(crate) kind: ObjectKind,
    pub(crate) storage_class: String,
    pub(crate) attributes: Attributes,
    /// Number of the file that describes the object in a directory store.
    pub(super) record: Option<u64>,
}

impl Object {
    pub(crate) fn new(
        content: Content,
        etag: String,
        md5: Option<[u8; 16]>,
        crc64: u64,
        kind: ObjectKind,
        attributes: Attributes,
        storage_class: String,
    ) -> Self {
        Self {
            content,
            etag,
            md5,
            crc64,
            last_modified: whole_seconds(SystemTime::now()),
            kind,
            storage_class,
            attributes,
            record: None,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }
}

/// The time without its fraction of a second.
pub(crate) fn whole_seconds(time: SystemTime) -> SystemTime {
    from_unix_seconds(unix_seconds(time))
}
