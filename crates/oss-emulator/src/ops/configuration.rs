//! Configurations of buckets: kept as the documents they came in, with the service's answer for what nobody has configured.

use bytes::Bytes;
use http::StatusCode;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::xml::configuration::{
    BucketUserQos, CorsConfiguration, EncryptionRule, LifecycleConfiguration, check_document,
};
use oss_protocol::xml::tagging::Tagging;
use oss_protocol::xml::{Document, XmlError};

use super::{Context, attributes, lifecycle};
use crate::body::ResponseBody;
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, xml};
use crate::rights::{LARGEST_POLICY, Policy};
use crate::route::Operation;
use crate::store::{Acl, ConfigurationKind as Kind};

/// Largest document. The service takes a thousand lifecycle rules; real ones have some hundred bytes each.
const LARGEST_DOCUMENT: usize = 1024 * 1024;

/// What the service answers for a configuration that nobody has made.
enum Absent {
    Error(ErrorCode),
    /// The content of the root element.
    Document(&'static str),
}

/// The root element of a configuration's document, an element that it must have, and the answer without one.
fn form(kind: Kind) -> (&'static str, Option<&'static str>, Absent) {
    match kind {
        Kind::Cors => ("CORSConfiguration", Some("CORSRule"), Absent::Error(ErrorCode::NoSuchCORSConfiguration)),
        Kind::Encryption => (
            "ServerSideEncryptionRule",
            Some("ApplyServerSideEncryptionByDefault"),
            Absent::Error(ErrorCode::NoSuchServerSideEncryptionRule),
        ),
        Kind::Lifecycle => ("LifecycleConfiguration", Some("Rule"), Absent::Error(ErrorCode::NoSuchLifecycle)),
        Kind::Logging => ("BucketLoggingStatus", None, Absent::Document("")),
        Kind::Policy => ("", None, Absent::Error(ErrorCode::NoSuchBucketPolicy)),
        Kind::PublicAccessBlock => (
            "PublicAccessBlockConfiguration",
            Some("BlockPublicAccess"),
            Absent::Document("<BlockPublicAccess>false</BlockPublicAccess>"),
        ),
        Kind::Qos => {
            ("BucketUserQos", Some("StorageCapacity"), Absent::Document("<StorageCapacity>-1</StorageCapacity>"))
        }
        Kind::Referer => (
            "RefererConfiguration",
            Some("AllowEmptyReferer"),
            Absent::Document("<AllowEmptyReferer>true</AllowEmptyReferer><RefererList/>"),
        ),
        Kind::RequestPayment => {
            ("RequestPaymentConfiguration", Some("Payer"), Absent::Document("<Payer>BucketOwner</Payer>"))
        }
        Kind::Tagging => ("Tagging", Some("TagSet"), Absent::Document("<TagSet/>")),
        Kind::Website => ("WebsiteConfiguration", None, Absent::Error(ErrorCode::NoSuchWebsiteConfiguration)),
    }
}

/// Performs one of the operations on configurations.
pub(super) async fn perform(
    context: &Context,
    operation: Operation,
    request: &mut Request<'_>,
) -> Result<Response, ServiceError> {
    use Operation as O;
    match operation {
        O::GetBucketCors => get(context, request, Kind::Cors),
        O::GetBucketEncryption => get(context, request, Kind::Encryption),
        O::GetBucketLifecycle => get(context, request, Kind::Lifecycle),
        O::GetBucketLogging => get(context, request, Kind::Logging),
        O::GetBucketPolicy => get(context, request, Kind::Policy),
        O::GetBucketPublicAccessBlock => get(context, request, Kind::PublicAccessBlock),
        O::GetBucketQos => get(context, request, Kind::Qos),
        O::GetBucketReferer => get(context, request, Kind::Referer),
        O::GetBucketRequestPayment => get(context, request, Kind::RequestPayment),
        O::GetBucketTags => get(context, request, Kind::Tagging),
        O::GetBucketWebsite => get(context, request, Kind::Website),
        O::PutBucketCors => put(context, request, Kind::Cors).await,
        O::PutBucketEncryption => put(context, request, Kind::Encryption).await,
        O::PutBucketLifecycle => put(context, request, Kind::Lifecycle).await,
        O::PutBucketLogging => put(context, request, Kind::Logging).await,
        O::PutBucketPolicy => put(context, request, Kind::Policy).await,
        O::PutBucketPublicAccessBlock => put(context, request, Kind::PublicAccessBlock).await,
        O::PutBucketQos => put(context, request, Kind::Qos).await,
        O::PutBucketReferer => put(context, request, Kind::Referer).await,
        O::PutBucketRequestPayment => put(context, request, Kind::RequestPayment).await,
        O::PutBucketTags => put(context, request, Kind::Tagging).await,
        O::PutBucketWebsite => put(context, request, Kind::Website).await,
        O::DeleteBucketCors => delete(context, request, Kind::Cors).await,
        O::DeleteBucketEncryption => delete(context, request, Kind::Encryption).await,
        O::DeleteBucketLifecycle => delete(context, request, Kind::Lifecycle).await,
        O::DeleteBucketLogging => delete(context, request, Kind::Logging).await,
        O::DeleteBucketPolicy => delete(context, request, Kind::Policy).await,
        O::DeleteBucketPublicAccessBlock => delete(context, request, Kind::PublicAccessBlock).await,
        O::DeleteBucketTags => delete_tags(context, request).await,
        O::DeleteBucketWebsite => delete(context, request, Kind::Website).await,
        O::GetBucketInventory => none(context, request, ErrorCode::NoSuchInventory),
        O::GetBucketReplication => none(context, request, ErrorCode::NoSuchReplicationConfiguration),
        O::GetBucketTransferAcceleration => none(context, request, ErrorCode::NoSuchTransferAccelerationConfiguration),
        O::GetBucketPolicyStatus => policy_status(context, request),
        O::GetBucketVersioning => fixed(context, request, "VersioningConfiguration", ""),
        O::ListBucketInventory => {
            fixed(context, request, "ListInventoryConfigurationsResult", "<IsTruncated>false</IsTruncated>")
        }
        O::ListLiveChannel => fixed(
            context,
            request,
            "ListLiveChannelResult",
            "<Prefix/><Marker/><MaxKeys>100</MaxKeys><IsTruncated>false</IsTruncated><NextMarker/>",
        ),
        other => Err(ServiceError::new(ErrorCode::NotImplemented).with_message(format!("{other} is not implemented."))),
    }
}

fn get(context: &Context, request: &Request<'_>, kind: Kind) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    if let Some(document) = bucket.configurations().document(kind) {
        let mut response = xml(String::new());
        if kind == Kind::Policy {
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        }
        *response.body_mut() = ResponseBody::full(document.clone());
        return Ok(response);
    }
    let (root, _, absent) = form(kind);
    match absent {
        Absent::Document(content) => Ok(document(root, content)),
        Absent::Error(code) => Err(ServiceError::new(code).with_field("BucketName", &request.bucket)),
    }
}

