//! The operations.

mod append;
mod attributes;
mod bucket;
mod configuration;
mod copy;
mod cors;
mod delete;
mod lifecycle;
mod list;
mod multipart;
mod object;
mod page;
mod restore;
mod symlink;
mod tagging;
mod versions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use oss_protocol::error_code::ErrorCode;

use crate::config::EtagMode;
use crate::request::Request;
use crate::response::{Response, ServiceError};
use crate::rights::{self, Permission};
use crate::route::Operation;
pub(crate) use bucket::new_bucket_configurations;
pub(crate) use cors::answer_headers;

use crate::store::{Acl, Bucket, Object, Store};

/// The state that operations work on.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Arc<Store>,
    pub(crate) etag: EtagMode,
    pub(crate) region: String,
    pub(crate) address: SocketAddr,
    /// `http`, or `https` when the server speaks TLS.
    pub(crate) scheme: &'static str,
    /// How long an archived object takes to be restored.
    pub(crate) restore_delay: Duration,
    /// Whether new buckets block access for everyone.
    pub(crate) block_public_access: bool,
}

impl Context {
    fn bucket(&self, name: &str) -> Result<Arc<Bucket>, ServiceError> {
        self.store.bucket(name).ok_or_else(|| ServiceError::no_such_bucket(name))
    }

    /// The location of every bucket, which is the region with a prefix.
    fn location(&self) -> String {
        format!("oss-{}", self.region)
    }
}

/// Performs an operation for a known sender, or for anyone if an access control list allows that.
pub(crate) async fn perform(
    context: &Context,
    operation: Operation,
    request: &mut Request<'_>,
) -> Result<Response, ServiceError> {
    if operation == Operation::OptionObject {
        // A browser sends preflight requests without signatures.
        return cors::preflight(context, request);
    }
    versions::check(request)?;
    if rights::check(context, operation, request)? == Permission::ByAccessControlList {
        check_anonymous(context, operation, request)?;
    }
    match operation {
        Operation::DescribeRegions => bucket::regions(context, request),
        Operation::ListBuckets => bucket::list(context, request),
        Operation::PutBucket => bucket::put(context, request).await,
        Operation::DeleteBucket => bucket::delete(context, request).await,
        Operation::GetBucketInfo => bucket::info(context, request),
        Operation::GetBucketLocation => bucket::location(context, request),
        Operation::GetBucketStat => bucket::stat(context, request),
        Operation::GetBucketAcl => bucket::get_acl(context, request),
        Operation::PutBucketAcl => bucket::put_acl(context, request).await,
        Operation::ListObjects => list::objects(context, request),
        Operation::ListObjectVersions => versions::list(context, request),
        Operation::ListObjectsV2 => list::objects_v2(context, request),
        Operation::DeleteMultipleObjects => delete::multiple(context, request).await,
        Operation::ListMultipartUploads => multipart::list_uploads(context, request),
        Operation::PutObject => object::put(context, request).await,
        Operation::CopyObject => copy::object(context, request).await,
        Operation::AppendObject => append::append(context, request).await,
        Operation::GetObject => object::get(context, request),
        Operation::HeadObject => object::head(context, request),
        Operation::GetObjectMeta => object::meta(context, request),
        Operation::DeleteObject => delete::object(context, request).await,
        Operation::GetObjectAcl => object::get_acl(context, request),
        Operation::PutObjectAcl => object::put_acl(context, request).await,
        Operation::PutSymlink => symlink::put(context, request).await,
        Operation::GetSymlink => symlink::get(context, request),
        Operation::PutObjectTagging => tagging::put(context, request).await,
        Operation::GetObjectTagging => tagging::get(context, request),
        Operation::DeleteObjectTagging => tagging::delete(context, request).await,
        Operation::RestoreObject => restore::restore(context, request).await,
        Operation::InitiateMultipartUpload => multipart::initiate(context, request).await,
        Operation::UploadPart => multipart::upload_part(context, request).await,
        Operation::UploadPartCopy => copy::part(context, request).await,
        Operation::CompleteMultipartUpload => multipart::complete(context, request).await,
        Operation::AbortMultipartUpload => multipart::abort(context, request).await,
        Operation::ListParts => multipart::list_parts(context, request),
        other => configuration::perform(context, other, request).await,
    }
}

fn check_anonymous(context: &Context, operation: Operation, request: &Request<'_>) -> Result<(), ServiceError> {
    let denied = || {
        ServiceError::new(ErrorCode::AccessDenied).with_message("Anonymous user has no right to access this bucket.")
    };
    if request.bucket.is_empty() || operation == Operation::PutBucket {
        return Err(denied());
    }
    let bucket = context.bucket(&request.bucket)?;
    if !operation.may_be_anonymous() || bucket.blocks_public_access() {
        return Err(denied());
    }
    let write = operation.is_write();
    let object = bucket.object(&request.key);
    if !ruling_acl(&bucket, object.as_deref(), write).allows_anyone(write) {
        return Err(denied());
    }
    // The target of a link must be open to the sender as well as the link.
    if matches!(operation, Operation::GetObject | Operation::HeadObject)
        && let Some(object) = &object
        && let Some(target) = symlink::target(&bucket, object)?
        && !ruling_acl(&bucket, Some(&target), false).allows_anyone(false)
    {
        return Err(denied());
    }
    // A copy also reads its source, which may be anywhere.
    if matches!(operation, Operation::CopyObject | Operation::UploadPartCopy) {
        return Err(denied());
    }
    Ok(())
}

/// A write replaces the object, so what counts is the bucket; a read is ruled by the object if it has a rule.
pub(crate) fn ruling_acl(bucket: &Bucket, object: Option<&Object>, write: bool) -> Acl {
    match object.map(|object| object.attributes.acl) {
        Some(acl) if !write && acl != Acl::Default => acl,
        _ => bucket.acl(),
    }
}

fn check_overwrite(forbid: bool, before: Option<&Object>) -> Result<(), ServiceError> {
    if forbid && before.is_some() {
        return Err(ServiceError::new(ErrorCode::FileAlreadyExists));
    }
    Ok(())
}
