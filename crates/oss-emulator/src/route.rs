//! Which operation a request asks for.

use std::fmt;

use http::{HeaderMap, Method};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use crate::request::Query;
use crate::response::ServiceError;

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
    PutBucket,
    DeleteBucket,
    GetBucketInfo,
    GetBucketLocation,
    GetBucketStat,
    GetBucketAcl,
    PutBucketAcl,
    ListObjects,
    ListObjectsV2,
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
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Operation {
    /// Whether the operation changes something, which is what a bucket open to everyone for reading does not allow.
    pub(crate) fn is_write(self) -> bool {
        !matches!(
            self,
            Self::ListBuckets
                | Self::GetBucketInfo
                | Self::GetBucketLocation
                | Self::GetBucketStat
                | Self::GetBucketAcl
                | Self::ListObjects
                | Self::ListObjectsV2
                | Self::ListMultipartUploads
                | Self::GetObject
                | Self::HeadObject
                | Self::GetObjectMeta
                | Self::GetObjectAcl
                | Self::GetSymlink
                | Self::GetObjectTagging
                | Self::ListParts
        )
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

/// Sub-resources of buckets that exist in the service and not here. They must be refused: without this list
/// `PUT /?lifecycle` would create a bucket.
const OTHER_BUCKET_RESOURCES: &[&str] = &[
    "accessPoint",
    "accessPointPolicy",
    "asyncFetch",
    "bucketArchiveDirectRead",
    "cname",
    "comp",
    "cors",
    "encryption",
    "httpsConfig",
    "inventory",
    "lifecycle",
    "live",
    "logging",
    "metaQuery",
    "policy",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "qosRequester",
    "redundancyTransition",
    "referer",
    "regionList",
    "replication",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "requesterQosInfo",
    "resourceGroup",
    "resourcePool",
    "style",
    "styleName",
    "tagging",
    "transferAcceleration",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "wormExtend",
    "wormId",
    "x-oss-batchGet",
];

/// The same for objects: without this list `PUT /key?style` would overwrite the object.
const OTHER_OBJECT_RESOURCES: &[&str] =
    &["asyncFetch", "callback", "img", "live", "style", "versionId", "vod", "x-oss-async-process", "x-oss-process"];

/// Tells which operation a request asks for.
pub(crate) fn route(
    method: &Method,
    bucket: Option<&str>,
    key: Option<&str>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Operation, ServiceError> {
    match (bucket, key) {
        (None, _) => route_service(method),
        (Some(_), None) => route_bucket(method, query),
        (Some(_), Some(_)) => route_object(method, query, headers),
    }
}

fn route_service(method: &Method) -> Result<Operation, ServiceError> {
    if *method == Method::GET { Ok(Operation::ListBuckets) } else { Err(method_not_allowed()) }
}

fn route_bucket(method: &Method, query: &Query) -> Result<Operation, ServiceError> {
    refuse_others(query, OTHER_BUCKET_RESOURCES)?;
    match *method {
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
        Method::PUT => Ok(Operation::PutBucket),
        Method::DELETE => Ok(Operation::DeleteBucket),
        Method::POST if query.has("delete") => Ok(Operation::DeleteMultipleObjects),
        _ => Err(method_not_allowed()),
    }
}

fn route_object(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Operation, ServiceError> {
    refuse_others(query, OTHER_OBJECT_RESOURCES)?;
    let copies = headers.contains_key(header::COPY_SOURCE);
    match *method {
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
        Method::PUT if copies => Ok(Operation::CopyObject),
        Method::PUT => Ok(Operation::PutObject),
        Method::POST if query.has("restore") => Ok(Operation::RestoreObject),
        Method::POST if query.has("append") => Ok(Operation::AppendObject),
        Method::POST if query.has("uploads") => Ok(Operation::InitiateMultipartUpload),
        Method::POST if query.has("uploadId") => Ok(Operation::CompleteMultipartUpload),
        Method::DELETE if query.has("tagging") => Ok(Operation::DeleteObjectTagging),
        Method::DELETE if query.has("uploadId") => Ok(Operation::AbortMultipartUpload),
        Method::DELETE => Ok(Operation::DeleteObject),
        _ => Err(method_not_allowed()),
    }
}

fn refuse_others(query: &Query, names: &[&str]) -> Result<(), ServiceError> {
    if query.is_empty() {
        return Ok(());
    }
    match names.iter().find(|name| query.has(name)) {
        None => Ok(()),
        Some(name) => Err(ServiceError::new(ErrorCode::NotImplemented)
            .with_message(format!("The emulator does not implement the sub-resource {name}."))),
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
    fn an_unknown_sub_resource_never_writes() {
        assert_eq!(routed(&Method::PUT, Some("b"), Some("k"), "style"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::PUT, Some("b"), None, "lifecycle"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::DELETE, Some("b"), None, "policy"), Err("NotImplemented".to_owned()));
        assert_eq!(routed(&Method::PATCH, Some("b"), Some("k"), ""), Err("MethodNotAllowed".to_owned()));
        assert_eq!(routed(&Method::GET, Some("b"), None, "list-type=3"), Err("InvalidArgument".to_owned()));
    }
}
