//! Conditions on an object's ETag and time, for reads and for the sources of copies.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::time::parse_http_date;

use crate::request::header_text;
use crate::response::ServiceError;
use crate::store::Object;

/// The four headers of one kind of condition.
#[derive(Debug)]
pub(crate) struct ConditionHeaders {
    if_match: HeaderName,
    if_none_match: HeaderName,
    if_modified_since: HeaderName,
    if_unmodified_since: HeaderName,
}

impl ConditionHeaders {
    /// For the object that is read.
    pub(crate) const READ: Self = Self {
        if_match: standard::IF_MATCH,
        if_none_match: standard::IF_NONE_MATCH,
        if_modified_since: standard::IF_MODIFIED_SINCE,
        if_unmodified_since: standard::IF_UNMODIFIED_SINCE,
    };

    /// For the object that is copied.
    pub(crate) const COPY_SOURCE: Self = Self {
        if_match: header::COPY_SOURCE_IF_MATCH,
        if_none_match: header::COPY_SOURCE_IF_NONE_MATCH,
        if_modified_since: header::COPY_SOURCE_IF_MODIFIED_SINCE,
        if_unmodified_since: header::COPY_SOURCE_IF_UNMODIFIED_SINCE,
    };

    /// Whether any of the headers is there.
    pub(crate) fn first_present(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        [&self.if_match, &self.if_none_match, &self.if_modified_since, &self.if_unmodified_since]
            .into_iter()
            .find(|name| headers.contains_key(*name))
    }

    /// Checks the conditions in the order of RFC 9110, in which an ETag wins over a time.
    pub(crate) fn check(&self, headers: &HeaderMap, object: &Object) -> Result<(), ServiceError> {
        if let Some(wanted) = header_text(headers, &self.if_match)? {
            if !matches_any(wanted, &object.etag()) {
                return Err(failed(&self.if_match));
            }
        } else if let Some(time) = date(headers, &self.if_unmodified_since)?
            && object.last_modified() > time
        {
            return Err(failed(&self.if_unmodified_since));
        }
        if let Some(unwanted) = header_text(headers, &self.if_none_match)? {
            if matches_any(unwanted, &object.etag()) {
                return Err(not_modified(object));
            }
        } else if let Some(time) = date(headers, &self.if_modified_since)?
            && object.last_modified() <= time
        {
            return Err(not_modified(object));
        }
        Ok(())
    }
}

/// A date that cannot be read is no condition, as RFC 9110 has it.
fn date(headers: &HeaderMap, name: &HeaderName) -> Result<Option<SystemTime>, ServiceError> {
    Ok(header_text(headers, name)?.and_then(|text| parse_http_date(text).ok()))
}

fn matches_any(list: &str, etag: &str) -> bool {
    let bare = |text: &str| text.trim().trim_matches('"').to_owned();
    let etag = bare(etag);
    list.trim() == "*" || list.split(',').any(|entry| bare(entry) == etag)
}

fn failed(name: &HeaderName) -> ServiceError {
    ServiceError::new(ErrorCode::PreconditionFailed).with_field("Condition", name.as_str())
}

fn not_modified(object: &Object) -> ServiceError {
    let mut error = ServiceError::new(ErrorCode::NotModified);
    if let Ok(etag) = http::HeaderValue::from_str(&object.etag()) {
        error = error.with_header(standard::ETAG, etag);
    }
    if let Ok(time) = http::HeaderValue::try_from(oss_protocol::time::format_http_date(object.last_modified())) {
        error = error.with_header(standard::LAST_MODIFIED, time);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_match_with_and_without_quotes() {
        assert!(matches_any("\"AB\"", "\"AB\""));
        assert!(matches_any("AB", "\"AB\""));
        assert!(matches_any("\"CD\", \"AB\"", "\"AB\""));
        assert!(matches_any("*", "\"AB\""));
        assert!(!matches_any("\"ab\"", "\"AB\""));
        assert!(!matches_any("", "\"AB\""));
    }
}
