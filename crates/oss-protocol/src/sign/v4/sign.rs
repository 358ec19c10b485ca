//! Signing: a request's headers, or a URL.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use super::canonical::{SignedHeaders, canonical_request_of, named};
use super::{ALGORITHM, MAX_EXPIRES_SECONDS, SigningKey, parameter};
use crate::credentials::Credentials;
use crate::header;
use crate::sign::{RequestTarget, SignError, header_value, sendable};
use crate::time::format_oss_date;

/// The signer, the time and the secret.
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

/// The headers that a signature adds to a request.
pub struct Added<'a> {
    date: String,
    content_sha256: Option<&'static str>,
    security_token: Option<&'a str>,
    authorization: String,
}

impl Added<'_> {
    /// Names and values, all of which can stand in a head as they are.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let authorization = ("authorization", self.authorization.as_str());
        signed(&self.date, self.content_sha256, self.security_token).chain([authorization])
    }
}

impl fmt::Debug for Added<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Added").field("date", &self.date).finish_non_exhaustive()
    }
}

/// Those of the added headers that the signature covers.
fn signed<'a>(
    date: &'a str,
    content_sha256: Option<&'a str>,
    security_token: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let date = [("x-oss-date", date)].into_iter();
    let content_sha256 = content_sha256.map(|hash| ("x-oss-content-sha256", hash));
    date.chain(content_sha256).chain(security_token.map(|token| ("x-oss-security-token", token)))
}

/// Returns `x-oss-date`, `x-oss-content-sha256`, `x-oss-security-token` and `Authorization` for a request that has
/// `headers` besides.
///
/// An `x-oss-content-sha256` that is there already is kept; the others take the place of those of an earlier signature.
/// Since `Range` is not covered, one signature serves every range of an object until the server's clock is too far ahead.
pub fn authorize<'a>(
    target: RequestTarget<'_>,
    headers: &HeaderMap,
    signer: &Signer<'a>,
) -> Result<Added<'a>, SignError> {
    let date = signer.date_time()?;
    let has_hash = headers.contains_key(header::CONTENT_SHA256);
    let content_sha256 = (!has_hash).then_some(header::UNSIGNED_PAYLOAD);
    let security_token = signer.credentials.security_token();
    let security_token = security_token.map(|token| sendable("x-oss-security-token", token)).transpose()?;

    let kept = named(headers).filter(|(name, _)| !matches!(*name, "x-oss-date" | "x-oss-security-token"));
    let added = signed(&date, content_sha256, security_token).map(|(name, value)| (name, value.as_bytes()));
    let covered = SignedHeaders::of(kept.chain(added), signer.additional);
    let canonical_request = canonical_request_of(target, &covered)?;

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
    // The server refuses an empty list, so the field is left out if the list is empty.
    if text.len() == list_start {
        text.truncate(field_start);
    } else {
        text.push(',');
    }
    text.push_str("Signature=");
    text.push_str(signer.signing_key.signature(&date, &canonical_request).as_str());
    sendable("authorization", &text)?;
    Ok(Added { date, content_sha256, security_token, authorization: text })
}

/// Adds what [`authorize`] returns to `headers`, so that a retry can sign the same headers again.
pub fn sign_headers(target: RequestTarget<'_>, headers: &mut HeaderMap, signer: &Signer<'_>) -> Result<(), SignError> {
    let added = authorize(target, headers, signer)?;
    headers.remove(header::SECURITY_TOKEN);
    for (name, value) in added.iter() {
        let mut value = header_value("authorization", value)?;
        value.set_sensitive(matches!(name, "authorization" | "x-oss-security-token"));
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

/// Returns the query parameters that make a URL of the target valid for `expires`, the signature last.
///
/// They are appended to `target.query`. The user of the URL must send the signed headers with the same values.
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
    let covered = SignedHeaders::of(named(headers), signer.additional);
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
    let canonical_request = canonical_request_of(RequestTarget { query: &query, ..target }, &covered)?;
    let signature = signer.signing_key.signature(&date_time, &canonical_request);
    added.push((parameter::SIGNATURE.to_owned(), signature.as_str().to_owned()));
    Ok(added)
}
