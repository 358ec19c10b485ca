//! Which operation a request asks for.

use std::fmt;

use http::{HeaderMap, Method};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use crate::request::Query;
use crate::response::ServiceError;
use crate::subresource::{Level, refuse_unknown};

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// The operation of a request. The names are those of the OSS API reference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "each name is the operation of that name in the OSS API reference")]
        pub enum Operation {
            $($name),*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the OSS API reference.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name)),*
                }
            }
        }
    };
}

operations! {
    ListBuckets,
    DescribeRegions,
    PutBucket,
    DeleteBucket,
    GetBucketInfo,
    GetBucketLocation,
    GetBucketStat,
    GetBucketAcl,
    PutBucketAcl,
    GetBucketCors,
    PutBucketCors,
    DeleteBucketCors,
    GetBucketEncryption,
    PutBucketEncryption,
    DeleteBucketEncryption,
    GetBucketInventory,
    ListBucketInventory,
    GetBucketLifecycle,
    PutBucketLifecycle,
    DeleteBucketLifecycle,
    GetBucketLogging,
    PutBucketLogging,
    DeleteBucketLogging,
    GetBucketPolicy,
    PutBucketPolicy,
    DeleteBucketPolicy,
    GetBucketPolicyStatus,
    GetBucketPublicAccessBlock,
    PutBucketPublicAccessBlock,
    DeleteBucketPublicAccessBlock,
    GetBucketQos,
    PutBucketQos,
    GetBucketReferer,
    PutBucketReferer,
    GetBucketReplication,
    GetBucketRequestPayment,
    PutBucketRequestPayment,
    GetBucketTags,
    PutBucketTags,
    DeleteBucketTags,
    GetBucketTransferAcceleration,
    GetBucketVersioning,
    GetBucketWebsite,
    PutBucketWebsite,
    DeleteBucketWebsite,
    ListLiveChannel,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    DeleteMultipleObjects,
    ListMultipartUploads,
    PutObject,
    CopyObject,
    AppendObject,
    GetObject,
    HeadObject,
    GetObjectMeta,
    DeleteObject,
    GetObjectAcl,
    PutObjectAcl,
    PutSymlink,
    GetSymlink,
    PutObjectTagging,
    GetObjectTagging,
    DeleteObjectTagging,
    RestoreObject,
    InitiateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    OptionObject,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Operation {
    /// Whether the operation changes something, which is what a bucket open to everyone for reading does not allow.
    pub(crate) fn is_write(self) -> bool {
        let name = self.as_str();
        !["Get", "Head", "List", "Describe", "Option"].iter().any(|verb| name.starts_with(verb))
    }

    /// Whether an access control list can open the operation to everyone; managing buckets and access always takes a key.
    pub(crate) fn may_be_anonymous(self) -> bool {
        matches!(
            self,
            Self::ListObjects
                | Self::ListObjectsV2
                | Self::DeleteMultipleObjects
                | Self::ListMultipartUploads
                | Self::PutObject
                | Self::CopyObject
                | Self::AppendObject
                | Self::GetObject
                | Self::HeadObject
                | Self::GetObjectMeta
                | Self::DeleteObject
                | Self::PutSymlink
                | Self::GetSymlink
                | Self::InitiateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::CompleteMultipartUpload
                | Self::AbortMultipartUpload
                | Self::ListParts
        )
    }
}

/// The operations on one configuration of a bucket: reading, writing and removing it.
type Verbs = (Operation, Option<Operation>, Option<Operation>);

/// Configurations of a bucket, by the sub-resource that names them.
const CONFIGURATIONS: &[(&str, Verbs)] = {
    use Operation as O;
    &[
        ("cors", (O::GetBucketCors, Some(O::PutBucketCors), Some(O::DeleteBucketCors))),
        ("encryption", (O::GetBucketEncryption, Some(O::PutBucketEncryption), Some(O::DeleteBucketEncryption))),
        ("lifecycle", (O::GetBucketLifecycle, Some(O::PutBucketLifecycle), Some(O::DeleteBucketLifecycle))),
        ("logging", (O::GetBucketLogging, Some(O::PutBucketLogging), Some(O::DeleteBucketLogging))),
        ("policy", (O::GetBucketPolicy, Some(O::PutBucketPolicy), Some(O::DeleteBucketPolicy))),
        ("policyStatus", (O::GetBucketPolicyStatus, None, None)),
        (
            "publicAccessBlock",
            (
                O::GetBucketPublicAccessBlock,
                Some(O::PutBucketPublicAccessBlock),
                Some(O::DeleteBucketPublicAccessBlock),
            ),
        ),
        ("qos", (O::GetBucketQos, Some(O::PutBucketQos), None)),
        ("referer", (O::GetBucketReferer, Some(O::PutBucketReferer), None)),
        ("replication", (O::GetBucketReplication, None, None)),
        ("requestPayment", (O::GetBucketRequestPayment, Some(O::PutBucketRequestPayment), None)),
        ("tagging", (O::GetBucketTags, Some(O::PutBucketTags), Some(O::DeleteBucketTags))),
        ("transferAcceleration", (O::GetBucketTransferAcceleration, None, None)),
        ("versioning", (O::GetBucketVersioning, None, None)),
        ("website", (O::GetBucketWebsite, Some(O::PutBucketWebsite), Some(O::DeleteBucketWebsite))),
    ]
};

/// Tells which operation a request asks for.
pub(crate) fn route(
    method: &Method,
    bucket: Option<&str>,
    key: Option<&str>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Operation, ServiceError> {
    let level = match (bucket, key) {
        (None, _) => Level::Service,
        (Some(_), None) => Level::Bucket,
        (Some(_), Some(_)) => Level::Object,
    };
    if !query.is_empty() {
        refuse_unknown(method, level, query)?;
    }
    match level {
        Level::Service => route_service(method, query),
        Level::Bucket => route_bucket(method, query),
        Level::Object => route_object(method, query, headers),
    }
}

fn route_service(method: &Method, query: &Query) -> Result<Operation, ServiceError> {
    match *method {
        Method::GET if query.has("regions") => Ok(Operation::DescribeRegions),
        Method::GET => Ok(Operation::ListBuckets),
        _ => Err(method_not_allowed()),
    }
}

fn route_configuration(method: &Method, (get, put, delete): Verbs) -> Result<Operation, ServiceError> {
    let verb = match *method {
        Method::GET => Some(get),
        Method::PUT => put,
        Method::DELETE => delete,
        _ => return Err(method_not_allowed()),
    };
    verb.ok_or_else(|| {
        let name = get.as_str().trim_start_matches("Get");
        ServiceError::new(ErrorCode::NotImplemented)
            .with_message(format!("The emulator only reads the configuration {name}; it cannot be changed."))
    })
}

fn route_bucket(method: &Method, query: &Query) -> Result<Operation, ServiceError> {
    if let Some((_, verbs)) = CONFIGURATIONS.iter().find(|(name, _)| query.has(name)) {
        return route_configuration(method, *verbs);
    }
    match *method {
        Method::OPTIONS => Ok(Operation::OptionObject),
        Method::GET if query.has("inventoryId") => Ok(Operation::GetBucketInventory),
        Method::GET if query.has("inventory") => Ok(Operation::ListBucketInventory),
        Method::GET if query.has("live") => Ok(Operation::ListLiveChannel),
        Method::GET if query.has("versions") => Ok(Operation::ListObjectVersions),
        Method::GET if query.has("bucketInfo") => Ok(Operation::GetBucketInfo),
        Method::GET if query.has("location") => Ok(Operation::GetBucketLocation),
        Method::GET if query.has("stat") => Ok(Operation::GetBucketStat),
        Method::GET if query.has("acl") => Ok(Operation::GetBucketAcl),
        Method::GET if query.has("uploads") => Ok(Operation::ListMultipartUploads),
        Method::GET => match query.get("list-type") {
            None => Ok(Operation::ListObjects),
            Some("2") => Ok(Operation::ListObjectsV2),
            Some(other) => Err(ServiceError::invalid_argument("list-type", other)),
        },
        Method::PUT if query.has("acl") => Ok(Operation::PutBucketAcl),
        // What is left of the sub-resources belongs to another method.
        Method::PUT if !query.names_operation() => Ok(Operation::PutBucket),
        Method::DELETE if !query.names_operation() => Ok(Operation::DeleteBucket),
        Method::POST if query.has("delete") => Ok(Operation::DeleteMultipleObjects),
        _ => Err(method_not_allowed()),
    }
}

fn route_object(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Operation, ServiceError> {
    let copies = headers.contains_key(header::COPY_SOURCE);
    match *method {
        Method::OPTIONS => Ok(Operation::OptionObject),
        Method::GET if query.has("uploadId") => Ok(Operation::ListParts),
        Method::GET if query.has("acl") => Ok(Operation::GetObjectAcl),
        Method::GET if query.has("symlink") => Ok(Operation::GetSymlink),
        Method::GET if query.has("tagging") => Ok(Operation::GetObjectTagging),
        // Both spellings of the method are in use: the official Python SDK sends GET, the others HEAD.
        Method::GET | Method::HEAD if query.has("objectMeta") => Ok(Operation::GetObjectMeta),
        Method::GET => Ok(Operation::GetObject),
        Method::HEAD => Ok(Operation::HeadObject),
        Method::PUT if query.has("acl") => Ok(Operation::PutObjectAcl),
        Method::PUT if query.has("symlink") => Ok(Operation::PutSymlink),
        Method::PUT if query.has("tagging") => Ok(Operation::PutObjectTagging),
        Method::PUT if query.has("partNumber") || query.has("uploadId") => {
            Ok(if copies { Operation::UploadPartCopy } else { Operation::UploadPart })
        }
        Method::PUT if query.names_operation() => Err(method_not_allowed()),
        Method::PUT if copies => Ok(Operation::CopyObject),
        Method::PUT => Ok(Operation::PutObject),
        Method::POST if query.has("restore") => Ok(Operation::RestoreObject),
        Method::POST if query.has("append") => Ok(Operation::AppendObject),
        Method::POST if query.has("uploads") => Ok(Operation::InitiateMultipartUpload),
        Method::POST if query.has("uploadId") => Ok(Operation::CompleteMultipartUpload),
        Method::DELETE if query.has("tagging") => Ok(Operation::DeleteObjectTagging),
        Method::DELETE if query.has("uploadId") => Ok(Operation::AbortMultipartUpload),
        Method::DELETE if !query.names_operation() => Ok(Operation::DeleteObject),
        _ => Err(method_not_allowed()),
    }
}

fn method_not_allowed() -> ServiceError {
    ServiceError::new(ErrorCode::MethodNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &Method, bucket: Option<&str>, key: Option<&str>, query: &str) -> Result<Operation, String> {
        let query = Query::parse(Some(query)).unwrap();
        route(method, bucket, key, &query, &HeaderMap::new()).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn every_sub_resource_reaches_its_operation() {
        let bucket = Some("bucket");
        let key = Some("key");
        for (method, bucket, key, query, expected) in [
            (Method::GET, None, None, "", Operation::ListBuckets),
            (Method::PUT, bucket, None, "", Operation::PutBucket),
            (Method::DELETE, bucket, None, "", Operation::DeleteBucket),
            (Method::GET, bucket, None, "bucketInfo", Operation::GetBucketInfo),
            (Method::GET, bucket, None, "location=", Operation::GetBucketLocation),
            (Method::GET, bucket, None, "stat", Operation::GetBucketStat),
            (Method::GET, bucket, None, "acl", Operation::GetBucketAcl),
            (Method::PUT, bucket, None, "acl", Operation::PutBucketAcl),
            (Method::GET, bucket, None, "prefix=a", Operation::ListObjects),
            (Method::GET, bucket, None, "list-type=2", Operation::ListObjectsV2),
            (Method::POST, bucket, None, "delete", Operation::DeleteMultipleObjects),
            (Method::GET, bucket, None, "uploads", Operation::ListMultipartUploads),
            (Method::GET, None, None, "regions", Operation::DescribeRegions),
            (Method::GET, bucket, None, "versions", Operation::ListObjectVersions),
            (Method::GET, bucket, None, "inventory&inventoryId=a", Operation::GetBucketInventory),
            (Method::PUT, bucket, None, "lifecycle", Operation::PutBucketLifecycle),
            (Method::GET, bucket, None, "tagging", Operation::GetBucketTags),
            (Method::DELETE, bucket, None, "policy", Operation::DeleteBucketPolicy),
            (Method::OPTIONS, bucket, key, "", Operation::OptionObject),
            (Method::DELETE, bucket, key, "versionId=null", Operation::DeleteObject),
            (Method::PUT, bucket, key, "", Operation::PutObject),
            (Method::POST, bucket, key, "append&position=0", Operation::AppendObject),
            (Method::GET, bucket, key, "", Operation::GetObject),
            (Method::HEAD, bucket, key, "", Operation::HeadObject),
            (Method::HEAD, bucket, key, "objectMeta", Operation::GetObjectMeta),
            (Method::DELETE, bucket, key, "", Operation::DeleteObject),
            (Method::GET, bucket, key, "acl", Operation::GetObjectAcl),
            (Method::PUT, bucket, key, "acl", Operation::PutObjectAcl),
            (Method::PUT, bucket, key, "symlink", Operation::PutSymlink),
            (Method::GET, bucket, key, "symlink", Operation::GetSymlink),
            (Method::PUT, bucket, key, "tagging", Operation::PutObjectTagging),
            (Method::GET, bucket, key, "tagging", Operation::GetObjectTagging),
            (Method::DELETE, bucket, key, "tagging", Operation::DeleteObjectTagging),
            (Method::POST, bucket, key, "restore", Operation::RestoreObject),
            (Method::POST, bucket, key, "uploads", Operation::InitiateMultipartUpload),
            (Method::PUT, bucket, key, "partNumber=1&uploadId=A", Operation::UploadPart),
            (Method::POST, bucket, key, "uploadId=A", Operation::CompleteMultipartUpload),
            (Method::DELETE, bucket, key, "uploadId=A", Operation::AbortMultipartUpload),
            (Method::GET, bucket, key, "uploadId=A", Operation::ListParts),
        ] {
            assert_eq!(routed(&method, bucket, key, query), Ok(expected), "{method} {query}");
        }
    }

    #[test]
    fn a_copy_source_makes_a_copy() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COPY_SOURCE, "/bucket/key".parse().unwrap());
        let routed = |query: &str| {
            route(&Method::PUT, Some("bucket"), Some("key"), &Query::parse(Some(query)).unwrap(), &headers).unwrap()
        };
        assert_eq!(routed(""), Operation::CopyObject);
        assert_eq!(routed("partNumber=1&uploadId=A"), Operation::UploadPartCopy);
    }

    #[test]
    fn a_sub_resource_with_the_wrong_method_never_writes() {
        for query in ["bucketInfo", "location", "stat", "uploads", "versions", "delete", "inventory", "live"] {
            for method in [Method::PUT, Method::DELETE] {
                assert_eq!(routed(&method, Some("b"), None, query), Err("MethodNotAllowed".to_owned()), "{query}");
            }
        }
        for query in ["append", "objectMeta", "restore", "uploads"] {
            for method in [Method::PUT, Method::DELETE] {
                assert_eq!(routed(&method, Some("b"), Some("k"), query), Err("MethodNotAllowed".to_owned()), "{query}");
            }
        }
        assert_eq!(routed(&Method::DELETE, Some("b"), Some("k"), "acl"), Err("MethodNotAllowed".to_owned()));
        assert_eq!(routed(&Method::DELETE, Some("b"), None, "acl"), Err("MethodNotAllowed".to_owned()));
    }

    #[test]
    fn an_unknown_sub_resource_never_writes() {
        assert_eq!(routed(&Method::PUT, Some("b"), Some("k"), "style"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::PUT, Some("b"), None, "qosInfo"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::PUT, Some("b"), None, "versioning"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::DELETE, Some("b"), None, "policyStatus"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::GET, None, None, "legalHold"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::PATCH, Some("b"), Some("k"), ""), Err("MethodNotAllowed".to_owned()));
        assert_eq!(routed(&Method::GET, Some("b"), None, "list-type=3"), Err("InvalidArgument".to_owned()));
    }
}
