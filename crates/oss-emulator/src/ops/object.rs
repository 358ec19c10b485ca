//! Putting, reading and describing objects.

use http::{HeaderName, StatusCode, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::range::{ByteRange, ContentRange, ResolvedRange};
use oss_protocol::time::format_http_date;

use super::{Context, attributes, bucket, check_overwrite};
use crate::body::ResponseBody;
use crate::condition::ConditionHeaders;
use crate::ingest::{Received, receive};
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set};
use crate::store::{Object, ObjectKind};

/// Query parameters that replace a header of the answer.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-content-type", standard::CONTENT_TYPE),
    ("response-content-language", standard::CONTENT_LANGUAGE),
    ("response-content-encoding", standard::CONTENT_ENCODING),
    ("response-content-disposition", standard::CONTENT_DISPOSITION),
    ("response-cache-control", standard::CACHE_CONTROL),
    ("response-expires", standard::EXPIRES),
];

pub(super) async fn put(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let attributes = attributes::read(request)?;
    let forbid = request.flag(&header::FORBID_OVERWRITE)?;
    // A client that sends gigabytes is told beforehand where that is possible; what counts is the check at the end.
    if forbid {
        check_overwrite(forbid, bucket.object(&request.key).as_deref())?;
    }
    let received = receive(request, &context.store, context.etag).await?;
    let storage_class = attributes.storage_class.clone().unwrap_or_else(|| bucket.storage_class.clone());
    let etag = received.etag();
    let Received { content, crc64, md5 } = received;
    let object = Object::new(content, etag, md5, crc64, ObjectKind::Normal, attributes, storage_class);
    let object = context
        .store
        .replace(&bucket, &request.key, move |before| {
            check_overwrite(forbid, before)?;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    let mut response = empty(StatusCode::OK);
    set_checksums(&mut response, &object);
    Ok(response)
}

pub(super) fn get(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = find(context, request)?;
    ConditionHeaders::READ.check(&request.headers, &object)?;
    if attributes::is_archive(&object.storage_class) {
        return Err(ServiceError::new(ErrorCode::InvalidObjectState)
            .with_message("The operation is not valid for the object's state")
            .with_field("Key", &request.key));
    }
    let size = object.size();
    let range = request.header(&standard::RANGE)?.and_then(ByteRange::parse);
    let resolved = match range {
        None => ResolvedRange::Full,
        Some(range) => {
            let behavior = request.header(&header::RANGE_BEHAVIOR)?;
            range.resolve(size, behavior == Some(header::RANGE_BEHAVIOR_STANDARD))
        }
    };
    let mut response = empty(StatusCode::OK);
    match resolved {
        ResolvedRange::Full => *response.body_mut() = ResponseBody::content(object.content.clone()),
        ResolvedRange::Partial { start, end_inclusive } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = ContentRange { start, end: end_inclusive, total: size };
            set(&mut response, standard::CONTENT_RANGE, range.to_string());
            *response.body_mut() = ResponseBody::content(object.content.slice(start, range.length()));
        }
        ResolvedRange::Unsatisfiable => {
            return Err(ServiceError::new(ErrorCode::InvalidRange)
                .with_field("ActualObjectSize", size.to_string())
                .with_field("RangeRequested", request.header(&standard::RANGE)?.unwrap_or_default())
                .with_content_range(size));
        }
    }
    describe(&mut response, &object);
    override_headers(&mut response, request)?;
    Ok(response)
}

pub(super) fn head(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = find(context, request)?;
    ConditionHeaders::READ.check(&request.headers, &object)?;
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(standard::CONTENT_LENGTH, object.size().into());
    describe(&mut response, &object);
    Ok(response)
}

/// The few headers of an object that cost the service least.
pub(super) fn meta(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = find(context, request)?;
    let mut response = empty(StatusCode::OK);
    if request.method == http::Method::HEAD {
        response.headers_mut().insert(standard::CONTENT_LENGTH, object.size().into());
    }
    set(&mut response, standard::ETAG, object.etag.as_str());
    set(&mut response, standard::LAST_MODIFIED, format_http_date(object.last_modified));
    set(&mut response, header::HASH_CRC64ECMA, object.crc64.to_string());
    Ok(response)
}

pub(super) fn get_acl(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = find(context, request)?;
    Ok(bucket::acl_response(object.attributes.acl))
}

pub(super) async fn put_acl(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let Some(acl) = attributes::acl(request)? else {
        return Err(
            ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", header::OBJECT_ACL.as_str())
        );
    };
    let key = request.key.clone();
    context
        .store
        .replace(&bucket, &request.key, move |before| {
            let mut object = before.ok_or_else(|| ServiceError::no_such_key(&key))?.clone();
            object.attributes.acl = acl;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    Ok(empty(StatusCode::OK))
}

fn find(context: &Context, request: &Request<'_>) -> Result<std::sync::Arc<Object>, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    bucket.object(&request.key).ok_or_else(|| ServiceError::no_such_key(&request.key))
}

/// Adds what a read or a HEAD tells of an object.
fn describe(response: &mut Response, object: &Object) {
    for (name, value) in &object.attributes.headers {
        response.headers_mut().insert(name, value.clone());
    }
    set_checksums(response, object);
    set(response, standard::LAST_MODIFIED, format_http_date(object.last_modified));
    set(response, standard::ACCEPT_RANGES, "bytes");
    set(response, header::OBJECT_TYPE, object.kind.as_str());
    set(response, header::STORAGE_CLASS, object.storage_class.as_str());
    if object.kind == ObjectKind::Appendable {
        set(response, header::NEXT_APPEND_POSITION, object.size().to_string());
    }
}

/// Adds the ETag, the CRC64 of the whole object and, where there is one, its MD5.
pub(super) fn set_checksums(response: &mut Response, object: &Object) {
    set(response, standard::ETAG, object.etag.as_str());
    set(response, header::HASH_CRC64ECMA, object.crc64.to_string());
    if let Some(md5) = object.md5 {
        set_content_md5(response, md5);
    }
}

/// Adds the header `Content-MD5`.
pub(super) fn set_content_md5(response: &mut Response, md5: [u8; 16]) {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(md5);
    set(response, HeaderName::from_static("content-md5"), text);
}

fn override_headers(response: &mut Response, request: &Request<'_>) -> Result<(), ServiceError> {
    if request.query.is_empty() {
        return Ok(());
    }
    for (parameter, name) in OVERRIDES {
        let Some(value) = request.query.text(parameter) else { continue };
        if request.anonymous {
            return Err(ServiceError::new(ErrorCode::InvalidRequest)
                .with_message("Anonymous requests cannot override response headers."));
        }
        let value = http::HeaderValue::from_str(value).map_err(|_| ServiceError::invalid_argument(parameter, value))?;
        response.headers_mut().insert(name, value);
    }
    Ok(())
}
