//! Putting, reading and describing objects.

use std::sync::Arc;

use http::{HeaderName, StatusCode, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::range::{ByteRange, ContentRange, ResolvedRange};
use oss_protocol::time::format_http_date;

use super::{Context, attributes, bucket, check_overwrite, restore, symlink};
use crate::body::ResponseBody;
use crate::condition::ConditionHeaders;
use crate::gzip;
use crate::ingest::{Received, receive};
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set};
use crate::rights;
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
    let attributes = attributes::read(request, &bucket)?;
    let forbid = request.flag(&header::FORBID_OVERWRITE)?;
    // If possible, a client learns before it sends gigabytes that they will be refused. Only the check at the end decides.
    if forbid {
        check_overwrite(forbid, bucket.object(&request.key).as_deref())?;
    }
    let received = receive(request, &context.store, context.etag).await?;
    let storage_class = attributes.storage_class.unwrap_or(bucket.storage_class);
    let etag = received.etag();
    let Received { content, crc64, md5 } = received;
    let object = Object::new(content, &etag, md5, crc64, ObjectKind::Normal, attributes, storage_class);
    let object = context
        .store
        .replace(&bucket, &request.key, move |before| {
            check_overwrite(forbid, before)?;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    let mut response = empty(StatusCode::OK);
    set_checksums(&mut response, &object);
    attributes::echo_encryption(&mut response, &object.attributes);
    Ok(response)
}

pub(super) fn get(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let (object, readable) = follow(context, request)?;
    ConditionHeaders::READ.check(&request.headers, &object)?;
    readable?;
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
        ResolvedRange::Full => *response.body_mut() = ResponseBody::content(object.read()),
        ResolvedRange::Partial { start, end_inclusive } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = ContentRange { start, end: end_inclusive, total: size };
            set(&mut response, standard::CONTENT_RANGE, range.to_string());
            *response.body_mut() = ResponseBody::content(object.read().slice(start, range.length()));
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
    if matches!(resolved, ResolvedRange::Full) {
        gzip::pack_if_accepted(&mut response, &request.headers);
    }
    Ok(response)
}

pub(super) fn head(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let (object, _) = follow(context, request)?;
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
    set(&mut response, standard::ETAG, object.etag());
    set(&mut response, standard::LAST_MODIFIED, format_http_date(object.last_modified()));
    set(&mut response, header::HASH_CRC64ECMA, object.crc64.to_string());
    Ok(response)
}

pub(super) fn get_acl(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = find(context, request)?;
    Ok(bucket::acl_response(object.attributes.acl))
}

pub(super) async fn put_acl(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let Some(acl) = attributes::acl(request)? else {
        return Err(
            ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", header::OBJECT_ACL.as_str())
        );
    };
    attributes::check_acl(&*context.bucket(&request.bucket)?, acl)?;
    change(context, request, move |object| {
        object.attributes.acl = acl;
        Ok(())
    })
    .await?;
    Ok(empty(StatusCode::OK))
}

/// Changes what is known of an object; its content, its ETag and its time stay.
pub(super) async fn change(
    context: &Context,
    request: &Request<'_>,
    change: impl FnOnce(&mut Object) -> Result<(), ServiceError> + Send + 'static,
) -> Result<(), ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let key = request.key.clone();
    context
        .store
        .replace(&bucket, &request.key, move |before| {
            let mut object = before.ok_or_else(|| ServiceError::no_such_key(&key))?.clone();
            change(&mut object)?;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    Ok(())
}

pub(super) fn find(context: &Context, request: &Request<'_>) -> Result<Arc<Object>, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    bucket.object(&request.key).ok_or_else(|| ServiceError::no_such_key(&request.key))
}

/// The object that a reader sees, through a link if it is one, and whether its content can be read.
fn follow(context: &Context, request: &Request<'_>) -> Result<(Arc<Object>, Result<(), ServiceError>), ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let object = bucket.object(&request.key).ok_or_else(|| ServiceError::no_such_key(&request.key))?;
    let Some(target) = symlink::target(&bucket, &object)? else {
        let readable = restore::check_readable(&object, &request.key);
        return Ok((object, readable));
    };
    if let Some(key) = symlink::target_key(&object) {
        rights::check_object(context, request, "GetObject", &request.bucket, &key)?;
    }
    let readable = restore::check_readable(&target, &request.key);
    Ok((Arc::new(symlink::seen_through(&object, &target)), readable))
}

/// Adds what a read or a HEAD tells of an object.
fn describe(response: &mut Response, object: &Object) {
    for (name, value) in &object.attributes.headers {
        if *name != header::SYMLINK_TARGET {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(tags) = &object.attributes.tags {
        set(response, header::TAGGING_COUNT, tags.len().to_string());
    }
    restore::describe(response, object);
    set_checksums(response, object);
    set(response, standard::LAST_MODIFIED, format_http_date(object.last_modified()));
    set(response, standard::ACCEPT_RANGES, "bytes");
    set(response, header::OBJECT_TYPE, object.kind.as_str());
    set(response, header::STORAGE_CLASS, object.storage_class.as_str());
    if object.kind == ObjectKind::Appendable {
        set(response, header::NEXT_APPEND_POSITION, object.size().to_string());
    }
}

/// Adds the ETag, the CRC-64 of the whole object and, if known, its MD5.
pub(super) fn set_checksums(response: &mut Response, object: &Object) {
    set(response, standard::ETAG, object.etag());
    set(response, header::HASH_CRC64ECMA, object.crc64.to_string());
    if let Some(md5) = object.md5() {
        set_content_md5(response, md5);
    }
}

/// The name of the header with the MD5 of a body.
pub(super) const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Adds the header `Content-MD5`.
pub(super) fn set_content_md5(response: &mut Response, md5: [u8; 16]) {
    set(response, CONTENT_MD5, encode_md5(md5));
}

/// An MD5 as `Content-MD5` has it.
pub(super) fn encode_md5(md5: [u8; 16]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(md5)
}

fn override_headers(response: &mut Response, request: &Request<'_>) -> Result<(), ServiceError> {
    if request.query.is_empty() {
        return Ok(());
    }
    for (parameter, name) in OVERRIDES {
        let Some(value) = request.query.text(parameter) else { continue };
        if request.is_anonymous() {
            return Err(ServiceError::new(ErrorCode::InvalidRequest)
                .with_message("Anonymous requests cannot override response headers."));
        }
        let value = http::HeaderValue::from_str(value).map_err(|_| ServiceError::invalid_argument(parameter, value))?;
        response.headers_mut().insert(name, value);
    }
    Ok(())
}