async fn put(context: &Context, request: &mut Request<'_>, kind: Kind) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let largest = if kind == Kind::Policy { LARGEST_POLICY } else { LARGEST_DOCUMENT };
    let body = receive_document(request, largest).await?;
    let document = check(kind, &request.bucket, &body)?;
    if kind == Kind::Policy && bucket.blocks_public_access() {
        let public = Policy::parse_of_bucket(&body).is_ok_and(|policy| policy.is_public());
        if public {
            return Err(attributes::public_access_is_blocked("Put public bucket policy is not allowed"));
        }
    }
    context.store.configure(&bucket, kind, Some(document)).await?;
    Ok(empty(StatusCode::OK))
}

/// Checks a document and returns what is kept of it: as it came, but for what the service adds or leaves out.
fn check(kind: Kind, bucket: &str, body: &[u8]) -> Result<Bytes, ServiceError> {
    let as_it_came = || Ok(Bytes::copy_from_slice(body));
    match kind {
        Kind::Policy => {
            Policy::parse_of_bucket(body)
                .and_then(|policy| policy.check_way_back(bucket))
                .map_err(|error| ServiceError::new(ErrorCode::InvalidPolicyDocument).with_message(error.to_string()))?;
            return as_it_came();
        }
        Kind::Cors => return Ok(CorsConfiguration::parse(body).map_err(refuse)?.to_xml().into()),
        Kind::Encryption => return encryption(body),
        Kind::Lifecycle => lifecycle::check(&LifecycleConfiguration::parse(body).map_err(refuse)?)?,
        Kind::Qos => drop(BucketUserQos::parse(body).map_err(refuse)?),
        _ => {}
    }
    let (root, child, _) = form(kind);
    check_document(body, root, child).map_err(refuse)?;
    let text = String::from_utf8_lossy(body);
    // The official Python SDK writes truth values as Python does, and reads them as XML does.
    let mut text = text.replace(">True<", ">true<").replace(">False<", ">false<");
    if kind == Kind::Referer && !text.contains("<AllowTruncateQueryString>") {
        let end = text.rfind("</").unwrap_or(text.len());
        text.insert_str(end, "<AllowTruncateQueryString>true</AllowTruncateQueryString>");
    }
    Ok(text.into())
}

