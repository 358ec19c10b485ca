//! Signing: a request's headers, or a URL.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::canonical::{SignedHeaders, canonical_request_of};
use super::{ALGORITHM, MAX_EXPIRES_SECONDS, SigningKey, parameter};
use crate::credentials::Credentials;
use crate::header;
use crate::sign::{RequestTarget, SignError, header_value};
use crate::time::format_oss_date;

/// Who signs, when and with what.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The access key; its secret is not used, the signing key is.
    pub credentials: &'a Credentials,
    /// The key derived from the secret for the day of `time` and the bucket's region.
    pub signing_key: &'a SigningKey,
    /// The time of the request.
    pub time: SystemTime,
    /// Names of headers to sign beside the default ones; those that the request lacks do not count.
    pub additional: &'a [&'a str],
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("credentials", self.credentials)
            .field("signing_key", self.signing_key)
            .field("time", &self.time)
            .field("additional", &self.additional)
            .finish()
    }
}

impl Signer<'_> {
    fn date_time(&self) -> Result<String, SignError> {
        let date_time = format_oss_date(self.time);
        if date_time.starts_with(self.signing_key.date()) {
            return Ok(date_time);
        }
        Err(SignError::StaleKey {
            key_date: self.signing_key.date().to_owned(),
            date: date_time.get(..8).unwrap_or(&date_time).to_owned(),
        })
    }
}

/// Adds `x-oss-date`, `x-oss-content-sha256`, `x-oss-security-token` and `Authorization` to `headers`.
///
/// An `x-oss-content-sha256` that is there already is kept. What an earlier signature added is replaced, so a retry
/// signs the same headers again. Since `Range` is not covered, one signature serves every range of an object until the
/// server's clock is too far ahead.
pub fn sign_headers(target: RequestTarget<'_>, headers: &mut HeaderMap, signer: &Signer<'_>) -> Result<(), SignError> {
    let date_time = signer.date_time()?;
    headers.insert(header::DATE, header_value("x-oss-date", &date_time)?);
    headers.entry(header::CONTENT_SHA256).or_insert(HeaderValue::from_static(header::UNSIGNED_PAYLOAD));
    match signer.credentials.security_token() {
        Some(token) => {
            let mut token = header_value("x-oss-security-token", token)?;
            token.set_sensitive(true);
            headers.insert(header::SECURITY_TOKEN, token);
        }
        None => {
            headers.remove(header::SECURITY_TOKEN);
        }
    }

    let authorization = {
        let covered = SignedHeaders::of(headers, signer.additional);
        let canonical_request = canonical_request_of(&target.with_headers(headers), &covered)?;
        let mut text = String::with_capacity(224);
        text.push_str(ALGORITHM);
        text.push_str(" Credential=");
        text.push_str(signer.credentials.access_key_id());
        text.push('/');
        text.push_str(signer.signing_key.scope());
        text.push(',');
        let field_start = text.len();
        text.push_str("AdditionalHeaders=");
        let list_start = text.len();
        covered.push_additional(&mut text);
        // An empty list is refused by the server, so the field goes where the list is empty.
        if text.len() == list_start {
            text.truncate(field_start);
        } else {
            text.push(',');
        }
        text.push_str("Signature=");
        signer.signing_key.push_signature(&mut text, &date_time, &canonical_request);
        text
    };
    let mut authorization = header_value("authorization", &authorization)?;
    authorization.set_sensitive(true);
    headers.insert(AUTHORIZATION, authorization);
    Ok(())
}

/// Returns the query parameters that make a URL of the target valid for `expires`, the signature last.
///
/// They are appended to `target.query`. Whoever uses the URL must send the signed ones of `headers` as they are here.
pub fn presign(
    target: RequestTarget<'_>,
    headers: &HeaderMap,
    signer: &Signer<'_>,
    expires: Duration,
) -> Result<Vec<(String, String)>, SignError> {
    let seconds = expires.as_secs();
    if !(1..=MAX_EXPIRES_SECONDS).contains(&seconds) {
        return Err(SignError::Expires { seconds, longest: MAX_EXPIRES_SECONDS });
    }
    let date_time = signer.date_time()?;
    let covered = SignedHeaders::of(headers, signer.additional);
    let mut additional = String::new();
    covered.push_additional(&mut additional);

    let credential = format!("{}/{}", signer.credentials.access_key_id(), signer.signing_key.scope());
    let mut added = vec![
        (parameter::VERSION.to_owned(), ALGORITHM.to_owned()),
        (parameter::DATE.to_owned(), date_time.clone()),
        (parameter::EXPIRES.to_owned(), seconds.to_string()),
        (parameter::CREDENTIAL.to_owned(), credential),
    ];
    if !additional.is_empty() {
        added.push((parameter::ADDITIONAL_HEADERS.to_owned(), additional));
    }
    if let Some(token) = signer.credentials.security_token() {
        added.push((parameter::SECURITY_TOKEN.to_owned(), token.to_owned()));
    }

    let query = [target.query, &added].concat();
    let parts = RequestTarget { query: &query, ..target }.with_headers(headers);
    let canonical_request = canonical_request_of(&parts, &covered)?;
    let mut signature = String::with_capacity(64);
    signer.signing_key.push_signature(&mut signature, &date_time, &canonical_request);
    added.push((parameter::SIGNATURE.to_owned(), signature));
    Ok(added)
}
