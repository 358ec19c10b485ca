//! The action that each operation needs a right to, and all actions that a policy can name.
//!
//! <https://www.alibabacloud.com/help/en/oss/user-guide/ram-policy-overview/>

use crate::route::Operation;

/// The action that an operation needs, without `oss:`. Reading an object needs the same right in each of its forms, and so
/// does writing one.
pub(super) fn of_operation(operation: Operation) -> &'static str {
    match operation {
        Operation::HeadObject | Operation::GetObjectMeta | Operation::GetSymlink => "GetObject",
        Operation::CopyObject
        | Operation::AppendObject
        | Operation::PutSymlink
        | Operation::InitiateMultipartUpload
        | Operation::UploadPart
        | Operation::UploadPartCopy
        | Operation::CompleteMultipartUpload => "PutObject",
        Operation::DeleteMultipleObjects => "DeleteObject",
        Operation::ListObjectsV2 => "ListObjects",
        Operation::GetBucketTags => "GetBucketTagging",
        Operation::PutBucketTags => "PutBucketTagging",
        Operation::DeleteBucketTags => "DeleteBucketTagging",
        Operation::ListBucketInventory => "GetBucketInventory",
        other => other.as_str(),
    }
}

/// Actions of the service beyond those of the operations here.
const OTHERS: &[&str] = &[
    "AbortBucketWorm",
    "CompleteBucketWorm",
    "CreateAccessPoint",
    "CreateSelectObjectMeta",
    "DeleteAccessPoint",
    "DeleteAccessPointPolicy",
    "DeleteBucketCname",
    "DeleteBucketInventory",
    "DeleteBucketReplication",
    "DeleteLiveChannel",
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "DeleteStyle",
    "ExtendBucketWorm",
    "GetAccessPoint",
    "GetAccessPointPolicy",
    "GetBucketArchiveDirectRead",
    "GetBucketHttpsConfig",
    "GetBucketReplicationLocation",
    "GetBucketReplicationProgress",
    "GetBucketResourceGroup",
    "GetBucketWorm",
    "GetLiveChannel",
    "GetLiveChannelHistory",
    "GetLiveChannelStat",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionTagging",
    "GetStyle",
    "InitiateBucketWorm",
    "ListAccessPoints",
    "ListCname",
    "ListStyle",
    "ListUserDataRedundancyTransition",
    "PostProcessTask",
    "PostVodPlaylist",
    "ProcessImm",
    "PublishRtmpStream",
    "PutAccessPointPolicy",
    "PutBucketArchiveDirectRead",
    "PutBucketCname",
    "PutBucketHttpsConfig",
    "PutBucketInventory",
    "PutBucketReplication",
    "PutBucketResourceGroup",
    "PutBucketTransferAcceleration",
    "PutBucketVersioning",
    "PutLiveChannel",
    "PutLiveChannelStatus",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
    "PutStyle",
    "ReplicateDelete",
    "ReplicateGet",
    "ReplicateList",
    "ReplicatePut",
    "RestoreObjectVersion",
    "WriteGetObjectResponse",
];

/// Every action, without `oss:`.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    Operation::ALL.iter().map(|operation| of_operation(*operation)).chain(OTHERS.iter().copied())
}
