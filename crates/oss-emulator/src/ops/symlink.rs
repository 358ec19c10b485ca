//! Symbolic links: objects without content that stand for another object of the same bucket.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header as standard};
use oss_protocol::canonical;
use oss_protocol::crc64::checksum;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::uri::validate_key;

use super::{Context, attributes, check_overwrite, object};
use crate::ingest::fast_etag;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set};
use crate::store::{Bucket, Content, Object, ObjectKind};

/// Makes a link. Whether its target exists is checked when the link is read, not here.
pub(super) async fn put(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let Some(target) = request.header(&header::SYMLINK_TARGET)?.filter(|target| !target.is_empty()) else {
        return Err(
            ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", header::SYMLINK_TARGET.as_str())
        );
    };
    let invalid = || ServiceError::invalid_argument(header::SYMLINK_TARGET.as_str(), target);
    let key = canonical::decode(target).map_err(|_| invalid())?;
    validate_key(&key).map_err(|_| invalid())?;
    let mut attributes = attributes::read(request, &bucket)?;
    attributes.headers.push((header::SYMLINK_TARGET, HeaderValue::from_str(target).map_err(|_| invalid())?));
    let forbid = request.flag(&header::FORBID_OVERWRITE)?;
    let storage_class = attributes.storage_class.unwrap_or(bucket.storage_class);
    let content = Content::new(Vec::new());
    let etag = fast_etag(checksum(key.as_bytes()), key.len() as u64);
    let object = Object::new(content, &etag, None, 0, ObjectKind::Symlink, attributes, storage_class);
    let object = context
        .store
        .replace(&bucket, &request.key, move |before| {
            check_overwrite(forbid, before)?;
            Ok::<_, ServiceError>(object)
        })
        .await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, standard::ETAG, object.etag());
    Ok(response)
}

/// Adds the target of a link to the answer.
pub(super) fn get(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = object::find(context, request)?;
    let Some(target) = target_header(&object) else {
        return Err(ServiceError::new(ErrorCode::NotSymlink).with_field("Key", &request.key));
    };
    let mut response = empty(StatusCode::OK);
    set(&mut response, header::SYMLINK_TARGET, target.clone());
    set(&mut response, standard::ETAG, object.etag());
    set(&mut response, standard::LAST_MODIFIED, oss_protocol::time::format_http_date(object.last_modified()));
    for (name, value) in &object.attributes.headers {
        if name.as_str().starts_with(header::META_PREFIX) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

/// The object that a link points to; `None` for an object that is no link.
pub(super) fn target(bucket: &Bucket, object: &Object) -> Result<Option<Arc<Object>>, ServiceError> {
    let Some(header) = target_header(object) else { return Ok(None) };
    let missing = |key: &str| ServiceError::new(ErrorCode::SymlinkTargetNotExist).with_field("TargetKey", key);
    let text = header.to_str().unwrap_or_default();
    let key = canonical::decode(text).map_err(|_| missing(text))?;
    let target = bucket.object(&key).ok_or_else(|| missing(&key))?;
    if target.kind == ObjectKind::Symlink {
        return Err(ServiceError::new(ErrorCode::InvalidTargetType).with_field("TargetKey", &*key));
    }
    Ok(Some(target))
}

/// The object that a reader sees through a link: the target's content with the link's description.
pub(super) fn seen_through(link: &Object, target: &Object) -> Object {
    let mut seen = target.clone();
    seen.modified_with(link);
    seen.kind = ObjectKind::Symlink;
    seen.storage_class = link.storage_class;
    seen.attributes.clone_from(&link.attributes);
    seen
}

/// The key that a link points to.
pub(super) fn target_key(link: &Object) -> Option<String> {
    let text = target_header(link)?.to_str().ok()?;
    canonical::decode(text).ok().map(std::borrow::Cow::into_owned)
}

fn target_header(object: &Object) -> Option<&HeaderValue> {
    object.attributes.headers.iter().find(|(name, _)| *name == header::SYMLINK_TARGET).map(|(_, value)| value)
}
