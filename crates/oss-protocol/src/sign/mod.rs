//! How a request proves who sent it: signature versions 1 and 4, made and checked.
//!
//! Both sides see a request as [`SignedParts`]: a client before it sends, a server after it has read the head. A server
//! finds the signature with [`Presented::find`], looks the secret up and calls [`Presented::verify`].

mod error;
mod presented;
pub mod v1;
pub mod v4;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method};

pub use error::{SignError, VerifyError};
pub use presented::Presented;

/// How far the time of a request may be from the server's clock.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

/// Which signature a client makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SignatureVersion {
    /// HMAC-SHA1 over a few headers and sub-resources; closed to new accounts and buckets since 2025.
    V1,
    /// HMAC-SHA256 over the whole query, bound to a day and a region.
    #[default]
    V4,
}

/// The target of a request: all signed parts except its headers.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    /// The method.
    pub method: &'a Method,
    /// The bucket; `None` for requests to the service.
    pub bucket: Option<&'a str>,
    /// The key, decoded; `None` for requests to a bucket.
    pub key: Option<&'a str>,
    /// The query, decoded.
    pub query: &'a [(String, String)],
}

impl<'a> RequestTarget<'a> {
    /// Returns the target together with headers.
    pub fn with_headers<'b>(self, headers: &'b HeaderMap) -> SignedParts<'b>
    where
        'a: 'b,
    {
        SignedParts { method: self.method, bucket: self.bucket, key: self.key, query: self.query, headers }
    }
}

impl<'a> SignedParts<'a> {
    /// Returns the parts without the headers.
    pub fn target(&self) -> RequestTarget<'a> {
        RequestTarget { method: self.method, bucket: self.bucket, key: self.key, query: self.query }
    }
}

/// The signed parts of a request, borrowed; client and server can both make them.
#[derive(Clone, Copy)]
pub struct SignedParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The bucket; `None` for requests to the service.
    pub bucket: Option<&'a str>,
    /// The key, decoded; `None` for requests to a bucket.
    pub key: Option<&'a str>,
    /// The query, decoded.
    pub query: &'a [(String, String)],
    /// The headers as sent.
    pub headers: &'a HeaderMap,
}

impl fmt::Debug for SignedParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and query may hold a token or a signature, so only their names are shown.
        let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("SignedParts")
            .field("method", &self.method)
            .field("bucket", &self.bucket)
            .field("key", &self.key)
            .field("query", &names(self.query))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The facts with which a server checks a signature.
#[derive(Clone, Copy)]
pub struct Verifier<'a> {
    /// The secret of the access key that the request names.
    pub secret: &'a str,
    /// The region that V4 signatures must name; `None` accepts any.
    pub region: Option<&'a str>,
    /// The server's time.
    pub now: SystemTime,
    /// A derived key. It is used for V4 signatures of its day and region, which then need no derivation.
    pub signing_key: Option<&'a v4::SigningKey>,
}

impl fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secret", &"***")
            .field("region", &self.region)
            .field("now", &self.now)
            .field("signing_key", &self.signing_key)
            .finish()
    }
}

impl Verifier<'_> {
    fn check_skew(&self, request: SystemTime) -> Result<(), VerifyError> {
        let skew = match request.duration_since(self.now) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        if skew > MAX_CLOCK_SKEW {
            return Err(VerifyError::TooSkewed { request, now: self.now });
        }
        Ok(())
    }
}

/// Returns a header's text without the spaces around it. Headers hold any bytes; only UTF-8 can be signed.
fn header_text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, SignError> {
    std::str::from_utf8(value).map(str::trim).map_err(|_| SignError::HeaderNotText { name: name.to_owned() })
}

/// Returns the text of the header `name`, if it is present.
fn text_of<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Result<Option<&'a str>, SignError> {
    headers.get(name).map(|value| header_text(name.as_str(), value.as_bytes())).transpose()
}

/// Returns `text` if it can stand in a head.
fn sendable<'a>(name: &'static str, text: &'a str) -> Result<&'a str, SignError> {
    // To the end in any case: so the compiler looks at many bytes at a time.
    let fits = text.bytes().fold(true, |fits, byte| fits & ((byte == b'\t') | matches!(byte, b' '..=b'~')));
    if fits { Ok(text) } else { Err(SignError::NotAHeaderValue { name }) }
}

fn header_value(name: &'static str, text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::NotAHeaderValue { name })
}

fn query_value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

/// Writes the names and values of sorted headers as both versions want them: one line each, values of the same name
/// joined by commas.
fn push_header_lines(out: &mut String, sorted: &[(&str, &[u8])]) -> Result<(), SignError> {
    let mut previous = None;
    for &(name, value) in sorted {
        let text = header_text(name, value)?;
        if previous == Some(name) {
            out.pop();
            out.push(',');
        } else {
            out.push_str(name);
            out.push(':');
        }
        out.push_str(text);
        out.push('\n');
        previous = Some(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_values() {
        let mut headers = HeaderMap::new();
        headers.insert("x-oss-security-token", HeaderValue::from_static("the-token"));
        let query = [("security-token".to_owned(), "the-token".to_owned())];
        let target = RequestTarget { method: &Method::GET, bucket: Some("b"), key: Some("k"), query: &query };
        let shown = format!("{:?}", target.with_headers(&headers));
        assert!(!shown.contains("the-token") && shown.contains("x-oss-security-token"), "{shown}");
        let verifier = Verifier { secret: "the-secret", region: None, now: SystemTime::UNIX_EPOCH, signing_key: None };
        assert!(!format!("{verifier:?}").contains("the-secret"));
    }

    #[test]
    fn values_of_one_name_join_with_commas() {
        let mut out = String::new();
        push_header_lines(&mut out, &[("x-oss-a", b" 1 "), ("x-oss-a", b"2"), ("x-oss-b", b"2")]).unwrap();
        assert_eq!(out, "x-oss-a:1,2\nx-oss-b:2\n");
    }
}
