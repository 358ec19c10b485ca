//! A request, taken apart: what it addresses and what it carries.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Version, header as standard};
use hyper::body::Incoming;
use oss_protocol::canonical;
use oss_protocol::endpoint::{HostAddress, split_host};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::uri;
use oss_protocol::xml::EncodingType;

use crate::response::ServiceError;
use crate::rights::Policy;
use crate::subresource;

/// Decoded query parameters in the order sent.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Result<Self, ServiceError> {
        let Some(raw) = raw else { return Ok(Self::default()) };
        canonical::parse_query(raw).map(Self).map_err(|_| {
            ServiceError::new(ErrorCode::InvalidArgument)
                .with_message("The query string is not valid percent encoding.")
        })
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// Whether a parameter names an operation, not just how an operation is done.
    pub(crate) fn names_operation(&self) -> bool {
        self.0.iter().any(|(name, _)| subresource::names_operation(name))
    }

    /// The value of a parameter; empty when the parameter has none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, or nothing when it is empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A number within bounds, or `default` when it is not given.
    pub(crate) fn number(&self, name: &str, default: u32, least: u32, most: u32) -> Result<u32, ServiceError> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if (least..=most).contains(&number) => Ok(number),
                _ => Err(ServiceError::invalid_argument(name, text)),
            },
        }
    }

    /// How keys in the answer are to be encoded.
    pub(crate) fn encoding_type(&self) -> Result<EncodingType, ServiceError> {
        let text = self.get("encoding-type").unwrap_or_default();
        EncodingType::parse(text).ok_or_else(|| ServiceError::invalid_argument("encoding-type", text))
    }
}

/// The target of a request.
#[derive(Debug)]
pub(crate) struct Target {
    /// The `Host` header as sent.
    pub(crate) host: String,
    pub(crate) bucket: Option<String>,
    /// Decoded.
    pub(crate) key: Option<String>,
    pub(crate) query: Query,
}

impl Target {
    /// Reads the host, the path and the query.
    pub(crate) fn parse(parts: &Parts, domain: Option<&str>) -> Result<Self, ServiceError> {
        let host = host(parts)?;
        let path = parts.uri.path().strip_prefix('/').unwrap_or_default();
        let (bucket, key) = match split_host(&host, domain) {
            HostAddress::VirtualHost { bucket } => (Some(bucket), decode(path)?),
            HostAddress::PathStyle => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                if !bucket.is_empty() && matches!(split_host(&host, None), HostAddress::VirtualHost { .. }) {
                    // A domain name that is not local: the server's own domain, in which the service insists on virtual hosts.
                    return Err(ServiceError::new(ErrorCode::SecondLevelDomainForbidden));
                }
                (Some(decode(bucket)?).filter(|bucket| !bucket.is_empty()), decode(key)?)
            }
        };
        if let Some(name) = &bucket {
            uri::validate_bucket(name)
                .map_err(|_| ServiceError::new(ErrorCode::InvalidBucketName).with_field("BucketName", name))?;
        }
        let key = Some(key).filter(|key| !key.is_empty());
        if let Some(key) = &key {
            uri::validate_key(key)
                .map_err(|_| ServiceError::new(ErrorCode::InvalidObjectName).with_field("ObjectName", key))?;
        }
        Ok(Self { host, bucket, key, query: Query::parse(parts.uri.query())? })
    }
}

fn host(parts: &Parts) -> Result<String, ServiceError> {
    if let Some(authority) = parts.uri.authority() {
        return Ok(authority.as_str().to_owned());
    }
    match parts.headers.get(standard::HOST).map(|value| value.to_str()) {
        Some(Ok(host)) => Ok(host.to_owned()),
        None if parts.version == Version::HTTP_10 => Ok("localhost".to_owned()),
        _ => Err(ServiceError::new(ErrorCode::InvalidArgument).with_message("The Host header is missing or not text.")),
    }
}

fn decode(text: &str) -> Result<String, ServiceError> {
    canonical::decode(text)
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ServiceError::new(ErrorCode::InvalidObjectName).with_field("ObjectName", text))
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) enum Sender {
    /// Nobody proved to have sent it.
    Anyone,
    /// A key of the account that owns everything.
    Owner,
    /// A key with rights of its own.
    User { access_key_id: String, policy: Arc<Policy> },
}

/// How a request arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Address of the client.
    pub(crate) source: SocketAddr,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
}