/// A value that cannot be is an argument that is wrong; anything else is not the document that it should be.
fn refuse(error: XmlError) -> ServiceError {
    match error {
        XmlError::Invalid { element, value, .. } => ServiceError::invalid_argument(element, &value),
        other => ServiceError::new(ErrorCode::MalformedXML).with_message(other.to_string()),
    }
}

fn encryption(body: &[u8]) -> Result<Bytes, ServiceError> {
    let mut rule = EncryptionRule::parse(body).map_err(|error| match error {
        XmlError::Invalid { element: "SSEAlgorithm", .. } => {
            ServiceError::new(ErrorCode::InvalidEncryptionAlgorithmError)
        }
        other => refuse(other),
    })?;
    if rule.default.algorithm != "KMS" {
        // Keys belong to the key management service.
        if let Some(id) = rule.default.key_id.filter(|id| !id.is_empty()) {
            return Err(ServiceError::invalid_argument("KMSMasterKeyID", &id));
        }
        rule.default.key_id = None;
        rule.default.data_encryption = None;
    }
    Ok(rule.to_xml().into())
}

/// Removes all tags of a bucket, or those whose keys the request names, with commas between them.
async fn delete_tags(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let Some(named) = request.query.text("tagging") else { return delete(context, request, Kind::Tagging).await };
    let bucket = context.bucket(&request.bucket)?;
    let mut tags = bucket.configurations().tags.clone();
    tags.retain(|(key, _)| !named.split(',').any(|name| name == key));
    let document = (!tags.is_empty()).then(|| Tagging { tags }.to_xml().into());
    context.store.configure(&bucket, Kind::Tagging, document).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn delete(context: &Context, request: &Request<'_>, kind: Kind) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    context.store.configure(&bucket, kind, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The answer about something that cannot be configured here.
fn none(context: &Context, request: &Request<'_>, code: ErrorCode) -> Result<Response, ServiceError> {
    context.bucket(&request.bucket)?;
    Err(ServiceError::new(code).with_field("BucketName", &request.bucket))
}

fn fixed(context: &Context, request: &Request<'_>, root: &str, content: &str) -> Result<Response, ServiceError> {
    context.bucket(&request.bucket)?;
    Ok(document(root, content))
}

fn policy_status(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let public = bucket.policy().is_some_and(|policy| policy.is_public()) || bucket.acl() != Acl::Private;
    Ok(document("PolicyStatus", &format!("<IsPublic>{}</IsPublic>", public && !bucket.blocks_public_access())))
}

fn document(root: &str, content: &str) -> Response {
    xml(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>{content}</{root}>"))
}
