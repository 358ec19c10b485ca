//! The hosts that requests go to: endpoints, the three ways of addressing a bucket, and how a server reads them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::canonical::encode_path;
use crate::region;

pub use crate::region::{RegionError, validate_region};

/// HTTP with or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The name before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port used when none is named.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Addressing: the place of the bucket's name in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// In front of the host: `bucket.endpoint/key`.
    VirtualHost,
    /// In front of the path: `endpoint/bucket/key`.
    Path,
    /// Nowhere: the host is a custom domain that belongs to one bucket.
    Cname,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nothing was given.
    #[error("the endpoint is empty; give one such as oss-cn-hangzhou-internal.aliyuncs.com")]
    Empty,
    /// Another scheme than HTTP or HTTPS.
    #[error("the endpoint {text:?} has the scheme {scheme:?}; use http:// or https://")]
    Scheme {
        /// The text as given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// A path, query, fragment or user name, none of which an endpoint has.
    #[error(
        "the endpoint {text:?} has more than a host and a port; remove the rest and give bucket and key as oss://bucket/key"
    )]
    Extra {
        /// The text as given, with what stands before `@` left out.
        text: String,
    },
    /// The host is no name and no address.
    #[error("the endpoint {text:?} has no valid host name")]
    Host {
        /// The text as given.
        text: String,
    },
    /// The port is no number from 1 to 65535.
    #[error("the endpoint {text:?} has no valid port; use 1 to 65535")]
    Port {
        /// The text as given.
        text: String,
    },
    /// A bucket's name cannot stand in front of an IP address.
    #[error("the endpoint {text:?} is an IP address, which takes no bucket name in front; use path-style addressing")]
    VirtualHostOfAddress {
        /// The text as given.
        text: String,
    },
}

/// A server and the way buckets are addressed on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    addressing: Addressing,
}

impl Endpoint {
    /// Parses `[scheme://]host[:port][/]`.
    ///
    /// Without a scheme it is `default_scheme`. With `addressing` `None` it is path style for IP addresses and
    /// `localhost`, virtual host for every other name.
    pub fn parse(text: &str, default_scheme: Scheme, addressing: Option<Addressing>) -> Result<Self, EndpointError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (parse_scheme(scheme, text)?, rest),
            None => (default_scheme, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((_, shown)) = authority.rsplit_once('@') {
            // What stands before the @ may be a password.
            return Err(EndpointError::Extra { text: format!("...@{shown}") });
        }
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(EndpointError::Extra { text: text.to_owned() });
        }
        let (host, port) = split_port(authority);
        let port = match port {
            Some(port) => Some(parse_port(port).ok_or_else(|| EndpointError::Port { text: text.to_owned() })?),
            None => None,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if !is_host(&host) {
            return Err(EndpointError::Host { text: text.to_owned() });
        }
        let addressing = addressing.unwrap_or(if is_local(&host) { Addressing::Path } else { Addressing::VirtualHost });
        if addressing == Addressing::VirtualHost && is_address(&host) {
            return Err(EndpointError::VirtualHostOfAddress { text: text.to_owned() });
        }
        Ok(Self { scheme, host, port, addressing })
    }

    /// Whether the connection is plain or over TLS.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without a bucket; IPv6 addresses are in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the text has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// How buckets are addressed.
    pub fn addressing(&self) -> Addressing {
        self.addressing
    }

    /// Whether connections use TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The port to connect to.
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }

    /// Returns the value of the `Host` header. It contains the port only if that is not the scheme's default.
    pub fn authority(&self, bucket: Option<&str>) -> String {
        let mut authority = self.host_with_bucket(bucket);
        if let Some(port) = self.port.filter(|&port| port != self.scheme.default_port()) {
            authority.push(':');
            authority.push_str(&port.to_string());
        }
        authority
    }

    /// Returns the name or address to connect to, and to check the certificate against; no port, no brackets.
    pub fn connect_host(&self, bucket: Option<&str>) -> String {
        let host = self.host_with_bucket(bucket);
        match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.to_owned(),
            None => host,
        }
    }

    /// Returns the percent-encoded path of a request: `/key`, `/bucket/key`, `/bucket/` or `/`.
    pub fn path(&self, bucket: Option<&str>, key: Option<&str>) -> String {
        let key = key.map(encode_path);
        let key = key.as_deref().unwrap_or("");
        let bucket = bucket.filter(|_| self.addressing == Addressing::Path);
        let mut path = String::with_capacity(2 + bucket.map_or(0, str::len) + key.len());
        path.push('/');
        if let Some(bucket) = bucket {
            path.push_str(bucket);
            path.push('/');
        }
        path.push_str(key);
        path
    }

    /// Returns the region that signatures must name, if the host contains it.
    ///
    /// Custom domains, addresses and the transfer acceleration hosts do not.
    pub fn infer_region(&self) -> Option<String> {
        region::of_host(&self.host)
    }

    fn host_with_bucket(&self, bucket: Option<&str>) -> String {
        match bucket {
            Some(bucket) if self.addressing == Addressing::VirtualHost => format!("{bucket}.{}", self.host),
            _ => self.host.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority(None))
    }
}

