//! Why a signature could not be made, and why one was not accepted.

use std::time::SystemTime;

use super::SignatureVersion;
use crate::error_code::ErrorCode;

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A signed header holds bytes that are no UTF-8.
    #[error("the header {name} is not text and cannot be signed")]
    HeaderNotText {
        /// The header's name.
        name: String,
    },
    /// A value that the signature must put into a header holds characters that no header may have.
    #[error("the value for {name} cannot stand in a header; look for line breaks in the credentials")]
    NotAHeaderValue {
        /// The header's name.
        name: &'static str,
    },
    /// The validity of a presigned URL is out of range.
    #[error("a presigned URL cannot be valid for {seconds} seconds; use 1 to {longest}")]
    Expires {
        /// The whole seconds that were asked for.
        seconds: u64,
        /// The longest validity.
        longest: u64,
    },
    /// The signing key was derived for another day than that of the request.
    #[error("the signing key is for {key_date}, the request is of {date}; derive the key again")]
    StaleKey {
        /// The day of the key, `YYYYMMDD`.
        key_date: String,
        /// The day of the request, `YYYYMMDD`.
        date: String,
    },
}

/// Why a server does not accept a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A part of the signature has the wrong form.
    #[error("{field} is invalid")]
    Malformed {
        /// Which part.
        field: &'static str,
    },
    /// `AdditionalHeaders` is there but lists nothing.
    #[error("AdditionalHeaders must not be empty")]
    EmptyAdditionalHeaders,
    /// A presigned URL lacks a parameter.
    #[error("the parameter {name} is missing")]
    MissingParameter {
        /// The parameter's name.
        name: &'static str,
        /// The signature version of the URL.
        version: SignatureVersion,
    },
    /// A signature in the headers and another in the query.
    #[error("the request carries a signature in its headers and another in its query")]
    TwoSignatures,
    /// Neither `x-oss-date` nor `Date`.
    #[error("the request carries neither x-oss-date nor Date")]
    MissingDate,
    /// The request's time is too far from the server's.
    #[error("the difference between the request time and the current time is too large")]
    TooSkewed {
        /// The time that the request names.
        request: SystemTime,
        /// The server's time.
        now: SystemTime,
    },
    /// A presigned URL is past its time.
    #[error("Request has expired.")]
    Expired {
        /// When its validity ended.
        end: SystemTime,
        /// The server's time.
        now: SystemTime,
    },
    /// A presigned URL is dated in the future.
    #[error("the request is not valid yet")]
    NotYetValid {
        /// When its validity starts.
        start: SystemTime,
        /// The server's time.
        now: SystemTime,
    },
    /// The validity of a presigned URL is not a number in range.
    #[error("the validity of the URL must be a number of seconds from 1 to 604800")]
    InvalidExpires {
        /// The value as sent.
        value: String,
        /// The signature version of the URL.
        version: SignatureVersion,
    },
    /// The signature is for another region.
    #[error("the signature is for the region {found:?}, this is {expected:?}")]
    WrongRegion {
        /// The server's region.
        expected: String,
        /// The region in the credential.
        found: String,
    },
    /// The scope of the signature does not fit the request.
    #[error("the {field} of the signature's scope must be {expected:?}, not {found:?}")]
    WrongScope {
        /// Which part of the scope.
        field: &'static str,
        /// The required value.
        expected: String,
        /// The value in the request.
        found: String,
    },
    /// A signed header is not text.
    #[error(transparent)]
    Unreadable(#[from] SignError),
    /// Everything is in order but the signature.
    #[error("the signature does not match")]
    SignatureMismatch {
        /// The string that the server signed.
        string_to_sign: String,
        /// The canonical request that the server hashed; V4 only.
        canonical_request: Option<String>,
    },
}

impl VerifyError {
    /// The code that OSS answers with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed { .. }
            | Self::EmptyAdditionalHeaders
            | Self::TwoSignatures
            | Self::WrongRegion { .. }
            | Self::WrongScope { .. }
            | Self::Unreadable(_)
            | Self::MissingParameter { version: SignatureVersion::V4, .. }
            | Self::InvalidExpires { version: SignatureVersion::V4, .. } => ErrorCode::InvalidArgument,
            Self::MissingParameter { version: SignatureVersion::V1, .. }
            | Self::InvalidExpires { version: SignatureVersion::V1, .. }
            | Self::MissingDate
            | Self::Expired { .. }
            | Self::NotYetValid { .. } => ErrorCode::AccessDenied,
            Self::TooSkewed { .. } => ErrorCode::RequestTimeTooSkewed,
            Self::SignatureMismatch { .. } => ErrorCode::SignatureDoesNotMatch,
        }
    }

    /// The `EC` that OSS answers with, if it is known.
    ///
    /// <https://www.alibabacloud.com/help/en/oss/support/0002-00000232>
    pub fn ec(&self) -> Option<&'static str> {
        match self {
            Self::EmptyAdditionalHeaders => Some("0002-00000209"),
            Self::InvalidExpires { version: SignatureVersion::V1, .. } => Some("0002-00000070"),
            Self::InvalidExpires { version: SignatureVersion::V4, .. } => Some("0002-00000232"),
            Self::MissingParameter { name: "x-oss-expires", .. } => Some("0002-00000215"),
            Self::MissingDate => Some("0002-00000503"),
            Self::TooSkewed { .. } => ErrorCode::RequestTimeTooSkewed.ec(),
            Self::SignatureMismatch { .. } => ErrorCode::SignatureDoesNotMatch.ec(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_service() {
        let now = SystemTime::UNIX_EPOCH;
        for (error, code, ec) in [
            (VerifyError::MissingDate, "AccessDenied", Some("0002-00000503")),
            (VerifyError::TooSkewed { request: now, now }, "RequestTimeTooSkewed", Some("0002-00000504")),
            (VerifyError::Expired { end: now, now }, "AccessDenied", None),
            (VerifyError::TwoSignatures, "InvalidArgument", None),
            (VerifyError::EmptyAdditionalHeaders, "InvalidArgument", Some("0002-00000209")),
            (VerifyError::MissingParameter { name: "Expires", version: SignatureVersion::V1 }, "AccessDenied", None),
            (
                VerifyError::InvalidExpires { value: "0".to_owned(), version: SignatureVersion::V1 },
                "AccessDenied",
                Some("0002-00000070"),
            ),
            (
                VerifyError::InvalidExpires { value: "0".to_owned(), version: SignatureVersion::V4 },
                "InvalidArgument",
                Some("0002-00000232"),
            ),
            (
                VerifyError::SignatureMismatch { string_to_sign: String::new(), canonical_request: None },
                "SignatureDoesNotMatch",
                Some("0002-00000040"),
            ),
        ] {
            assert_eq!((error.code().as_str(), error.ec()), (code, ec), "{error:?}");
        }
        assert_eq!(VerifyError::Expired { end: now, now }.to_string(), "Request has expired.");
    }
}
