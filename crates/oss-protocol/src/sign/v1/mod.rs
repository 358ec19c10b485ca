//! Signature version 1, HMAC-SHA1.
//!
//! <https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header>
//!
//! A signature covers the method, `Content-MD5`, `Content-Type`, the date, the `x-oss-*` headers, the bucket and key,
//! and those query parameters that are sub-resources.

mod sign;
mod subresource;
mod verify;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};

use http::header::CONTENT_TYPE;
use sha1::{Digest, Sha1};

use crate::header;
use crate::sign::{SignError, SignedParts, push_header_lines, text_of};

pub use sign::{presign, sign_headers};
pub use subresource::is_subresource;
pub use verify::{Authorization, Presigned, verify_headers, verify_presigned};

const CONTENT_MD5: http::HeaderName = http::HeaderName::from_static("content-md5");

/// Names of the query parameters of a presigned URL.
mod parameter {
    pub(super) const ACCESS_KEY_ID: &str = "OSSAccessKeyId";
    pub(super) const EXPIRES: &str = "Expires";
    pub(super) const SIGNATURE: &str = "Signature";
    pub(super) const SECURITY_TOKEN: &str = "security-token";
}

/// Returns the text that is signed. `date` is the text of the date header, or the `Expires` of a presigned URL.
pub fn string_to_sign(parts: &SignedParts<'_>, date: &str) -> Result<String, SignError> {
    let mut out = String::with_capacity(256);
    out.push_str(parts.method.as_str());
    out.push('\n');
    out.push_str(text_of(parts.headers, &CONTENT_MD5)?.unwrap_or(""));
    out.push('\n');
    out.push_str(text_of(parts.headers, &CONTENT_TYPE)?.unwrap_or(""));
    out.push('\n');
    out.push_str(date);
    out.push('\n');

    let mut headers: Vec<(&str, &[u8])> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| name.starts_with(header::PREFIX))
        .collect();
    headers.sort_by_key(|(name, _)| *name);
    push_header_lines(&mut out, &headers)?;
    push_resource(&mut out, parts);
    Ok(out)
}

/// Neither the key nor the values are percent-encoded here.
fn push_resource(out: &mut String, parts: &SignedParts<'_>) {
    out.push('/');
    if let Some(bucket) = parts.bucket {
        out.push_str(bucket);
        out.push('/');
        out.push_str(parts.key.unwrap_or(""));
    }
    let mut subresources: Vec<&(String, String)> =
        parts.query.iter().filter(|(name, _)| is_subresource(name)).collect();
    subresources.sort_unstable();
    for (at, (name, value)) in subresources.into_iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(name);
        if !value.is_empty() {
            out.push('=');
            out.push_str(value);
        }
    }
}

/// Returns the signature of a text in base64.
fn signature(secret: &str, string_to_sign: &str) -> String {
    let mut mac = keyed(secret.as_bytes());
    mac.update(string_to_sign.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// HMAC takes keys of any length, so the error of `new_from_slice` cannot occur; a key of one block needs no `Result`.
fn keyed(key: &[u8]) -> Hmac<Sha1> {
    let mut block = [0u8; 64];
    if let Some(start) = block.get_mut(..key.len()) {
        start.copy_from_slice(key);
    } else {
        block[..20].copy_from_slice(&Sha1::digest(key));
    }
    <Hmac<Sha1> as hmac::digest::KeyInit>::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_4_of_the_documentation() {
        let text = "PUT\nODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=\ntext/html\nThu, 17 Nov 2005 18:49:58 GMT\n\
                    x-oss-magic:abracadabra\nx-oss-meta-author:foo@bar.com\n/oss-example/nelson";
        assert_eq!(signature("OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV", text), "26NBxoKdsyly4EDv6inkoDft/yA=");
    }

    #[test]
    fn long_keys_are_hashed_first() {
        // RFC 2202, test case 6: a key of 80 bytes.
        let mut mac = keyed(&[0xaa; 80]);
        mac.update(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(STANDARD.encode(mac.finalize().into_bytes()), "qkrl4VJy0A6VcFY3zoo7Ve1AIRI=");
    }
}
