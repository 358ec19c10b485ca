//! Checking signatures on the server's side.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;
use subtle::ConstantTimeEq;

use super::canonical::{SignedHeaders, canonical_request_of, named};
use super::{ALGORITHM, MAX_EXPIRES_SECONDS, PRODUCT, SigningKey, TERMINATOR, parameter, string_to_sign};
use crate::header;
use crate::sign::{MAX_CLOCK_SKEW, SignatureVersion, SignedParts, Verifier, VerifyError, query_value, text_of};
use crate::time::{format_oss_date, parse_http_date, parse_oss_date};

/// A parsed `Authorization` header, or the same facts from a presigned URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The access key.
    pub access_key_id: String,
    /// The day of the scope, `YYYYMMDD`.
    pub date: String,
    /// The region of the scope.
    pub region: String,
    /// The product of the scope, `oss`.
    pub product: String,
    /// Headers signed beside the default ones, in lower case.
    pub additional_headers: Vec<String>,
    /// The signature in hexadecimal.
    pub signature: String,
}

impl Authorization {
    /// Parses the value of an `Authorization` header: fields in any order, with or without spaces after the commas.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        let malformed = VerifyError::Malformed { field: "the Authorization header" };
        let fields = text
            .trim()
            .strip_prefix(ALGORITHM)
            .filter(|rest| rest.starts_with(' '))
            .ok_or_else(|| malformed.clone())?;
        let (mut credential, mut additional, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(|| malformed.clone())?;
            let slot = match name {
                "Credential" => &mut credential,
                "AdditionalHeaders" => &mut additional,
                "Signature" => &mut signature,
                _ => return Err(malformed),
            };
            if slot.replace(value).is_some() {
                return Err(malformed);
            }
        }
        let (Some(credential), Some(signature)) = (credential, signature) else {
            return Err(malformed);
        };
        Self::assemble(credential, additional, signature)
    }

    fn assemble(credential: &str, additional: Option<&str>, signature: &str) -> Result<Self, VerifyError> {
        let malformed = || VerifyError::Malformed { field: "the credential of the signature" };
        let mut parts = credential.rsplitn(5, '/');
        let mut next = || parts.next().ok_or_else(malformed);
        let (terminator, product, region, date, access_key_id) = (next()?, next()?, next()?, next()?, next()?);
        // A region that is empty is a wrong one: oss2 signs so if nobody names one.
        if product.is_empty() || access_key_id.is_empty() {
            return Err(malformed());
        }
        if terminator != TERMINATOR || date.len() != 8 {
            return Err(malformed());
        }
        let additional_headers: Vec<String> = additional
            .unwrap_or("")
            .split(';')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        if additional.is_some() && additional_headers.is_empty() {
            return Err(VerifyError::EmptyAdditionalHeaders);
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            product: product.to_owned(),
            additional_headers,
            signature: signature.to_owned(),
        })
    }
}

/// The signature of a presigned URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presigned {
    /// The signer, the signed parts and the signature.
    pub authorization: Authorization,
    /// When the URL starts to be valid.
    pub time: SystemTime,
    /// For how long it is valid.
    pub expires: Duration,
}

impl Presigned {
    /// Returns the signature in a query, `None` if there is none of version 4.
    pub fn from_query(query: &[(String, String)]) -> Result<Option<Self>, VerifyError> {
        let Some(version) = query_value(query, parameter::VERSION) else {
            return Ok(None);
        };
        if version != ALGORITHM {
            return Err(VerifyError::Malformed { field: parameter::VERSION });
        }
        let require = |name| {
            query_value(query, name).ok_or(VerifyError::MissingParameter { name, version: SignatureVersion::V4 })
        };
        let authorization = Authorization::assemble(
            require(parameter::CREDENTIAL)?,
            query_value(query, parameter::ADDITIONAL_HEADERS),
            require(parameter::SIGNATURE)?,
        )?;
        let time =
            parse_oss_date(require(parameter::DATE)?).map_err(|_| VerifyError::Malformed { field: parameter::DATE })?;
        let expires = require(parameter::EXPIRES)?;
        let seconds =
            expires.parse().ok().filter(|seconds| (1..=MAX_EXPIRES_SECONDS).contains(seconds)).ok_or_else(|| {
                VerifyError::InvalidExpires { value: expires.to_owned(), version: SignatureVersion::V4 }
            })?;
        Ok(Some(Self { authorization, time, expires: Duration::from_secs(seconds) }))
    }
}

