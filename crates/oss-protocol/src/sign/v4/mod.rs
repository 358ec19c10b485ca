//! Signature version 4, `OSS4-HMAC-SHA256`.
//!
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4>
//!
//! A signature covers the method, the bucket and key, the whole query and the headers `content-type`, `content-md5` and
//! `x-oss-*`. Other headers, `Host` and `Range` among them, are covered only when listed as additional headers.

mod canonical;
mod key;
mod sign;
mod verify;

pub use canonical::canonical_request;
pub use key::SigningKey;
pub use sign::{Added, Signer, authorize, presign, sign_headers};
pub use verify::{Authorization, Presigned, verify_headers, verify_presigned};

/// The name of the algorithm, with which `Authorization` starts.
pub const ALGORITHM: &str = "OSS4-HMAC-SHA256";

/// The longest validity of a presigned URL in seconds: seven days.
pub const MAX_EXPIRES_SECONDS: u64 = 604_800;

const PRODUCT: &str = "oss";
const TERMINATOR: &str = "aliyun_v4_request";

/// Names of the query parameters of a presigned URL.
mod parameter {
    pub(super) const VERSION: &str = "x-oss-signature-version";
    pub(super) const DATE: &str = "x-oss-date";
    pub(super) const EXPIRES: &str = "x-oss-expires";
    pub(super) const CREDENTIAL: &str = "x-oss-credential";
    pub(super) const ADDITIONAL_HEADERS: &str = "x-oss-additional-headers";
    pub(super) const SECURITY_TOKEN: &str = "x-oss-security-token";
    pub(super) const SIGNATURE: &str = "x-oss-signature";
}

/// Returns the scope of a signature, `date/region/oss/aliyun_v4_request`.
pub fn scope(date: &str, region: &str) -> String {
    format!("{date}/{region}/{PRODUCT}/{TERMINATOR}")
}

/// Returns the text that is signed.
pub fn string_to_sign(date_time: &str, scope: &str, canonical_request: &str) -> String {
    let mut text = format!("{ALGORITHM}\n{date_time}\n{scope}\n");
    text.push_str(key::Hex::of(&key::sha256(canonical_request.as_bytes())).as_str());
    text
}