/// The meaning of a `Host` header for the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// Nothing: the bucket, if any, is the first segment of the path.
    PathStyle,
    /// The bucket is the first label of the host.
    VirtualHost {
        /// The bucket's name.
        bucket: String,
    },
}

/// Returns what a `Host` header says about the bucket.
///
/// An IP address, `localhost` and any name of a single label mean path style; otherwise the first label is the bucket.
/// With a `domain`, `bucket.domain` names a bucket and `domain` alone is path style; other hosts follow the rule above.
pub fn split_host(host_header: &str, domain: Option<&str>) -> HostAddress {
    let (host, _) = split_port(host_header.trim());
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if let Some(domain) = domain {
        let domain = domain.to_ascii_lowercase();
        if host == domain {
            return HostAddress::PathStyle;
        }
        let bucket = host.strip_suffix(&domain).and_then(|front| front.strip_suffix('.'));
        if let Some(bucket) = bucket.filter(|bucket| !bucket.is_empty()) {
            return HostAddress::VirtualHost { bucket: bucket.to_owned() };
        }
    }
    if is_local(&host) {
        return HostAddress::PathStyle;
    }
    match host.split_once('.') {
        Some((bucket, _)) if !bucket.is_empty() => HostAddress::VirtualHost { bucket: bucket.to_owned() },
        _ => HostAddress::PathStyle,
    }
}

fn parse_scheme(scheme: &str, text: &str) -> Result<Scheme, EndpointError> {
    if scheme.eq_ignore_ascii_case("http") {
        Ok(Scheme::Http)
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok(Scheme::Https)
    } else {
        Err(EndpointError::Scheme { text: text.to_owned(), scheme: scheme.to_owned() })
    }
}

/// Splits `host:port`; the colons inside `[v6]` are not separators.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_address..].rfind(':') {
        Some(colon) => {
            let colon = after_address + colon;
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        None => (authority, None),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&port| port != 0)
}