/// A request that has been understood.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) bucket: String,
    /// Empty when the request addresses a bucket.
    pub(crate) key: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) sender: Sender,
    /// Address of the client.
    pub(crate) source: SocketAddr,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
    body: &'a mut Option<Incoming>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        parts: Parts,
        target: Target,
        sender: Sender,
        arrival: Arrival,
        body: &'a mut Option<Incoming>,
    ) -> Self {
        Self {
            method: parts.method,
            bucket: target.bucket.unwrap_or_default(),
            key: target.key.unwrap_or_default(),
            query: target.query,
            headers: parts.headers,
            sender,
            source: arrival.source,
            secure: arrival.secure,
            body,
        }
    }

    /// The body, once.
    pub(crate) fn take_body(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// Whether nobody proved to have sent it.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.sender, Sender::Anyone)
    }

    /// Leaves the rest of a body to the code that answers. It knows how to refuse a client that is still sending.
    pub(crate) fn give_back(&mut self, body: Incoming) {
        *self.body = Some(body);
    }

    /// The text of a header; an error if it is not text.
    pub(crate) fn header(&self, name: &HeaderName) -> Result<Option<&str>, ServiceError> {
        header_text(&self.headers, name)
    }

    /// The announced size of the body.
    pub(crate) fn content_length(&self) -> Result<Option<u64>, ServiceError> {
        let Some(text) = self.header(&standard::CONTENT_LENGTH)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ServiceError::invalid_argument("Content-Length", text))
    }

    /// Whether a header says `true`.
    pub(crate) fn flag(&self, name: &HeaderName) -> Result<bool, ServiceError> {
        match self.header(name)? {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(ServiceError::invalid_argument(name.as_str(), text)),
        }
    }
}

/// The text of a header; an error if it is not text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ServiceError> {
    match headers.get(name).map(|value| str::from_utf8(value.as_bytes())) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim())),
        Some(Err(_)) => Err(ServiceError::invalid_argument(name.as_str(), "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, path: &str) -> Result<(Option<String>, Option<String>), String> {
        let request = http::Request::builder().uri(path).header("host", host).body(()).unwrap();
        Target::parse(&request.into_parts().0, Some("oss.test"))
            .map(|target| (target.bucket, target.key))
            .map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn both_styles_decode_the_key() {
        let found = |bucket: &str, key: &str| Ok((Some(bucket.to_owned()), Some(key.to_owned())));
        assert_eq!(target("127.0.0.1:9400", "/bucket/a%2Fb%20c+d"), found("bucket", "a/b c+d"));
        assert_eq!(target("localhost", "/bucket/a//b"), found("bucket", "a//b"));
        assert_eq!(target("bucket.oss.test:80", "/a%2Fb"), found("bucket", "a/b"));
        assert_eq!(target("bucket.other.example", "/%E6%95%B0"), found("bucket", "数"));
        assert_eq!(target("127.0.0.1", "/bucket"), Ok((Some("bucket".to_owned()), None)));
        assert_eq!(target("127.0.0.1", "/bucket/"), Ok((Some("bucket".to_owned()), None)));
        assert_eq!(target("127.0.0.1", "/"), Ok((None, None)));
        assert_eq!(target("oss.test", "/"), Ok((None, None)));
    }

    #[test]
    fn the_servers_own_domain_takes_no_bucket_in_the_path() {
        assert_eq!(target("oss.test", "/bucket/key"), Err("SecondLevelDomainForbidden".to_owned()));
        assert_eq!(target("OSS.test:9400", "/bucket"), Err("SecondLevelDomainForbidden".to_owned()));
        assert!(target("127.0.0.1", "/bucket/key").is_ok());
    }

    #[test]
    fn bad_names_are_refused() {
        assert_eq!(target("127.0.0.1", "/B/key"), Err("InvalidBucketName".to_owned()));
        assert_eq!(target("127.0.0.1", "/bucket//key"), Err("InvalidObjectName".to_owned()));
        assert_eq!(target("127.0.0.1", "/bucket/%5Ckey"), Err("InvalidObjectName".to_owned()));
        assert_eq!(target("127.0.0.1", "/bucket/%FF"), Err("InvalidObjectName".to_owned()));
        assert_eq!(target("127.0.0.1", "/bucket/%zz"), Err("InvalidObjectName".to_owned()));
        let long = format!("/bucket/{}", "k".repeat(1024));
        assert_eq!(target("127.0.0.1", &long), Err("InvalidObjectName".to_owned()));
        assert!(target("127.0.0.1", &long[..long.len() - 1]).is_ok());
    }

    #[test]
    fn numbers_are_bounded() {
        let query = Query::parse(Some("a=5&b=x&c=0&d=1001&e=")).unwrap();
        assert_eq!(query.number("a", 100, 1, 1000).unwrap(), 5);
        assert_eq!(query.number("none", 100, 1, 1000).unwrap(), 100);
        assert_eq!(query.number("e", 100, 1, 1000).unwrap(), 100);
        for name in ["b", "c", "d"] {
            assert!(query.number(name, 100, 1, 1000).is_err(), "{name}");
        }
    }
}
