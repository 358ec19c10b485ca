//! Making, describing and deleting buckets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::time::unix_seconds;
use oss_protocol::xml::bucket::{
    AccessControlPolicy, BucketInfo, BucketStat, BucketSummary, CreateBucketConfiguration, ListBucketsResult,
    LocationConstraint,
};
use oss_protocol::xml::configuration::{DefaultEncryption, EncryptionRule};
use oss_protocol::xml::{Document, Owner};

use super::{Context, attributes};
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, xml};
use crate::store::{Acl, Bucket, ConfigurationKind, Configurations, Placement, Redundancy, StorageClass, StoreError};

/// Buckets on a page when the client does not say.
const DEFAULT_BUCKETS: u32 = 100;

/// Most buckets on a page.
const MOST_BUCKETS: u32 = 1000;

/// Largest description of a bucket. Real ones have some hundred bytes.
const LARGEST_CONFIGURATION: usize = 64 * 1024;

/// The resource group that every bucket is in: the default one of the account.
const RESOURCE_GROUP: &str = "rg-default";

/// What a new bucket says about access for everyone.
const PUBLIC_ACCESS_BLOCKED: &[u8] =
    b"<PublicAccessBlockConfiguration><BlockPublicAccess>true</BlockPublicAccess></PublicAccessBlockConfiguration>";

/// The name under which everything is owned; all buckets belong to one account.
const OWNER: &str = "1000000000000000";

/// The one account that owns everything.
pub(super) fn owner() -> Owner {
    Owner { id: OWNER.to_owned(), display_name: OWNER.to_owned() }
}

pub(super) async fn put(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let acl = acl(request)?;
    let body = receive_document(request, LARGEST_CONFIGURATION).await?;
    let mut storage_class = None;
    let mut redundancy = None;
    if !body.is_empty() {
        let configuration =
            CreateBucketConfiguration::parse(&body).map_err(|_| ServiceError::new(ErrorCode::MalformedXML))?;
        if let Some(named) = configuration.storage_class {
            storage_class = Some(attributes::check_storage_class(&named)?);
        }
        if let Some(named) = configuration.data_redundancy_type.filter(|named| !named.is_empty()) {
            let known = Redundancy::parse(&named);
            redundancy = Some(known.ok_or_else(|| ServiceError::invalid_argument("DataRedundancyType", &named))?);
        }
    }
    if let Some(bucket) = context.store.bucket(&request.bucket) {
        return put_again(context, &bucket, acl, storage_class, redundancy).await;
    }
    let acl = acl.unwrap_or(Acl::Private);
    if context.block_public_access && acl.is_public() {
        return Err(attributes::public_access_is_blocked("Put public bucket acl is not allowed"));
    }
    let mut configurations = new_bucket_configurations(context.block_public_access)?;
    if let Some(document) = encryption_of_headers(request)? {
        configurations.set(ConfigurationKind::Encryption, Some(document)).map_err(StoreError::Configuration)?;
    }
    let placement =
        Placement { storage_class: storage_class.unwrap_or_default(), redundancy: redundancy.unwrap_or_default() };
    let created = context.store.create_bucket(&request.bucket, acl, placement, configurations).await;
    created.map_err(|error| for_bucket(error, &request.bucket))?;
    Ok(empty(StatusCode::OK))
}

/// What a bucket is configured with at first.
pub(crate) fn new_bucket_configurations(block_public_access: bool) -> Result<Configurations, StoreError> {
    let mut configurations = Configurations::default();
    if block_public_access {
        configurations
            .set(ConfigurationKind::PublicAccessBlock, Some(Bytes::from_static(PUBLIC_ACCESS_BLOCKED)))
            .map_err(StoreError::Configuration)?;
    }
    Ok(configurations)
}

/// The encryption that the headers of `PutBucket` ask for.
fn encryption_of_headers(request: &Request<'_>) -> Result<Option<Bytes>, ServiceError> {
    let Some(algorithm) = request.header(&header::SERVER_SIDE_ENCRYPTION)? else { return Ok(None) };
    attributes::check_algorithm(algorithm)?;
    let named = |name| request.header(name).map(|text| text.map(str::to_owned));
    let default = DefaultEncryption {
        algorithm: algorithm.to_owned(),
        key_id: named(&header::SERVER_SIDE_ENCRYPTION_KEY_ID)?,
        data_encryption: named(&header::SERVER_SIDE_DATA_ENCRYPTION)?,
    };
    Ok(Some(EncryptionRule { default }.to_xml().into()))
}

