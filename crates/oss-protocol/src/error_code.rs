//! The codes of OSS errors, with the status, message and `EC` they usually come with.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

macro_rules! codes {
    ($($variant:ident = $status:literal, $ec:expr, $message:literal;)*) => {
        /// The `Code` of an error body.
        ///
        /// <https://www.alibabacloud.com/help/en/oss/support/http-status-code-2>
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $message] $variant,)*
            /// A code that this list does not have.
            Other(Cow<'static, str>),
        }

        impl ErrorCode {
            /// Every code that has a name here.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it stands in a body.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                    Self::Other(code) => code,
                }
            }

            /// The status that usually comes with the code; 400 for a code without a name here.
            pub fn status(&self) -> StatusCode {
                let status = match self {
                    $(Self::$variant => $status,)*
                    Self::Other(code) if code.ends_with("QpsLimitExceeded") => 503,
                    Self::Other(_) => 400,
                };
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST)
            }

            /// The `EC` that usually comes with the code, if it is known.
            pub fn ec(&self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => $ec,)*
                    Self::Other(_) => None,
                }
            }

            /// The message that usually comes with the code; empty for a code without a name here.
            pub fn message(&self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                    Self::Other(_) => "",
                }
            }
        }

        impl From<&str> for ErrorCode {
            fn from(code: &str) -> Self {
                match code {
                    $(stringify!($variant) => Self::$variant,)*
                    other => Self::Other(Cow::Owned(other.to_owned())),
                }
            }
        }
    };
}

codes! {
    NotModified = 304, None, "The object has not been modified.";

    BadRequest = 400, None, "The request is malformed.";
    EntityTooLarge = 400, None, "Your proposed upload exceeds the maximum allowed size.";
    EntityTooSmall = 400, None, "Your proposed upload is smaller than the minimum allowed size.";
    FilePartNotExist = 400, None, "One of the parts does not exist.";
    IncompleteBody = 400, None, "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    InvalidArgument = 400, None, "An argument is invalid.";
    InvalidBucketName = 400, None, "The specified bucket is not valid.";
    InvalidCRC64 = 400, None, "The CRC64 you specified did not match what was received.";
    InvalidDigest = 400, None, "The Content-MD5 you specified did not match what was received.";
    InvalidEncryptionAlgorithmError = 400, None, "The encryption algorithm is not valid.";
    InvalidObjectName = 400, None, "The specified object is not valid.";
    InvalidPolicyDocument = 400, None, "The policy is not valid.";
    InvalidPart = 400, None, "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.";
    InvalidPartOrder = 400, None, "The list of parts was not in ascending order.";
    InvalidRequest = 400, None, "The request is not valid.";
    InvalidTag = 400, None, "A tag is invalid.";
    InvalidTargetType = 400, None, "The target of the symbolic link is a symbolic link.";
    MalformedXML = 400, Some("0031-00000001"), "The XML you provided was not well-formed or did not validate against our published schema.";
    MissingArgument = 400, Some("0016-00000502"), "A required argument is missing.";
    NotImplemented = 400, None, "A header you provided implies functionality that is not implemented.";
    NotSymlink = 400, None, "The object is not a symbolic link.";
    OperationNotSupported = 400, None, "The operation is not supported for this resource.";
    PartNotSequential = 400, None, "The part number is not sequential.";
    RequestTimeout = 400, None, "Your socket connection to the server was not read from or written to within the timeout period.";
    TooManyBuckets = 400, None, "You have attempted to create more buckets than allowed.";

    AccessDenied = 403, Some("0003-00000001"), "You have no right to access this object.";
    AccessForbidden = 403, None, "The request from another origin is not allowed.";
    AccessKeyIdAndSecurityTokenNotMatch = 403, None, "The access key and the security token do not match.";
    BucketDisable = 403, None, "The bucket is disabled.";
    InvalidAccessKeyId = 403, Some("0002-00000040"), "The OSS Access Key Id you provided does not exist in our records.";
    InvalidObjectState = 403, None, "The operation is not valid for the object's state.";
    InvalidSecurityToken = 403, None, "The security token you provided is invalid.";
    KmsServiceNotEnabled = 403, None, "The key management service is not enabled.";
    PermanentRedirect = 403, None, "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.";
    QuotaExceeded = 403, None, "The bucket may hold no more bytes.";
    RequestTimeTooSkewed = 403, Some("0002-00000504"), "The difference between the request time and the current time is too large.";
    SecondLevelDomainForbidden = 403, None, "Please use virtual hosted style to access.";
    SecurityTokenExpired = 403, None, "The security token you provided has expired.";
    SecurityTokenNotSupported = 403, None, "The operation does not support a security token.";
    SignatureDoesNotMatch = 403, Some("0002-00000040"), "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    TransferAccelerationDisabled = 403, None, "Transfer acceleration is disabled for this bucket.";
    UserDisable = 403, Some("0003-00000801"), "The account is disabled.";

    NoSuchBucket = 404, Some("0015-00000101"), "The specified bucket does not exist.";
    NoSuchBucketPolicy = 404, None, "The bucket has no policy.";
    NoSuchCORSConfiguration = 404, None, "The CORS configuration does not exist.";
    NoSuchInventory = 404, None, "The specified inventory does not exist.";
    NoSuchKey = 404, Some("0026-00000001"), "The specified key does not exist.";
    NoSuchLifecycle = 404, None, "The bucket has no lifecycle configuration.";
    NoSuchRegion = 404, None, "The region does not exist.";
    NoSuchReplicationConfiguration = 404, None, "The bucket has no replication configuration.";
    NoSuchServerSideEncryptionRule = 404, None, "The server side encryption rule does not exist.";
    NoSuchTransferAccelerationConfiguration = 404, None, "The transfer acceleration configuration does not exist.";
    NoSuchUpload = 404, None, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    NoSuchVersion = 404, None, "The specified version does not exist.";
    NoSuchWebsiteConfiguration = 404, None, "The bucket has no website configuration.";
    SymlinkTargetNotExist = 404, None, "The target of the symbolic link does not exist.";

    MethodNotAllowed = 405, None, "The specified method is not allowed against this resource.";

    BucketAlreadyExists = 409, None, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.";
    BucketNotEmpty = 409, Some("0015-00000301"), "The bucket has objects. Please delete them first.";
    FileAlreadyExists = 409, None, "The object you specified already exists and can not be overwritten.";
    FileImmutable = 409, None, "The object is protected by a retention policy.";
    ObjectNotAppendable = 409, None, "The object is not appendable.";
    PositionNotEqualToLength = 409, None, "Position is not equal to file length.";
    RestoreAlreadyInProgress = 409, None, "The restore operation is in progress.";

    MissingContentLength = 411, None, "You must provide the Content-Length HTTP header.";
    PreconditionFailed = 412, None, "At least one of the pre-conditions you specified did not hold.";
    InvalidRange = 416, None, "The requested range cannot be satisfied.";

    CallbackFailed = 203, None, "The callback failed.";
    MirrorFailed = 424, None, "The mirror source could not be read.";

    InternalError = 500, None, "We encountered an internal error. Please try again.";

    ActiveRequestLimitExceeded = 503, None, "Too many requests are being processed.";
    CpuLimitExceeded = 503, None, "The processing limit is exceeded.";
    DownloadTrafficRateLimitExceeded = 503, None, "The download traffic limit is exceeded.";
    MetaOperationQpsLimitExceeded = 503, None, "The limit of metadata requests per second is exceeded.";
    QpsLimitExceeded = 503, Some("0004-00000302"), "The limit of requests per second is exceeded.";
    ServiceUnavailable = 503, None, "Please reduce your request rate.";
    TotalQpsLimitExceeded = 503, None, "The limit of requests per second is exceeded.";
    UploadTrafficRateLimitExceeded = 503, None, "The upload traffic limit is exceeded.";
}