fn is_host(host: &str) -> bool {
    if host.starts_with('[') || host.ends_with(']') {
        return is_address(host);
    }
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

fn is_local(host: &str) -> bool {
    host == "localhost" || is_address(host)
}

fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text, Scheme::Https, None).unwrap()
    }

    fn error(text: &str) -> EndpointError {
        Endpoint::parse(text, Scheme::Https, None).unwrap_err()
    }

    #[test]
    fn virtual_host_puts_the_bucket_in_front() {
        let endpoint = endpoint("oss-cn-hangzhou.aliyuncs.com");
        assert_eq!(endpoint.addressing(), Addressing::VirtualHost);
        assert_eq!(endpoint.authority(Some("b")), "b.oss-cn-hangzhou.aliyuncs.com");
        assert_eq!(endpoint.authority(None), "oss-cn-hangzhou.aliyuncs.com");
        assert_eq!(endpoint.connect_host(Some("b")), "b.oss-cn-hangzhou.aliyuncs.com");
        assert_eq!(endpoint.path(Some("b"), Some("dir/a b")), "/dir/a%20b");
        assert_eq!(endpoint.path(Some("b"), None), "/");
        assert_eq!(endpoint.infer_region().as_deref(), Some("cn-hangzhou"));
        assert_eq!((endpoint.port_or_default(), endpoint.is_tls()), (443, true));
    }

    #[test]
    fn addresses_and_localhost_are_path_style() {
        for (text, authority, connect) in [
            ("http://127.0.0.1:9400", "127.0.0.1:9400", "127.0.0.1"),
            ("http://localhost:9400/", "localhost:9400", "localhost"),
            ("http://[::1]:9400", "[::1]:9400", "::1"),
            ("http://[::1]", "[::1]", "::1"),
        ] {
            let endpoint = endpoint(text);
            assert_eq!(endpoint.addressing(), Addressing::Path, "{text}");
            assert_eq!(endpoint.authority(Some("b")), authority);
            assert_eq!(endpoint.connect_host(Some("b")), connect);
            assert_eq!(endpoint.path(Some("b"), Some("k")), "/b/k");
            assert_eq!(endpoint.path(Some("b"), None), "/b/");
            assert_eq!(endpoint.path(None, None), "/");
            assert_eq!(endpoint.infer_region(), None);
            assert!(!endpoint.is_tls());
        }
    }

    #[test]
    fn custom_domains_hide_the_bucket() {
        let endpoint = Endpoint::parse("https://data.example.com", Scheme::Http, Some(Addressing::Cname)).unwrap();
        assert_eq!(endpoint.authority(Some("b")), "data.example.com");
        assert_eq!(endpoint.path(Some("b"), Some("k")), "/k");
    }

    #[test]
    fn scheme_and_port_defaults() {
        let plain = Endpoint::parse("example.com:80", Scheme::Http, None).unwrap();
        assert_eq!((plain.scheme(), plain.authority(None).as_str()), (Scheme::Http, "example.com"));
        let odd = Endpoint::parse("http://example.com:443", Scheme::Https, None).unwrap();
        assert_eq!(odd.authority(Some("b")), "b.example.com:443");
        assert_eq!(odd.to_string(), "http://example.com:443");
        assert_eq!(endpoint("HTTPS://OSS-cn-Hangzhou.aliyuncs.com").host(), "oss-cn-hangzhou.aliyuncs.com");
    }

    #[test]
    fn explicit_addressing_wins() {
        let local = Endpoint::parse("http://localhost:1", Scheme::Http, Some(Addressing::VirtualHost)).unwrap();
        assert_eq!(local.authority(Some("b")), "b.localhost:1");
        let path = Endpoint::parse("minio.example.com", Scheme::Http, Some(Addressing::Path)).unwrap();
        assert_eq!(path.path(Some("b"), Some("k")), "/b/k");
        assert!(matches!(
            Endpoint::parse("127.0.0.1", Scheme::Http, Some(Addressing::VirtualHost)),
            Err(EndpointError::VirtualHostOfAddress { .. })
        ));
    }

    #[test]
    fn refused_endpoints() {
        assert_eq!(error("  "), EndpointError::Empty);
        assert!(matches!(error("ftp://example.com"), EndpointError::Scheme { scheme, .. } if scheme == "ftp"));
        assert!(matches!(error("http://example.com/bucket"), EndpointError::Extra { .. }));
        assert!(matches!(error("http://example.com?x"), EndpointError::Extra { .. }));
        for text in ["http://", "exa mple.com", "[::1", "[zz]", "a..b", "::1", "bücket.com"] {
            assert!(matches!(error(text), EndpointError::Host { .. }), "{text}");
        }
        for text in ["example.com:", "example.com:0", "example.com:65536", "example.com:+80", "example.com:x"] {
            assert!(matches!(error(text), EndpointError::Port { .. }), "{text}");
        }
    }

    #[test]
    fn user_names_and_passwords_are_not_repeated() {
        let message = error("http://user:hunter2@example.com").to_string();
        assert!(!message.contains("hunter2") && message.contains("example.com"), "{message}");
    }

    #[test]
    fn hosts_split_into_buckets() {
        let bucket = |name: &str| HostAddress::VirtualHost { bucket: name.to_owned() };
        for (host, domain, expected) in [
            ("127.0.0.1:9400", None, HostAddress::PathStyle),
            ("localhost:9400", None, HostAddress::PathStyle),
            ("[::1]:9400", None, HostAddress::PathStyle),
            ("emulator:9400", None, HostAddress::PathStyle),
            ("b.oss-cn-lab-internal.aliyuncs.test:18765", None, bucket("b")),
            ("B.localhost", None, bucket("b")),
            ("bkt1.127.0.0.1", None, bucket("bkt1")),
            ("oss.example.com", Some("oss.example.com"), HostAddress::PathStyle),
            ("b.OSS.example.com:80", Some("oss.example.com"), bucket("b")),
            ("127.0.0.1", Some("oss.example.com"), HostAddress::PathStyle),
            ("xoss.example.com", Some("oss.example.com"), bucket("xoss")),
            ("", None, HostAddress::PathStyle),
            (".example.com", None, HostAddress::PathStyle),
        ] {
            assert_eq!(split_host(host, domain), expected, "{host} {domain:?}");
        }
    }
}
