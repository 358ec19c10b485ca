//! Signing: a request's headers, or a URL.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};

use super::{parameter, signature, string_to_sign};
use crate::credentials::Credentials;
use crate::header;
use crate::sign::{RequestTarget, SignError, header_value, text_of};
use crate::time::{format_http_date, unix_seconds};

/// Adds `Date`, `x-oss-security-token` and `Authorization` to `headers`.
///
/// An `x-oss-date` that is there already is the date that counts, as the server sees it.
pub fn sign_headers(
    target: RequestTarget<'_>,
    headers: &mut HeaderMap,
    credentials: &Credentials,
    time: SystemTime,
) -> Result<(), SignError> {
    headers.insert(DATE, header_value("date", &format_http_date(time))?);
    match credentials.security_token() {
        Some(token) => {
            let mut token = header_value("x-oss-security-token", token)?;
            token.set_sensitive(true);
            headers.insert(header::SECURITY_TOKEN, token);
        }
        None => {
            headers.remove(header::SECURITY_TOKEN);
        }
    }
    let date = match text_of(headers, &header::DATE)? {
        Some(date) => date,
        None => text_of(headers, &DATE)?.unwrap_or(""),
    };
    let text = string_to_sign(&target.with_headers(headers), date)?;
    let signature = signature(credentials.access_key_secret(), &text);
    let authorization = format!("OSS {}:{signature}", credentials.access_key_id());
    let mut authorization = header_value("authorization", &authorization)?;
    authorization.set_sensitive(true);
    headers.insert(AUTHORIZATION, authorization);
    Ok(())
}

/// Returns the query parameters that make a URL of the target valid until `expires` after `time`.
///
/// They are appended to `target.query`. The user of the URL must send the signed headers with the same values.
pub fn presign(
    target: RequestTarget<'_>,
    headers: &HeaderMap,
    credentials: &Credentials,
    time: SystemTime,
    expires: Duration,
) -> Result<Vec<(String, String)>, SignError> {
    let seconds = expires.as_secs();
    // The field is a point in time of up to 19 digits; a century is beyond any use and keeps the sum in range.
    let longest = 100 * 366 * 86_400;
    if !(1..=longest).contains(&seconds) {
        return Err(SignError::Expires { seconds, longest });
    }
    let end = (unix_seconds(time) + seconds).to_string();
    let mut query = target.query.to_vec();
    let mut added = Vec::with_capacity(4);
    if let Some(token) = credentials.security_token() {
        added.push((parameter::SECURITY_TOKEN.to_owned(), token.to_owned()));
        query.extend_from_slice(&added);
    }
    let parts = RequestTarget { query: &query, ..target }.with_headers(headers);
    let text = string_to_sign(&parts, &end)?;
    added.push((parameter::ACCESS_KEY_ID.to_owned(), credentials.access_key_id().to_owned()));
    added.push((parameter::EXPIRES.to_owned(), end));
    added.push((parameter::SIGNATURE.to_owned(), signature(credentials.access_key_secret(), &text)));
    Ok(added)
}