impl ErrorCode {
    /// Whether the same request, signed again, may succeed: every code whose status is 5xx, and the two codes of lower
    /// status that the official SDKs retry. The status of the answer decides beside the code.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RequestTimeTooSkewed | Self::BadRequest)
            || self.is_damage()
            || self.status().is_server_error()
    }

    /// Whether the bytes that arrived are not those that were sent. They are not stored.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::InvalidCRC64 | Self::InvalidDigest)
    }

    /// Whether the server asks for fewer or slower requests.
    pub fn is_throttle(&self) -> bool {
        match self {
            Self::ServiceUnavailable
            | Self::DownloadTrafficRateLimitExceeded
            | Self::UploadTrafficRateLimitExceeded
            | Self::ActiveRequestLimitExceeded
            | Self::CpuLimitExceeded => true,
            other => other.as_str().ends_with("QpsLimitExceeded"),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back_and_has_a_status_and_a_message() {
        for code in ErrorCode::ALL {
            assert_eq!(&ErrorCode::from(code.as_str()), code);
            assert!(!code.message().is_empty(), "{code}");
            assert!(code.status().as_u16() != 200, "{code}");
        }
    }

    #[test]
    fn statuses_of_well_known_codes() {
        for (code, status) in [
            (ErrorCode::NotModified, 304),
            (ErrorCode::InvalidArgument, 400),
            (ErrorCode::NotImplemented, 400),
            (ErrorCode::SignatureDoesNotMatch, 403),
            (ErrorCode::NoSuchKey, 404),
            (ErrorCode::MethodNotAllowed, 405),
            (ErrorCode::BucketNotEmpty, 409),
            (ErrorCode::MissingContentLength, 411),
            (ErrorCode::PreconditionFailed, 412),
            (ErrorCode::InvalidRange, 416),
            (ErrorCode::CallbackFailed, 203),
            (ErrorCode::MirrorFailed, 424),
            (ErrorCode::InternalError, 500),
            (ErrorCode::ServiceUnavailable, 503),
        ] {
            assert_eq!(code.status().as_u16(), status, "{code}");
        }
        assert_eq!(ErrorCode::NoSuchKey.ec(), Some("0026-00000001"));
    }

    #[test]
    fn unknown_codes_are_kept() {
        let code = ErrorCode::from("SomethingNew");
        assert_eq!(code.as_str(), "SomethingNew");
        assert_eq!(code.status().as_u16(), 400);
        assert!(!code.is_retryable() && !code.is_throttle());
    }

    #[test]
    fn retryable_and_throttle() {
        for code in [
            "InternalError",
            "ServiceUnavailable",
            "RequestTimeTooSkewed",
            "BadRequest",
            "FooQpsLimitExceeded",
            "InvalidCRC64",
            "InvalidDigest",
        ] {
            assert!(ErrorCode::from(code).is_retryable(), "{code}");
        }
        for code in ["AccessDenied", "SecurityTokenExpired", "NoSuchKey", "PreconditionFailed", "MirrorFailed"] {
            assert!(!ErrorCode::from(code).is_retryable(), "{code}");
        }
        for code in ["TotalQpsLimitExceeded", "FooQpsLimitExceeded", "CpuLimitExceeded", "ServiceUnavailable"] {
            assert!(ErrorCode::from(code).is_throttle(), "{code}");
        }
        for code in ["InternalError", "RequestTimeTooSkewed", "NoSuchKey"] {
            assert!(!ErrorCode::from(code).is_throttle(), "{code}");
        }
    }
}
