//! The query parameters that a request may carry, and those that stand for something the emulator does not have.
//!
//! A sub-resource turns a request into another operation, so one that nobody knows must not be ignored: without it,
//! `DELETE /?policyStatus` would delete the bucket and `PUT /key?legalHold` would replace the object.

use http::Method;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::sign::v1::is_subresource;

use crate::request::Query;
use crate::response::ServiceError;

/// What a request addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Service,
    Bucket,
    Object,
}

/// Signatures in URLs, and what may accompany any request.
const EVERYWHERE: &[&str] = &[
    "Expires",
    "OSSAccessKeyId",
    "Signature",
    "encoding-type",
    "security-token",
    "x-oss-access-key-id",
    "x-oss-additional-headers",
    "x-oss-credential",
    "x-oss-date",
    "x-oss-expires",
    "x-oss-request-payer",
    "x-oss-security-token",
    "x-oss-signature",
    "x-oss-signature-version",
    "x-oss-traffic-limit",
];

const OF_SERVICE: &[&str] =
    &["marker", "max-keys", "prefix", "regionList", "regions", "tag-key", "tag-value", "tagging"];

const OF_BUCKETS: &[&str] = &[
    "acl",
    "bucketInfo",
    "continuation-token",
    "cors",
    "delete",
    "delimiter",
    "encryption",
    "fetch-owner",
    "inventory",
    "inventoryId",
    "key-marker",
    "lifecycle",
    "list-type",
    "live",
    "location",
    "logging",
    "marker",
    "max-keys",
    "max-uploads",
    "policy",
    "policyStatus",
    "prefix",
    "publicAccessBlock",
    "qos",
    "referer",
    "replication",
    "requestPayment",
    "start-after",
    "stat",
    "tagging",
    "transferAcceleration",
    "upload-id-marker",
    "uploads",
    "version-id-marker",
    "versioning",
    "versions",
    "website",
];

const OF_OBJECTS: &[&str] = &[
    "acl",
    "append",
    "max-parts",
    "objectMeta",
    "part-number-marker",
    "partNumber",
    "position",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "sequential",
    "symlink",
    "tagging",
    "uploadId",
    "uploads",
    "versionId",
];

/// Sub-resources of the service beyond those that version 1 signs, from the sources of both official Python SDKs.
const OTHERS: &[&str] = &[
    "MetaQuery",
    "accessmonitor",
    "agenticBucket",
    "bucketSpace",
    "cleanRestoredObject",
    "dataPipeline",
    "legalHold",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "notification",
    "objectWorm",
    "overwriteConfig",
    "policyStatus",
    "quota",
    "regions",
    "retention",
    "rtc",
    "seal",
    "userDefinedLogFieldsConfig",
];

/// Those of the known names that turn a request into another operation, or belong to one.
const OPERATIONS: &[&str] = &[
    "acl",
    "append",
    "bucketInfo",
    "delete",
    "inventory",
    "inventoryId",
    "live",
    "location",
    "objectMeta",
    "partNumber",
    "position",
    "restore",
    "sequential",
    "stat",
    "symlink",
    "tagging",
    "uploadId",
    "uploads",
    "versions",
];

/// Whether a known parameter turns a request into another operation.
pub(crate) fn names_operation(name: &str) -> bool {
    OPERATIONS.contains(&name)
}

/// Refuses a request with a parameter that stands for a sub-resource which the addressed level does not have here. A
/// parameter without a value stands for one, too, but when an object is read: there the service ignores what it does not know.
pub(crate) fn refuse_unknown(method: &Method, level: Level, query: &Query) -> Result<(), ServiceError> {
    let known = match level {
        Level::Service => OF_SERVICE,
        Level::Bucket => OF_BUCKETS,
        Level::Object => OF_OBJECTS,
    };
    let reads_object = level == Level::Object && [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    for (name, value) in query.pairs() {
        if known.contains(&name.as_str()) || EVERYWHERE.contains(&name.as_str()) {
            continue;
        }
        let stands = is_subresource(name) || OTHERS.contains(&name.as_str()) || (!reads_object && value.is_empty());
        if stands {
            return Err(ServiceError::new(ErrorCode::NotImplemented)
                .with_message(format!("The emulator does not implement the sub-resource {name} here."))
                .with_field("ResourceType", name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &Method, level: Level, query: &str) -> bool {
        refuse_unknown(method, level, &Query::parse(Some(query)).unwrap()).is_err()
    }

    #[test]
    fn the_tables_are_sorted() {
        for table in [EVERYWHERE, OF_SERVICE, OF_BUCKETS, OF_OBJECTS, OPERATIONS, OTHERS] {
            assert!(table.is_sorted());
        }
    }

    #[test]
    fn a_parameter_without_a_value_never_writes() {
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            for level in [Level::Service, Level::Bucket, Level::Object] {
                assert!(refused(&method, level, "madeUpLater"), "{method} {level:?}");
                assert!(refused(&method, level, "legalHold="), "{method} {level:?}");
                assert!(!refused(&method, level, "v=1"), "{method} {level:?}");
            }
        }
        assert!(!refused(&Method::GET, Level::Object, "nocache"));
        assert!(refused(&Method::GET, Level::Bucket, "getVectors"));
        assert!(refused(&Method::GET, Level::Service, "getVectors"));
        assert!(refused(&Method::GET, Level::Object, "legalHold"));
    }
}
