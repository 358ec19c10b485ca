//! Making, describing and deleting buckets.

use http::StatusCode;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::xml::bucket::{
    AccessControlPolicy, BucketInfo, BucketStat, BucketSummary, CreateBucketConfiguration, ListBucketsResult,
    LocationConstraint,
};
use oss_protocol::xml::{Document, Owner};

use super::{Context, attributes};
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, xml};
use crate::store::{Acl, Bucket, StorageClass, StoreError};

/// Buckets on a page when the client does not say.
const DEFAULT_BUCKETS: u32 = 100;

/// Most buckets on a page.
const MOST_BUCKETS: u32 = 1000;

/// Largest description of a bucket. Real ones have some hundred bytes.
const LARGEST_CONFIGURATION: usize = 64 * 1024;

/// The name under which everything is owned; all buckets belong to one account.
const OWNER: &str = "1000000000000000";

/// The one account that owns everything.
pub(super) fn owner() -> Owner {
    Owner { id: OWNER.to_owned(), display_name: OWNER.to_owned() }
}

pub(super) async fn put(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let acl = acl(request)?.unwrap_or(Acl::Private);
    let body = receive_document(request, LARGEST_CONFIGURATION).await?;
    let mut storage_class = StorageClass::default();
    if !body.is_empty() {
        let configuration =
            CreateBucketConfiguration::parse(&body).map_err(|_| ServiceError::new(ErrorCode::MalformedXML))?;
        if let Some(named) = configuration.storage_class {
            storage_class = attributes::check_storage_class(&named)?;
        }
    }
    let created = context.store.create_bucket(&request.bucket, acl, storage_class).await;
    created.map_err(|error| for_bucket(error, &request.bucket))?;
    Ok(empty(StatusCode::OK))
}

pub(super) async fn delete(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let deleted = context.store.delete_bucket(&request.bucket).await;
    deleted.map_err(|error| for_bucket(error, &request.bucket))?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn list(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let query = &request.query;
    let limit = query.number("max-keys", DEFAULT_BUCKETS, 1, MOST_BUCKETS)?;
    let prefix = query.get("prefix").unwrap_or_default();
    let marker = query.get("marker").unwrap_or_default();
    let mut found = context.store.buckets_after(marker);
    found.retain(|bucket| bucket.name.starts_with(prefix));
    let is_truncated = found.len() > limit as usize;
    found.truncate(limit as usize);
    let endpoint = context.address.to_string();
    let result = ListBucketsResult {
        owner: owner(),
        buckets: found
            .iter()
            .map(|bucket| BucketSummary {
                name: bucket.name.clone(),
                location: context.location(),
                region: context.region.clone(),
                creation_date: bucket.created,
                storage_class: bucket.storage_class.as_str().to_owned(),
                extranet_endpoint: endpoint.clone(),
                intranet_endpoint: endpoint.clone(),
            })
            .collect(),
        prefix: query.get("prefix").map(str::to_owned),
        marker: query.get("marker").map(str::to_owned),
        max_keys: Some(limit),
        is_truncated,
        next_marker: found.last().filter(|_| is_truncated).map(|bucket| bucket.name.clone()),
    };
    Ok(xml(result.to_xml()))
}

pub(super) fn info(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    Ok(xml(describe(context, &bucket).to_xml()))
}

fn describe(context: &Context, bucket: &Bucket) -> BucketInfo {
    let endpoint = context.address.to_string();
    BucketInfo {
        name: bucket.name.clone(),
        location: context.location(),
        creation_date: bucket.created,
        extranet_endpoint: endpoint.clone(),
        intranet_endpoint: endpoint,
        storage_class: bucket.storage_class.as_str().to_owned(),
        data_redundancy_type: "LRS".to_owned(),
        owner: owner(),
        acl: bucket.acl().as_str().to_owned(),
        versioning: None,
        extra: [
            ("TransferAcceleration", "Disabled"),
            ("CrossRegionReplication", "Disabled"),
            ("AccessMonitor", "Disabled"),
            ("BlockPublicAccess", "false"),
            ("ResourceGroupId", ""),
            ("Comment", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    }
}

pub(super) fn location(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    context.bucket(&request.bucket)?;
    Ok(xml(LocationConstraint { location: context.location() }.to_xml()))
}

pub(super) fn stat(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let (object_count, storage, multipart_upload_count) = bucket.totals();
    Ok(xml(BucketStat { storage, object_count, multipart_upload_count }.to_xml()))
}

pub(super) fn get_acl(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    Ok(acl_response(bucket.acl()))
}

/// The answer to a question for an access control list.
pub(super) fn acl_response(acl: Acl) -> Response {
    xml(AccessControlPolicy { owner: owner(), grant: acl.as_str().to_owned() }.to_xml())
}

pub(super) async fn put_acl(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let Some(acl) = acl(request)? else {
        return Err(ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", header::ACL.as_str()));
    };
    context.store.set_bucket_acl(&bucket, acl).await?;
    Ok(empty(StatusCode::OK))
}

/// The access control list named by `x-oss-acl`.
fn acl(request: &Request<'_>) -> Result<Option<Acl>, ServiceError> {
    let Some(text) = request.header(&header::ACL)? else { return Ok(None) };
    match Acl::parse(text) {
        Some(acl) if acl != Acl::Default => Ok(Some(acl)),
        _ => Err(ServiceError::invalid_argument(header::ACL.as_str(), text)),
    }
}

/// The refusal, which names the bucket.
fn for_bucket(error: StoreError, name: &str) -> ServiceError {
    ServiceError::from(error).with_field("BucketName", name)
}
