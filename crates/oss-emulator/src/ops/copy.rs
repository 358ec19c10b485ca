//! Copying objects, whole or as parts. Bytes are shared between source and copy, never copied.

use http::{HeaderName, HeaderValue, StatusCode, header as standard};
use oss_protocol::canonical;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::range::{ByteRange, ResolvedRange};
use oss_protocol::uri::{validate_bucket, validate_key};
use oss_protocol::xml::Document;
use oss_protocol::xml::multipart::{CopyObjectResult, CopyPartResult};

use super::{Context, attributes, check_overwrite, multipart, restore, symlink};
use crate::condition::ConditionHeaders;
use crate::ingest::Digests;
use crate::request::Request;
use crate::response::{Response, ServiceError, set, xml};
use crate::rights;
use crate::store::{Headers, Object, Part, whole_seconds};

/// Largest object that one request copies: 1 GB, a limit of the service. Larger ones are copied in parts.
const LARGEST_COPY: u64 = 1024 * 1024 * 1024;

/// Begins the names of the headers that the SDKs keep the keys of encrypted objects in.
const CLIENT_SIDE_ENCRYPTION: &str = "x-oss-meta-client-side-encryption-";

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
    let replace = replaces(request, &header::METADATA_DIRECTIVE)?;
    let replace_tags = replaces(request, &header::TAGGING_DIRECTIVE)?;
    let sent = attributes::read(request, &bucket)?;
    let storage_class = sent.storage_class.unwrap_or(bucket.storage_class);
    // The access rule never comes along; headers do unless they are replaced. A copy onto itself would otherwise do nothing.
    let mut kept = sent;
    if replace {
        kept.headers = with_essentials(&kept.headers, &source.object.attributes.headers, request);
    }
    if !replace && !onto_itself {
        // How the copy is encrypted is said by its writer or its bucket, never by the source.
        let own = kept.headers.iter().filter(|(name, _)| attributes::ENCRYPTION.contains(name));
        let of_source = source.object.attributes.headers.iter();
        let of_source = of_source.filter(|(name, _)| !attributes::ENCRYPTION.contains(name));
        kept.headers = of_source.chain(own).cloned().collect();
    } else {
        // A copied link has the target of the link, whatever the request says about it.
        let target = |(name, _): &&(HeaderName, HeaderValue)| *name == header::SYMLINK_TARGET;
        kept.headers.extend(source.object.attributes.headers.iter().find(target).cloned());
    }
    if !replace_tags {
        kept.tags.clone_from(&source.object.attributes.tags);
    }
    let forbid = request.flag(&header::FORBID_OVERWRITE)?;
    let from = &source.object;
    let object =
        Object::new(from.content.clone(), &from.etag(), from.md5(), from.crc64, from.kind, kept, storage_class);
    let object = context
        .store
        .replace(&bucket, &request.key, move |before| {
            check_overwrite(forbid, before)?;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    let result = CopyObjectResult { etag: object.etag(), last_modified: object.last_modified() };
    let mut response = xml(result.to_xml());
    set(&mut response, standard::ETAG, object.etag());
    set(&mut response, header::HASH_CRC64ECMA, object.crc64.to_string());
    attributes::echo_encryption(&mut response, &object.attributes);
    Ok(response)
}

/// What a client must not lose by replacing metadata: the content type if it names none, and what it needs to decrypt.
fn with_essentials(sent: &Headers, source: &Headers, request: &Request<'_>) -> Headers {
    let names_type = request.headers.contains_key(standard::CONTENT_TYPE);
    let is_essential = |name: &HeaderName| {
        name.as_str().starts_with(CLIENT_SIDE_ENCRYPTION) || (!names_type && *name == standard::CONTENT_TYPE)
    };
    let replaced = |name: &HeaderName| source.iter().any(|(kept, _)| kept == name) && is_essential(name);
    let own = sent.iter().filter(|(name, _)| !replaced(name) || request.headers.contains_key(name));
    let kept = source.iter().filter(|(name, _)| is_essential(name) && !request.headers.contains_key(name));
    own.chain(kept).cloned().collect()
}

/// Whether a directive says to replace what the source has. Left out, it says to copy.
fn replaces(request: &Request<'_>, directive: &HeaderName) -> Result<bool, ServiceError> {
    match request.header(directive)? {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("COPY") => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("REPLACE") => Ok(true),
        Some(text) => Err(ServiceError::invalid_argument(directive.as_str(), text)),
    }
}

pub(super) async fn part(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let number = multipart::part_number(request)?;
    let upload = multipart::find_upload(&bucket, request)?;
    let mut source = source(context, request)?;
    // A whole copy of a link is a link; parts of an upload have content, which is the target's.
    if let Some(target) = symlink::target(&*context.bucket(&source.bucket)?, &source.object)? {
        restore::check_readable(&target, &source.key)?;
        source.object = target;
    }
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
    set(&mut response, standard::ETAG, digests.etag());
    set(&mut response, header::HASH_CRC64ECMA, digests.crc64.to_string());
    Ok(response)
}

/// Finds the source of a copy and checks the conditions on it.
fn source(context: &Context, request: &Request<'_>) -> Result<Source, ServiceError> {
    let text = request.header(&header::COPY_SOURCE)?.unwrap_or_default();
    let invalid = || ServiceError::invalid_argument(header::COPY_SOURCE.as_str(), text);
    let path = match text.split_once('?') {
        None => text,
        Some((path, query)) if !query.contains("versionId") || query == "versionId=null" => path,
        Some(_) => return Err(ServiceError::new(ErrorCode::NoSuchVersion)),
    };
    let decoded = canonical::decode(path.strip_prefix('/').unwrap_or(path)).map_err(|_| invalid())?;
    let (bucket, key) = decoded.split_once('/').ok_or_else(invalid)?;
    validate_bucket(bucket).map_err(|_| invalid())?;
    validate_key(key).map_err(|_| invalid())?;
    rights::check_object(context, request, "GetObject", bucket, key)?;
    let object = context.bucket(bucket)?.object(key).ok_or_else(|| ServiceError::no_such_key(key))?;
    restore::check_readable(&object, key)?;
    ConditionHeaders::COPY_SOURCE.check(&request.headers, &object)?;
    Ok(Source { bucket: bucket.to_owned(), key: key.to_owned(), object })
}
