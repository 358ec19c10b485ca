//! Listing objects, in both versions of the call.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oss_protocol::xml::list::{Contents, ListObjectsResult, ListObjectsV2Result, ObjectEntry};

use super::Context;
use super::bucket::owner;
use super::page::{self, Selection};
use super::restore;
use crate::request::{Query, Request};
use crate::response::{Response, ServiceError, xml};
use crate::store::{EtagDigits, Object};

/// Entries of a page when the client does not say.
const DEFAULT_KEYS: u32 = 100;

/// Most entries of a page.
const MOST_KEYS: u32 = 1000;

/// Prefixes, delimiters and markers are shorter than this.
const TEXT_LIMIT: usize = 1024;

pub(super) fn objects(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let query = &request.query;
    let (prefix, delimiter, max_keys) = selection(query)?;
    let marker = bounded(query, "marker")?;
    let encoding_type = query.encoding_type()?;
    let selection = Selection { prefix, delimiter, limit: max_keys as usize };
    let page = page::objects(&bucket, selection, marker);
    let result = ListObjectsResult {
        name: bucket.name.clone(),
        prefix: prefix.to_owned(),
        marker: marker.to_owned(),
        max_keys,
        delimiter: optional(delimiter),
        encoding_type,
        is_truncated: page.next.is_some(),
        contents: Vec::new(),
        next_marker: page.next,
        common_prefixes: page.prefixes,
    };
    Ok(xml(result.to_xml_with(|contents| write_objects(contents, &page.objects, true))))
}

pub(super) fn objects_v2(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let query = &request.query;
    let (prefix, delimiter, max_keys) = selection(query)?;
    let start_after = bounded(query, "start-after")?;
    let encoding_type = query.encoding_type()?;
    let token = query.text("continuation-token");
    let after = match token {
        None => start_after.to_owned(),
        Some(token) => {
            decode_token(token).ok_or_else(|| ServiceError::invalid_argument("continuation-token", token))?
        }
    };
    let fetch_owner = match query.text("fetch-owner") {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        Some(text) => return Err(ServiceError::invalid_argument("fetch-owner", text)),
    };
    let selection = Selection { prefix, delimiter, limit: max_keys as usize };
    let page = page::objects(&bucket, selection, &after);
    let result = ListObjectsV2Result {
        name: bucket.name.clone(),
        prefix: prefix.to_owned(),
        start_after: optional(start_after),
        continuation_token: token.map(str::to_owned),
        max_keys,
        delimiter: optional(delimiter),
        encoding_type,
        is_truncated: page.next.is_some(),
        next_continuation_token: page.next.as_deref().map(encode_token),
        key_count: (page.objects.len() + page.prefixes.len()) as u32,
        contents: Vec::new(),
        common_prefixes: page.prefixes,
    };
    Ok(xml(result.to_xml_with(|contents| write_objects(contents, &page.objects, fetch_owner))))
}

pub(super) fn selection(query: &Query) -> Result<(&str, &str, u32), ServiceError> {
    let max_keys = query.number("max-keys", DEFAULT_KEYS, 1, MOST_KEYS)?;
    Ok((bounded(query, "prefix")?, bounded(query, "delimiter")?, max_keys))
}

/// A text parameter of a listing; empty when not given.
pub(super) fn bounded<'q>(query: &'q Query, name: &str) -> Result<&'q str, ServiceError> {
    let text = query.get(name).unwrap_or_default();
    if text.len() >= TEXT_LIMIT {
        return Err(ServiceError::invalid_argument(name, text));
    }
    Ok(text)
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn write_objects(contents: &mut Contents<'_>, objects: &[(Arc<str>, Arc<Object>)], with_owner: bool) {
    contents.reserve(objects.len(), objects.iter().map(|(key, _)| key.len()).sum());
    let owner = with_owner.then(owner);
    for (key, object) in objects {
        contents.push(&ObjectEntry {
            key,
            size: object.size(),
            etag: object.etag.text(&mut EtagDigits::default()),
            last_modified: object.last_modified(),
            object_type: object.kind.as_str(),
            storage_class: object.storage_class.as_str(),
            owner: owner.as_ref(),
            restore_info: restore::progress(object).as_deref(),
        });
    }
}

/// First byte of a token: no UTF-8 text starts with it, so a key passed as a token by mistake is refused.
const TOKEN_MARK: u8 = 0xFE;

/// Makes a token of the last entry of a page. It is opaque so that no client comes to rely on what is in it.
fn encode_token(last: &str) -> String {
    let mut bytes = vec![TOKEN_MARK];
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_token(token: &str) -> Option<String> {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    if bytes.first() != Some(&TOKEN_MARK) {
        return None;
    }
    bytes.remove(0);
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_others_are_refused() {
        for key in ["a", "a b/+?&%", "数据/\u{10FFFF}"] {
            let token = encode_token(key);
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')), "{token}");
            assert_eq!(decode_token(&token).as_deref(), Some(key));
        }
        assert_eq!(decode_token("a/b.png"), None);
        assert_eq!(decode_token(&URL_SAFE_NO_PAD.encode("key")), None);
        assert_eq!(decode_token(""), None);
    }
}
