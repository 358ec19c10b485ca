//! The HTTP proxy that requests go through, and the hosts that are reached without it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A proxy: plain HTTP is sent to it as it is (RFC 9112 section 3.2.2), and it makes tunnels for TLS (RFC 9110 section
/// 9.3.6).
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: Option<String>,
    without: Vec<String>,
    /// How a host is reached without it, for messages.
    way_around: String,
}

impl Proxy {
    /// A proxy by its host name or address, without brackets.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let way_around = "reach the host without it".to_owned();
        Self { host: host.into(), port, authorization: None, without: Vec::new(), way_around }
    }

    /// Sends a user name and a password to the proxy with each request or tunnel (RFC 7617).
    #[must_use]
    pub fn with_password(mut self, user: &str, password: &str) -> Self {
        self.authorization = Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        self
    }

    /// Names hosts to reach without the proxy, as the variable `NO_PROXY` does: a domain with all below it, a domain
    /// with a port, an address with or without one, a network such as `10.0.0.0/8`, or `*` for everything.
    #[must_use]
    pub fn without(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.without.extend(patterns);
        self
    }

    /// Says which setting reaches a host without the proxy: the end of a sentence, for messages.
    #[must_use]
    pub fn with_way_around(mut self, way_around: impl Into<String>) -> Self {
        self.way_around = way_around.into();
        self
    }

    pub(crate) fn way_around(&self) -> &str {
        &self.way_around
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Proxy-Authorization`: a secret.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Whether a host is reached through the proxy.
    pub(crate) fn serves(&self, host: &str, port: u16) -> bool {
        !self.without.iter().any(|pattern| names(pattern.trim(), host, port))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Proxy({self})")
    }
}

/// Whether a pattern of `NO_PROXY` names a host.
fn names(pattern: &str, host: &str, port: u16) -> bool {
    if pattern == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return match pattern.parse::<SocketAddr>() {
            Ok(named) => (named.ip(), named.port()) == (address, port),
            Err(_) => names_address(pattern.trim_matches(['[', ']']), address),
        };
    }
    let domain = match pattern.rsplit_once(':') {
        Some((domain, digits)) if digits.parse() == Ok(port) => domain,
        Some(_) => return false,
        None => pattern,
    };
    let domain = domain.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    !domain.is_empty() && host.strip_suffix(&domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Whether an address or a network is, or holds, an address.
fn names_address(pattern: &str, address: IpAddr) -> bool {
    let Some((network, length)) = pattern.split_once('/') else { return pattern.parse() == Ok(address) };
    let Ok(length) = length.parse::<u32>() else { return false };
    match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) if length <= 32 => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) if length <= 128 => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_hosts_as_no_proxy_does() {
        for (pattern, host, named) in [
            ("*", "bucket.example.com", true),
            ("example.com", "example.com", true),
            ("example.com", "Bucket.Example.com", true),
            (".example.com", "bucket.example.com", true),
            ("*.example.com", "bucket.example.com", true),
            ("example.com:80", "bucket.example.com", true),
            ("example.com:81", "bucket.example.com", false),
            ("example.com", "badexample.com", false),
            ("bucket.example.com", "example.com", false),
            ("", "example.com", false),
            (".", "example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2", "10.1.2.3", false),
            ("10.1.2.3:80", "10.1.2.3", true),
            ("10.1.2.3:81", "10.1.2.3", false),
            ("10.1.2.4:80", "10.1.2.3", false),
            ("[fd00::1]:80", "fd00::1", true),
            ("[fd00::1]:81", "fd00::1", false),
            ("[fd00::1]", "fd00::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "10.1.2.3", false),
        ] {
            assert_eq!(names(pattern, host, 80), named, "{pattern} {host}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let proxy = Proxy::new("proxy", 3128).with_password("user", "secret");
        assert_eq!(format!("{proxy} {proxy:?}"), "proxy:3128 Proxy(proxy:3128)");
        assert_eq!(proxy.authorization(), Some("Basic dXNlcjpzZWNyZXQ="));
    }
}
