//! Copying objects, whole or as parts. Bytes are shared between source and copy, never copied.

use http::{StatusCode, header as standard};
use oss_protocol::canonical;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::range::{ByteRange, ResolvedRange};
use oss_protocol::uri::{validate_bucket, validate_key};
use oss_protocol::xml::multipart::{CopyObjectResult, CopyPartResult};

use super::{Context, attributes, check_overwrite, multipart};
use crate::condition::ConditionHeaders;
use crate::ingest::Digests;
use crate::request::Request;
use crate::response::{Response, ServiceError, set, xml};
use crate::store::{Object, Part, whole_seconds};

/// Largest object that one request copies: 1 GB, a limit of the service. Larger ones are copied in parts.
const LARGEST_COPY: u64 = 1024 * 1024 * 1024;

struct Source {
    bucket: String,
    key: String,
    object: std::sync::Arc<Object>,
}

pub(super) async fn object(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let source = source(context, request)?;
    if source.object.size() > LARGEST_COPY {
        return Err(ServiceError::new(ErrorCode::EntityTooLarge));
    }
    let onto_itself = source.bucket == request.bucket && source.key == request.key;
    let replace = match request.header(&header::METADATA_DIRECTIVE)? {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("COPY") => false,
        Some(text) if text.eq_ignore_ascii_case("REPLACE") => true,
        Some(text) => return Err(ServiceError::invalid_argument(header::METADATA_DIRECTIVE.as_str(), text)),
    };
    let sent = attributes::read(request)?;
    let storage_class = sent.storage_class.clone().unwrap_or_else(|| bucket.storage_class.clone());
    // The access rule never comes along; headers do unless they are replaced. A copy onto itself would otherwise do nothing.
    let mut kept = sent;
    if !replace && !onto_itself {
        kept.headers.clone_from(&source.object.attributes.headers);
    }
    let forbid = request.flag(&header::FORBID_OVERWRITE)?;
    let from = &source.object;
    let object =
        Object::new(from.content.clone(), from.etag.clone(), from.md5, from.crc64, from.kind, kept, storage_class);
    let object = context
        .store
        .replace(&bucket, &request.key, move |before| {
            check_overwrite(forbid, before)?;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    let result = CopyObjectResult { etag: object.etag.clone(), last_modified: object.last_modified };
    let mut response = xml(result.to_xml());
    set(&mut response, standard::ETAG, object.etag.as_str());
    set(&mut response, header::HASH_CRC64ECMA, object.crc64.to_string());
    Ok(response)
}

pub(super) async fn part(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let number = multipart::part_number(request)?;
    let upload = multipart::find_upload(&bucket, request)?;
    let source = source(context, request)?;
    let size = source.object.size();
    let range = request.header(&header::COPY_SOURCE_RANGE)?.and_then(ByteRange::parse);
    // A range that does not fit copies the whole source, as a GET would send it.
    let (start, length) = match range.map(|range| range.resolve(size, false)) {
        Some(ResolvedRange::Partial { start, end_inclusive }) => (start, end_inclusive - start + 1),
        _ => (0, size),
    };
    let content = source.object.content.slice(start, length);
    let digests = Digests::of(&content, context.etag).await?;
    let part = Part {
        content,
        etag: digests.etag(),
        crc64: digests.crc64,
        last_modified: whole_seconds(std::time::SystemTime::now()),
    };
    let result = CopyPartResult { etag: part.etag.clone(), last_modified: part.last_modified };
    context.store.add_part(&bucket, &upload, number, part).await?;
    let mut response = xml(result.to_xml());
    *response.status_mut() = StatusCode::OK;
    set(&mut response, header::HASH_CRC64ECMA, digests.crc64.to_string());
    Ok(response)
}

/// Finds the source of a copy and checks the conditions on it.
fn source(context: &Context, request: &Request<'_>) -> Result<Source, ServiceError> {
    let text = request.header(&header::COPY_SOURCE)?.unwrap_or_default();
    let invalid = || ServiceError::invalid_argument(header::COPY_SOURCE.as_str(), text);
    let path = match text.split_once('?') {
        None => text,
        Some((path, query)) if !query.contains("versionId") => path,
        Some(_) => {
            return Err(
                ServiceError::new(ErrorCode::NotImplemented).with_message("The emulator does not implement versions.")
            );
        }
    };
    let decoded = canonical::decode(path.strip_prefix('/').unwrap_or(path)).map_err(|_| invalid())?;
    let (bucket, key) = decoded.split_once('/').ok_or_else(invalid)?;
    validate_bucket(bucket).map_err(|_| invalid())?;
    validate_key(key).map_err(|_| invalid())?;
    let object = context.bucket(bucket)?.object(key).ok_or_else(|| ServiceError::no_such_key(key))?;
    if attributes::is_archive(&object.storage_class) {
        return Err(ServiceError::new(ErrorCode::InvalidObjectState).with_field("Key", key));
    }
    ConditionHeaders::COPY_SOURCE.check(&request.headers, &object)?;
    Ok(Source { bucket: bucket.to_owned(), key: key.to_owned(), object })
}
