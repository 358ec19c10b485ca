//! Listing versions. Buckets keep none, so the current objects are listed, as the service does.

use oss_protocol::xml::versions::{ListVersionsResult, VersionEntry};

use super::Context;
use super::bucket::owner;
use super::list::{bounded, selection};
use super::page::{self, Selection};
use crate::request::Request;
use crate::response::{Response, ServiceError, xml};

pub(super) fn list(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let query = &request.query;
    let (prefix, delimiter, max_keys) = selection(query)?;
    let key_marker = bounded(query, "key-marker")?;
    let version_id_marker = bounded(query, "version-id-marker")?;
    let encoding_type = query.encoding_type()?;
    let page = page::objects(&bucket, Selection { prefix, delimiter, limit: max_keys as usize }, key_marker);
    let etags: Vec<String> = page.objects.iter().map(|(_, object)| object.etag()).collect();
    let result = ListVersionsResult {
        name: &bucket.name,
        prefix,
        key_marker,
        version_id_marker,
        max_keys,
        delimiter,
        encoding_type,
        next_key_marker: page.next.as_deref(),
        owner: &owner(),
        versions: page
            .objects
            .iter()
            .zip(&etags)
            .map(|((key, object), etag)| VersionEntry {
                key,
                size: object.size(),
                etag,
                last_modified: object.last_modified(),
                object_type: object.kind.as_str(),
                storage_class: object.storage_class.as_str(),
            })
            .collect(),
        common_prefixes: &page.prefixes,
    };
    Ok(xml(result.to_xml()))
}

/// The only version that an object has has this name.
const ONLY_VERSION: &str = "null";

/// Refuses a request for a version that does not exist.
pub(super) fn check(request: &Request<'_>) -> Result<(), ServiceError> {
    use oss_protocol::error_code::ErrorCode;
    match request.query.get("versionId") {
        None | Some(ONLY_VERSION) => Ok(()),
        Some(other) => Err(ServiceError::new(ErrorCode::NoSuchVersion)
            .with_field("Key", &request.key)
            .with_field("VersionId", other)),
    }
}
