//! Checking signatures on the server's side.

use http::header::DATE;
use subtle::ConstantTimeEq;

use super::{parameter, signature, string_to_sign};
use crate::header;
use crate::sign::{SignatureVersion, SignedParts, Verifier, VerifyError, query_value, text_of};
use crate::time::{from_unix_seconds, parse_http_date, parse_oss_date};

/// A parsed `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The access key.
    pub access_key_id: String,
    /// The signature in base64.
    pub signature: String,
}

impl Authorization {
    /// Parses `OSS id:signature`.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        text.trim()
            .strip_prefix("OSS ")
            .and_then(|rest| rest.trim().rsplit_once(':'))
            .filter(|(id, signature)| !id.is_empty() && !signature.is_empty())
            .map(|(id, signature)| Self { access_key_id: id.to_owned(), signature: signature.to_owned() })
            .ok_or(VerifyError::Malformed { field: "the Authorization header" })
    }
}

/// The signature of a presigned URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presigned {
    /// The access key.
    pub access_key_id: String,
    /// When the URL stops being valid, in seconds since 1970.
    pub expires: u64,
    /// The signature in base64.
    pub signature: String,
}

impl Presigned {
    /// Returns the signature in a query, `None` if there is none of version 1.
    pub fn from_query(query: &[(String, String)]) -> Result<Option<Self>, VerifyError> {
        let access_key_id = query_value(query, parameter::ACCESS_KEY_ID);
        let signature = query_value(query, parameter::SIGNATURE);
        if access_key_id.is_none() && signature.is_none() {
            return Ok(None);
        }
        let require = |name, value: Option<&str>| {
            value.map(str::to_owned).ok_or(VerifyError::MissingParameter { name, version: SignatureVersion::V1 })
        };
        let access_key_id = require(parameter::ACCESS_KEY_ID, access_key_id)?;
        let signature = require(parameter::SIGNATURE, signature)?;
        let expires = require(parameter::EXPIRES, query_value(query, parameter::EXPIRES))?;
        // The number is signed as it is written, so only the plain decimal form can be checked.
        let seconds = expires.parse::<u64>().ok().filter(|seconds| seconds.to_string() == expires);
        let Some(expires) = seconds else {
            return Err(VerifyError::InvalidExpires { value: expires, version: SignatureVersion::V1 });
        };
        Ok(Some(Self { access_key_id, expires, signature }))
    }
}

/// Checks a request whose signature is in its `Authorization` header.
///
/// `x-oss-date` is the time that counts where both dates are sent. The Go SDK signs the text of `Date` even then, so
/// either text is accepted in the signature.
pub fn verify_headers(
    parts: &SignedParts<'_>,
    authorization: &Authorization,
    verifier: &Verifier<'_>,
) -> Result<(), VerifyError> {
    let oss_date = text_of(parts.headers, &header::DATE)?;
    let http_date = text_of(parts.headers, &DATE)?;
    let date = oss_date.or(http_date).ok_or(VerifyError::MissingDate)?;
    let time = parse_http_date(date)
        .or_else(|_| parse_oss_date(date))
        .map_err(|_| VerifyError::Malformed { field: "the date of the request" })?;
    verifier.check_skew(time)?;
    let result = check_signature(parts, date, &authorization.signature, verifier);
    match http_date {
        Some(other) if result.is_err() && other != date => {
            check_signature(parts, other, &authorization.signature, verifier).or(result)
        }
        _ => result,
    }
}

/// Checks a request whose signature is in its query.
pub fn verify_presigned(
    parts: &SignedParts<'_>,
    presigned: &Presigned,
    verifier: &Verifier<'_>,
) -> Result<(), VerifyError> {
    let end = from_unix_seconds(presigned.expires);
    if verifier.now > end {
        return Err(VerifyError::Expired { end, now: verifier.now });
    }
    check_signature(parts, &presigned.expires.to_string(), &presigned.signature, verifier)
}

fn check_signature(
    parts: &SignedParts<'_>,
    date: &str,
    provided: &str,
    verifier: &Verifier<'_>,
) -> Result<(), VerifyError> {
    let string_to_sign = string_to_sign(parts, date)?;
    let expected = signature(verifier.secret, &string_to_sign);
    if bool::from(expected.as_bytes().ct_eq(provided.as_bytes())) {
        return Ok(());
    }
    // Of a bucket in the path, OpenDAL signs `/bucket`, the path as it sends it.
    if let (Some(bucket), None) = (parts.bucket, parts.key)
        && let Some(start) = string_to_sign.rfind(&format!("\n/{bucket}/"))
    {
        let mut without_slash = string_to_sign.clone();
        without_slash.remove(start + bucket.len() + 2);
        let expected = signature(verifier.secret, &without_slash);
        if bool::from(expected.as_bytes().ct_eq(provided.as_bytes())) {
            return Ok(());
        }
    }
    Err(VerifyError::SignatureMismatch { string_to_sign, canonical_request: None })
}