/// What the owner of a bucket gets for creating it once more: only what cannot be changed is refused.
async fn put_again(
    context: &Context,
    bucket: &Arc<Bucket>,
    acl: Option<Acl>,
    storage_class: Option<StorageClass>,
    redundancy: Option<Redundancy>,
) -> Result<Response, ServiceError> {
    let other_class = storage_class.is_some_and(|class| class != bucket.storage_class);
    if other_class || redundancy.is_some_and(|redundancy| redundancy != bucket.redundancy) {
        return Err(ServiceError::new(ErrorCode::BucketAlreadyExists)
            .with_message("The bucket exists with another storage class or redundancy type.")
            .with_field("BucketName", &bucket.name));
    }
    if let Some(acl) = acl {
        change_acl(context, bucket, acl).await?;
    }
    Ok(empty(StatusCode::OK))
}

async fn change_acl(context: &Context, bucket: &Arc<Bucket>, acl: Acl) -> Result<(), ServiceError> {
    if acl.is_public() && bucket.blocks_public_access() {
        return Err(attributes::public_access_is_blocked("Put public bucket acl is not allowed"));
    }
    Ok(context.store.set_bucket_acl(bucket, acl).await?)
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
    if let Some(wanted) = query.text("tag-key") {
        let value = query.get("tag-value");
        found.retain(|bucket| {
            let configurations = bucket.configurations();
            configurations.tags.iter().any(|(key, found)| key == wanted && value.is_none_or(|value| value == found))
        });
    }
    if let Some(text) = query.text("tagging") {
        let wanted = tag_filter(text).filter(|_| !query.has("tag-key") && !query.has("tag-value"));
        let wanted = wanted.ok_or_else(|| ServiceError::invalid_argument("tagging", text))?;
        found.retain(|bucket| wanted.iter().all(|tag| bucket.configurations().tags.contains(tag)));
    }
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
                resource_group_id: Some(RESOURCE_GROUP.to_owned()),
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

/// The tags that a listing asks for, such as `"team":"a","stage":"test"`.
fn tag_filter(text: &str) -> Option<Vec<(String, String)>> {
    let tags: BTreeMap<String, String> = serde_json::from_str(&format!("{{{text}}}")).ok()?;
    Some(tags.into_iter().collect())
}

/// The one region that the emulator has.
pub(super) fn regions(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let location = context.location();
    let wanted = request.query.text("regions");
    if let Some(wanted) = wanted.filter(|wanted| *wanted != location) {
        return Err(ServiceError::new(ErrorCode::NoSuchRegion).with_message(wanted.to_owned()));
    }
    let endpoint = context.address;
    Ok(xml(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<RegionInfoList><RegionInfo><Region>{location}</Region>\
         <InternetEndpoint>{endpoint}</InternetEndpoint><InternalEndpoint>{endpoint}</InternalEndpoint>\
         <AccelerateEndpoint>{endpoint}</AccelerateEndpoint></RegionInfo></RegionInfoList>"
    )))
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
        data_redundancy_type: bucket.redundancy.as_str().to_owned(),
        owner: owner(),
        acl: bucket.acl().as_str().to_owned(),
        versioning: None,
        encryption: bucket.configurations().encryption.as_deref().cloned(),
        extra: [
            ("TransferAcceleration", "Disabled"),
            ("CrossRegionReplication", "Disabled"),
            ("AccessMonitor", "Disabled"),
            ("BlockPublicAccess", if bucket.blocks_public_access() { "true" } else { "false" }),
            ("ResourceGroupId", RESOURCE_GROUP),
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
    let (multipart_upload_count, classes) = bucket.totals();
    let of = |class: StorageClass| classes.get(&class).copied().unwrap_or_default();
    let (standard_storage, standard_object_count) = of(StorageClass::Standard);
    let (infrequent_access_storage, infrequent_access_object_count) = of(StorageClass::InfrequentAccess);
    let (archive_storage, archive_object_count) = of(StorageClass::Archive);
    let (cold_archive_storage, cold_archive_object_count) = of(StorageClass::ColdArchive);
    let (deep_cold_archive_storage, deep_cold_archive_object_count) = of(StorageClass::DeepColdArchive);
    let result = BucketStat {
        storage: classes.values().map(|(bytes, _)| bytes).sum(),
        object_count: classes.values().map(|(_, count)| count).sum(),
        multipart_upload_count,
        live_channel_count: 0,
        // A bucket that never held anything was never counted.
        last_modified_time: if classes.is_empty() { 0 } else { unix_seconds(SystemTime::now()) },
        standard_storage,
        standard_object_count,
        infrequent_access_storage,
        infrequent_access_real_storage: infrequent_access_storage,
        infrequent_access_object_count,
        archive_storage,
        archive_real_storage: archive_storage,
        archive_object_count,
        cold_archive_storage,
        cold_archive_real_storage: cold_archive_storage,
        cold_archive_object_count,
        deep_cold_archive_storage,
        deep_cold_archive_real_storage: deep_cold_archive_storage,
        deep_cold_archive_object_count,
        delete_marker_count: 0,
    };
    Ok(xml(result.to_xml()))
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
    change_acl(context, &bucket, acl).await?;
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
