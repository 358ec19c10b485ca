//! Names of the headers that only OSS has.

use http::HeaderName;

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: HeaderName = HeaderName::from_static($name);)*
    };
}

/// The prefix of a user's own metadata.
pub const META_PREFIX: &str = "x-oss-meta-";

/// The prefix of every header of OSS; those that start so are always signed.
pub const PREFIX: &str = "x-oss-";

names! {
    /// When a request was signed; wins over `Date`.
    DATE = "x-oss-date";
    /// The hash of the payload in a V4 signature.
    CONTENT_SHA256 = "x-oss-content-sha256";
    /// The STS token.
    SECURITY_TOKEN = "x-oss-security-token";
    /// The STS token as one official V1 signer spells it; not signed.
    SECURITY_TOKEN_UNSIGNED = "security-token";
    /// The id of a request, 24 hexadecimal digits.
    REQUEST_ID = "x-oss-request-id";
    /// How long the server worked, in milliseconds.
    SERVER_TIME = "x-oss-server-time";
    /// The exact error code beside the code in the body, such as `0026-00000001`.
    EC = "x-oss-ec";
    /// The error body in base64, for answers without a body.
    ERR = "x-oss-err";
    /// `standard` makes OSS read `Range` as RFC 9110 does.
    RANGE_BEHAVIOR = "x-oss-range-behavior";
    /// The CRC-64/XZ of the whole object, in decimal.
    HASH_CRC64ECMA = "x-oss-hash-crc64ecma";
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    OBJECT_TYPE = "x-oss-object-type";
    /// The storage class of an object or bucket.
    STORAGE_CLASS = "x-oss-storage-class";
    /// The access rule of a bucket.
    ACL = "x-oss-acl";
    /// The access rule of an object.
    OBJECT_ACL = "x-oss-object-acl";
    /// `true` refuses to replace an object.
    FORBID_OVERWRITE = "x-oss-forbid-overwrite";
    /// The version of an object.
    VERSION_ID = "x-oss-version-id";
    /// Whether a deletion left or removed a delete marker.
    DELETE_MARKER = "x-oss-delete-marker";
    /// The position at which the next append must start.
    NEXT_APPEND_POSITION = "x-oss-next-append-position";
    /// The source of a copy, `/bucket/key` percent-encoded.
    COPY_SOURCE = "x-oss-copy-source";
    /// The part of the source that a part copy takes.
    COPY_SOURCE_RANGE = "x-oss-copy-source-range";
    /// Copy only when the source has this ETag.
    COPY_SOURCE_IF_MATCH = "x-oss-copy-source-if-match";
    /// Copy only when the source has another ETag.
    COPY_SOURCE_IF_NONE_MATCH = "x-oss-copy-source-if-none-match";
    /// Copy only when the source changed since.
    COPY_SOURCE_IF_MODIFIED_SINCE = "x-oss-copy-source-if-modified-since";
    /// Copy only when the source did not change since.
    COPY_SOURCE_IF_UNMODIFIED_SINCE = "x-oss-copy-source-if-unmodified-since";
    /// `COPY` or `REPLACE` the metadata of a copy.
    METADATA_DIRECTIVE = "x-oss-metadata-directive";
    /// `Copy` or `Replace` the tags of a copy.
    TAGGING_DIRECTIVE = "x-oss-tagging-directive";
    /// The tags of an object in form encoding.
    TAGGING = "x-oss-tagging";
    /// How many tags an object has.
    TAGGING_COUNT = "x-oss-tagging-count";
    /// `yes` completes a multipart upload from all its parts, without a body.
    COMPLETE_ALL = "x-oss-complete-all";
    /// The key that a symbolic link points to, percent-encoded.
    SYMLINK_TARGET = "x-oss-symlink-target";
    /// Whether an archived object is being restored.
    RESTORE = "x-oss-restore";
    /// When a life cycle rule removes the object.
    EXPIRATION = "x-oss-expiration";
    /// When the object was last read.
    LAST_ACCESS_TIME = "x-oss-last-access-time";
    /// The server-side encryption of an object.
    SERVER_SIDE_ENCRYPTION = "x-oss-server-side-encryption";
    /// The key of server-side encryption.
    SERVER_SIDE_ENCRYPTION_KEY_ID = "x-oss-server-side-encryption-key-id";
    /// The cipher of server-side encryption with a managed key.
    SERVER_SIDE_DATA_ENCRYPTION = "x-oss-server-side-data-encryption";
    /// The speed limit of one request in bits per second.
    TRAFFIC_LIMIT = "x-oss-traffic-limit";
    /// The party that pays for the request.
    REQUEST_PAYER = "x-oss-request-payer";
    /// How long a throttled request was held back, in milliseconds.
    QOS_DELAY_TIME = "x-oss-qos-delay-time";
    /// The callback: the URL to which OSS reports a finished upload.
    CALLBACK = "x-oss-callback";
    /// Variables for that report.
    CALLBACK_VAR = "x-oss-callback-var";
    /// Status of one object in a batch read.
    RESPONSE_CODE = "x-oss-response-code";
    /// Size of one object in a batch read.
    OBJECT_SIZE = "x-oss-object-size";
}

/// The value of [`CONTENT_SHA256`] that leaves the payload out of the signature.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The value of [`RANGE_BEHAVIOR`].
pub const RANGE_BEHAVIOR_STANDARD: &str = "standard";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_prefix() {
        for name in [DATE, CONTENT_SHA256, SECURITY_TOKEN, HASH_CRC64ECMA, OBJECT_SIZE] {
            assert!(name.as_str().starts_with(PREFIX), "{name}");
        }
        assert!(META_PREFIX.starts_with(PREFIX));
    }
}