/// Checks a request whose signature is in its `Authorization` header.
pub fn verify_headers(
    parts: &SignedParts<'_>,
    authorization: &Authorization,
    verifier: &Verifier<'_>,
) -> Result<(), VerifyError> {
    let time = request_time(parts.headers)?;
    verifier.check_skew(time)?;
    check_scope(authorization, time, verifier)?;
    check_signature(parts, authorization, time, verifier)
}

/// Checks a request whose signature is in its query. `parts.query` is the whole query, signature included.
pub fn verify_presigned(
    parts: &SignedParts<'_>,
    presigned: &Presigned,
    verifier: &Verifier<'_>,
) -> Result<(), VerifyError> {
    let (start, now) = (presigned.time, verifier.now);
    if start.duration_since(now).is_ok_and(|ahead| ahead > MAX_CLOCK_SKEW) {
        return Err(VerifyError::NotYetValid { start, now });
    }
    let end = start + presigned.expires;
    if now > end {
        return Err(VerifyError::Expired { end, now });
    }
    check_scope(&presigned.authorization, start, verifier)?;
    let query: Vec<(String, String)> =
        parts.query.iter().filter(|(name, _)| name != parameter::SIGNATURE).cloned().collect();
    let parts = SignedParts { query: &query, ..*parts };
    check_signature(&parts, &presigned.authorization, start, verifier)
}

/// `x-oss-date` wins over `Date`, which proxies and HTTP libraries may set on their own.
fn request_time(headers: &HeaderMap) -> Result<SystemTime, VerifyError> {
    if let Some(text) = text_of(headers, &header::DATE)? {
        return parse_oss_date(text).map_err(|_| VerifyError::Malformed { field: "x-oss-date" });
    }
    match text_of(headers, &DATE)? {
        Some(text) => parse_http_date(text).map_err(|_| VerifyError::Malformed { field: "Date" }),
        None => Err(VerifyError::MissingDate),
    }
}

fn check_scope(authorization: &Authorization, time: SystemTime, verifier: &Verifier<'_>) -> Result<(), VerifyError> {
    let wrong = |field, expected: &str, found: &str| {
        Err(VerifyError::WrongScope { field, expected: expected.to_owned(), found: found.to_owned() })
    };
    if authorization.product != PRODUCT {
        return wrong("product", PRODUCT, &authorization.product);
    }
    let date_time = format_oss_date(time);
    if !date_time.starts_with(&authorization.date) {
        return wrong("date", date_time.get(..8).unwrap_or(&date_time), &authorization.date);
    }
    match verifier.region {
        Some(expected) if expected != authorization.region => {
            Err(VerifyError::WrongRegion { expected: expected.to_owned(), found: authorization.region.clone() })
        }
        _ => Ok(()),
    }
}

fn check_signature(
    parts: &SignedParts<'_>,
    authorization: &Authorization,
    time: SystemTime,
    verifier: &Verifier<'_>,
) -> Result<(), VerifyError> {
    let additional: Vec<&str> = authorization.additional_headers.iter().map(String::as_str).collect();
    let signed = SignedHeaders::of(named(parts.headers), &additional);
    let canonical_request = canonical_request_of(parts.target(), &signed)?;
    let date_time = format_oss_date(time);
    let derived;
    let key = match verifier.signing_key {
        Some(key) if key.date() == authorization.date && key.region() == authorization.region => key,
        _ => {
            derived = SigningKey::derive(verifier.secret, &authorization.date, &authorization.region);
            &derived
        }
    };
    let expected = key.signature(&date_time, &canonical_request);
    if bool::from(expected.as_str().as_bytes().ct_eq(authorization.signature.as_bytes())) {
        return Ok(());
    }
    // Of a bucket in the path, OpenDAL signs `/bucket`, the path as it sends it.
    if let (Some(bucket), None) = (parts.bucket, parts.key) {
        let without_slash = canonical_request.replacen(&format!("\n/{bucket}/\n"), &format!("\n/{bucket}\n"), 1);
        let expected = key.signature(&date_time, &without_slash);
        if bool::from(expected.as_str().as_bytes().ct_eq(authorization.signature.as_bytes())) {
            return Ok(());
        }
    }
    Err(VerifyError::SignatureMismatch {
        string_to_sign: string_to_sign(&date_time, key.scope(), &canonical_request),
        canonical_request: Some(canonical_request),
    })
}
