//! The canonical request: one text that client and server derive from the same request.

use std::borrow::Cow;

use http::HeaderMap;

use crate::canonical::{encode_path, encode_query};
use crate::header;
use crate::sign::{RequestTarget, SignError, SignedParts, header_text, push_header_lines};

/// Returns the canonical request. `additional` names headers that are signed beside the default ones.
///
/// Every query parameter is part of it; a server that checks a presigned URL leaves `x-oss-signature` out of `parts`.
pub fn canonical_request(parts: &SignedParts<'_>, additional: &[&str]) -> Result<String, SignError> {
    canonical_request_of(parts.target(), &SignedHeaders::of(named(parts.headers), additional))
}

pub(super) fn canonical_request_of(target: RequestTarget<'_>, signed: &SignedHeaders<'_>) -> Result<String, SignError> {
    // Room for a usual GET with a long key, so that one allocation suffices.
    let key_length = target.key.map_or(0, str::len);
    let mut out = String::with_capacity(384 + 2 * key_length);
    out.push_str(target.method.as_str());
    out.push('\n');
    push_path(&mut out, target.bucket, target.key);
    out.push('\n');
    push_query(&mut out, target.query);
    out.push('\n');
    push_header_lines(&mut out, &signed.0)?;
    out.push('\n');
    signed.push_additional(&mut out);
    out.push('\n');
    let name = "x-oss-content-sha256";
    let payload = signed.0.iter().find(|(found, _)| *found == name).map(|(_, value)| header_text(name, value));
    out.push_str(payload.transpose()?.unwrap_or(header::UNSIGNED_PAYLOAD));
    Ok(out)
}

/// The headers that a signature covers, sorted by name.
pub(super) struct SignedHeaders<'a>(Vec<(&'a str, &'a [u8])>);

/// Names and values of a map.
pub(super) fn named(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

impl<'a> SignedHeaders<'a> {
    pub(super) fn of(headers: impl Iterator<Item = (&'a str, &'a [u8])>, additional: &[&str]) -> Self {
        // A usual GET has three.
        let mut signed = Vec::with_capacity(4);
        signed.extend(headers.filter(|(name, _)| {
            is_signed_by_default(name) || additional.iter().any(|listed| listed.eq_ignore_ascii_case(name))
        }));
        // A stable sort keeps several values of one name in the order in which they were sent.
        signed.sort_by_key(|(name, _)| *name);
        Self(signed)
    }

    /// Appends the names of the additional headers. Those that are signed anyway or are absent do not count, so they
    /// are exactly the signed headers that are not signed by default.
    pub(super) fn push_additional(&self, out: &mut String) {
        let start = out.len();
        let mut previous = "";
        for (name, _) in &self.0 {
            if *name == previous || is_signed_by_default(name) {
                continue;
            }
            if out.len() > start {
                out.push(';');
            }
            out.push_str(name);
            previous = name;
        }
    }
}

fn is_signed_by_default(name: &str) -> bool {
    name.starts_with(header::PREFIX) || name == "content-type" || name == "content-md5"
}

fn push_path(out: &mut String, bucket: Option<&str>, key: Option<&str>) {
    out.push('/');
    if let Some(bucket) = bucket {
        out.push_str(bucket);
        out.push('/');
        if let Some(key) = key {
            out.push_str(&encode_path(key));
        }
    }
}

fn push_query(out: &mut String, query: &[(String, String)]) {
    let mut encoded: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        query.iter().map(|(name, value)| (encode_query(name), encode_query(value))).collect();
    encoded.sort_unstable();
    for (at, (name, value)) in encoded.iter().enumerate() {
        if at > 0 {
            out.push('&');
        }
        out.push_str(name);
        if !value.is_empty() {
            out.push('=');
            out.push_str(value);
        }
    }
}
