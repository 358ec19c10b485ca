//! Finding the signature that a request carries.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{SignatureVersion, SignedParts, Verifier, VerifyError, query_value, v1, v4};
use crate::header;

/// The signature that a request carries, in one of four places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Version 1 in the `Authorization` header.
    HeaderV1(v1::Authorization),
    /// Version 4 in the `Authorization` header.
    HeaderV4(v4::Authorization),
    /// Version 1 in the query.
    QueryV1(v1::Presigned),
    /// Version 4 in the query.
    QueryV4(v4::Presigned),
}

impl Presented {
    /// Returns the signature of a request, `None` for an anonymous one.
    pub fn find(headers: &HeaderMap, query: &[(String, String)]) -> Result<Option<Self>, VerifyError> {
        let in_query = match v4::Presigned::from_query(query)? {
            Some(presigned) => Some(Self::QueryV4(presigned)),
            None => v1::Presigned::from_query(query)?.map(Self::QueryV1),
        };
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Ok(in_query);
        };
        if in_query.is_some() {
            return Err(VerifyError::TwoSignatures);
        }
        let text = value.to_str().map_err(|_| VerifyError::Malformed { field: "the Authorization header" })?.trim();
        if text.starts_with(v4::ALGORITHM) {
            v4::Authorization::parse(text).map(|authorization| Some(Self::HeaderV4(authorization)))
        } else {
            v1::Authorization::parse(text).map(|authorization| Some(Self::HeaderV1(authorization)))
        }
    }

    /// The access key that the request claims.
    pub fn access_key_id(&self) -> &str {
        match self {
            Self::HeaderV1(authorization) => &authorization.access_key_id,
            Self::HeaderV4(authorization) => &authorization.access_key_id,
            Self::QueryV1(presigned) => &presigned.access_key_id,
            Self::QueryV4(presigned) => &presigned.authorization.access_key_id,
        }
    }

    /// The version of the signature.
    pub fn version(&self) -> SignatureVersion {
        match self {
            Self::HeaderV1(_) | Self::QueryV1(_) => SignatureVersion::V1,
            Self::HeaderV4(_) | Self::QueryV4(_) => SignatureVersion::V4,
        }
    }

    /// The day, `YYYYMMDD`, and the region that a V4 signature is for.
    pub fn day_and_region(&self) -> Option<(&str, &str)> {
        match self {
            Self::HeaderV4(authorization) | Self::QueryV4(v4::Presigned { authorization, .. }) => {
                Some((&authorization.date, &authorization.region))
            }
            Self::HeaderV1(_) | Self::QueryV1(_) => None,
        }
    }

    /// The signature as sent.
    pub fn signature(&self) -> &str {
        match self {
            Self::HeaderV1(authorization) => &authorization.signature,
            Self::HeaderV4(authorization) => &authorization.signature,
            Self::QueryV1(presigned) => &presigned.signature,
            Self::QueryV4(presigned) => &presigned.authorization.signature,
        }
    }

    /// The STS token that came along, from the place that belongs to the kind of signature.
    pub fn security_token<'a>(&self, parts: &SignedParts<'a>) -> Option<&'a str> {
        match self {
            Self::QueryV1(_) => query_value(parts.query, header::SECURITY_TOKEN_UNSIGNED.as_str()),
            Self::QueryV4(_) => query_value(parts.query, header::SECURITY_TOKEN.as_str()),
            Self::HeaderV1(_) | Self::HeaderV4(_) => parts
                .headers
                .get(header::SECURITY_TOKEN)
                .or_else(|| parts.headers.get(header::SECURITY_TOKEN_UNSIGNED))
                .and_then(|value| value.to_str().ok()),
        }
    }

    /// Checks time, scope and signature.
    pub fn verify(&self, parts: &SignedParts<'_>, verifier: &Verifier<'_>) -> Result<(), VerifyError> {
        match self {
            Self::HeaderV1(authorization) => v1::verify_headers(parts, authorization, verifier),
            Self::HeaderV4(authorization) => v4::verify_headers(parts, authorization, verifier),
            Self::QueryV1(presigned) => v1::verify_presigned(parts, presigned, verifier),
            Self::QueryV4(presigned) => v4::verify_presigned(parts, presigned, verifier),
        }
    }
}
