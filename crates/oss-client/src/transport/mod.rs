//! Connections: made, kept alive and used again.

mod addresses;
mod body;
mod connection;
mod head;
mod response;
mod stream;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Method, StatusCode};
use oss_protocol::endpoint::Endpoint;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

pub(crate) use self::head::RequestHead;
use self::{
    addresses::Addresses,
    connection::{Broken, Connection, Patience, Rest},
    stream::Stream,
};
pub use self::{body::Body, response::Response};
use crate::{
    config::ClientConfig,
    error::{Error, ErrorKind, Result},
    proxy::Proxy,
    sync::lock,
    tls,
};

/// An idle connection older than this is not used again: OSS closes them after 60 seconds, and a request that crosses
/// the server's FIN costs a retry.
const IDLE_LIMIT: Duration = Duration::from_secs(45);

/// Opens connections and keeps the idle ones.
pub(crate) struct Transport {
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
    proxy: Option<Proxy>,
    addresses: Addresses,
    connect_timeout: Duration,
    total_timeout: Duration,
    read_timeout: Duration,
    idle: Arc<IdleConnections>,
}

/// Idle connections by host, the one used last at the end: it is the likeliest to be still open, and is used next. The
/// hosts are few, one for each bucket, so they are looked through.
#[derive(Default)]
struct IdleConnections(Mutex<Vec<(Arc<str>, VecDeque<IdleConnection>)>>);

impl IdleConnections {
    fn keep(&self, host: Arc<str>, connection: Connection) {
        let now = Instant::now();
        let mut hosts = lock(&self.0);
        let index = hosts.iter().position(|(known, _)| *known == host).unwrap_or_else(|| {
            hosts.push((host, VecDeque::new()));
            hosts.len() - 1
        });
        let idle = &mut hosts[index].1;
        // After many requests at once, most of their connections would never be looked at again.
        while idle.front().is_some_and(|(_, since)| now - *since >= IDLE_LIMIT) {
            idle.pop_front();
        }
        idle.push_back((connection, now));
    }

    /// The one that was used last.
    fn take(&self, host: &str) -> Option<IdleConnection> {
        let mut hosts = lock(&self.0);
        hosts.iter_mut().find(|(known, _)| **known == *host)?.1.pop_back()
    }
}

type IdleConnection = (Connection, Instant);

/// A connection while a response is being received over it.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    host: Arc<str>,
    /// Absent if the connection is not kept.
    idle: Option<Arc<IdleConnections>>,
}

impl Lease {
    /// Makes the connection available to the next request.
    pub(crate) fn give_back(self) {
        if let Some(idle) = self.idle {
            idle.keep(self.host, self.connection);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lease({})", self.host)
    }
}

/// Whether a failed request may have been lost only because its connection had been closed while idle.
struct Failure {
    error: Error,
    stale: bool,
}

impl Transport {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self> {
        Ok(Self {
            port: config.endpoint.as_ref().map_or(0, Endpoint::port_or_default),
            tls: if config.endpoint.as_ref().is_some_and(Endpoint::is_tls) {
                Some(tls::configure(config)?)
            } else {
                None
            },
            proxy: config.proxy.clone(),
            addresses: Addresses::default(),
            connect_timeout: config.connect_timeout,
            total_timeout: config.total_timeout,
            read_timeout: config.read_timeout,
            idle: Arc::default(),
        })
    }

    /// The proxy that requests to a host go through.
    pub(crate) fn proxy(&self, host: &str) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|proxy| proxy.serves(host, self.port))
    }

    /// The proxy that requests to a host are sent to as they are. Through a tunnel it does not see them.
    pub(crate) fn forwarding_proxy(&self, host: &str) -> Option<&Proxy> {
        self.proxy(host).filter(|_| self.tls.is_none())
    }

    /// Sends one request and waits for the head of its response.
    pub(crate) async fn exchange(
        &self,
        host: &Arc<str>,
        head: &RequestHead,
        body: &[u8],
        deadline: Instant,
    ) -> Result<Response> {
        while let Some(connection) = self.reuse(host) {
            match self.send(host, connection, head, body, deadline).await {
                Err(Failure { stale: true, error }) => {
                    tracing::debug!(%host, %error, "an idle connection had been closed");
                }
                Err(failure) => return Err(failure.error),
                Ok(response) => return Ok(response),
            }
        }
        // Rare, so kept out of what each request's future holds.
        let connection = Box::pin(self.connect_within(host, deadline)).await?;
        self.send(host, connection, head, body, deadline).await.map_err(|failure| failure.error)
    }

    fn reuse(&self, host: &str) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.idle.take(host)?;
            if since.elapsed() < IDLE_LIMIT && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    async fn send(
        &self,
        host: &Arc<str>,
        mut connection: Connection,
        head: &RequestHead,
        body: &[u8],
        deadline: Instant,
    ) -> std::result::Result<Response, Failure> {
        let patience = Patience { read_timeout: self.read_timeout, total_timeout: self.total_timeout, deadline };
        let broken = match connection.exchange(head, body, patience).await {
            Ok(answer) => {
                let idle = answer.keep_alive.then(|| Arc::clone(&self.idle));
                let lease = Lease { connection, host: Arc::clone(host), idle };
                let body = Body::new(lease, Rest::of(answer.framing), patience);
                return Ok(Response { status: answer.status, headers: answer.headers, body, secrets: None });
            }
            Err(broken) => broken,
        };
        let peer = self.peer(host);
        let (kind, stale) = match broken {
            Broken::Silent => {
                let seconds = self.read_timeout.as_secs_f64();
                (ErrorKind::Timeout(format!("no answer from {peer} for {seconds:.1} s")), false)
            }
            Broken::Late => {
                let seconds = self.total_timeout.as_secs_f64();
                let text = format!("{peer} had not answered when total_timeout ({seconds:.1} s) was over");
                (ErrorKind::Timeout(text), false)
            }
            Broken::NotHttp(what) => (ErrorKind::InvalidReply(format!("{peer} does not speak HTTP: {what}")), false),
            Broken::Lost { cause, unanswered } => {
                let text = format!("the connection to {peer} broke before an answer arrived: {cause}");
                // A request that changes something each time must be known to have been sent twice.
                (ErrorKind::Transport(text), unanswered && head.method() != Method::POST)
            }
        };
        Err(Failure { error: kind.into(), stale })
    }

    async fn connect_within(&self, host: &str, deadline: Instant) -> Result<Connection> {
        let limit = Instant::now() + self.connect_timeout;
        let earlier = deadline.min(limit);
        tokio::time::timeout_at(earlier, self.connect(host, earlier)).await.unwrap_or_else(|_| {
            let (seconds, setting) = if deadline < limit {
                (self.total_timeout.as_secs_f64(), "total_timeout")
            } else {
                (self.connect_timeout.as_secs_f64(), "connect_timeout")
            };
            Err(self.no_connection(host, &format!(" within {seconds:.1} s ({setting}): no answer")))
        })
    }

    async fn connect(&self, host: &str, deadline: Instant) -> Result<Connection> {
        let refused = |error: &dyn std::error::Error| self.unreachable(host, error);
        // A literal IPv6 address stands in brackets in a URL, and without them everywhere else.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let proxy = self.proxy(host);
        let (peer, port) = proxy.map_or((address, self.port), |proxy| (proxy.host(), proxy.port()));
        let stream = self.addresses.connect(peer, port).await.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let stream = match proxy {
                    Some(proxy) => self.tunnel(proxy, host, stream, deadline).await?,
                    None => stream,
                };
                let server = ServerName::try_from(address.to_owned()).map_err(|error| refused(&error))?;
                let connector = TlsConnector::from(Arc::clone(tls));
                let stream = connector.connect(server, stream).await.map_err(|error| match tls_fault(&error) {
                    Some(TlsFault::Certificate(fault)) => {
                        let text = format!("{host}:{} is not trusted: {fault}; see ca_bundle", self.port);
                        ErrorKind::Untrusted(text).into()
                    }
                    Some(TlsFault::NotTls) => {
                        let port = self.port;
                        let text = format!(
                            "{host}:{port} does not speak TLS: if it is an HTTP server, write the endpoint with http://"
                        );
                        ErrorKind::Untrusted(text).into()
                    }
                    None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        let what = "the server closed it before TLS began; if it is an HTTP server, write the endpoint with http://";
                        self.unreachable(host, &what)
                    }
                    None => refused(&error),
                })?;
                Stream::Tls(Box::new(stream))
            }
        };
        Ok(Connection::new(stream))
    }

    fn unreachable(&self, host: &str, cause: &dyn fmt::Display) -> Error {
        self.no_connection(host, &format!(": {cause}"))
    }

    fn no_connection(&self, host: &str, why: &str) -> Error {
        // From outside, OSS's internal endpoints resolve to addresses that nobody reaches.
        let hint = if host.ends_with("-internal.aliyuncs.com") {
            "an endpoint with -internal is reached only from machines in its region"
        } else {
            "check endpoint, its port and this machine's network"
        };
        ErrorKind::Connect(format!("no connection to {}{why}; {hint}", self.peer(host))).into()
    }

    /// A host and the way to it, for messages.
    fn peer(&self, host: &str) -> String {
        let through = self.proxy(host).map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
        format!("{host}:{}{through}", self.port)
    }

    /// Asks a proxy for a tunnel to a host.
    async fn tunnel(&self, proxy: &Proxy, host: &str, stream: TcpStream, deadline: Instant) -> Result<TcpStream> {
        let target = format!("{host}:{}", self.port);
        let mut head = RequestHead::new(Method::CONNECT, &target);
        head.header("host", target.as_bytes());
        if let Some(authorization) = proxy.authorization() {
            head.header("proxy-authorization", authorization.as_bytes());
        }
        let mut connection = Connection::new(Stream::Plain(stream));
        let patience = Patience { read_timeout: self.read_timeout, total_timeout: self.total_timeout, deadline };
        let answer = connection.exchange(&head, &[], patience).await.map_err(|broken| match broken {
            Broken::Silent | Broken::Late => self.unreachable(host, &"it does not answer"),
            Broken::Lost { cause, .. } => self.unreachable(host, &cause),
            Broken::NotHttp(what) => {
                let text = format!("no connection to {}, which is no HTTP proxy: {what}", self.peer(host));
                ErrorKind::Proxy(text).into()
            }
        })?;
        if answer.status.is_success() {
            return match connection.into_stream() {
                Some(Stream::Plain(stream)) => Ok(stream),
                _ => Err(ErrorKind::Proxy(format!("the proxy {proxy} sent more than its answer")).into()),
            };
        }
        if answer.status.is_server_error() {
            return Err(self.unreachable(host, &format!("it answered {}", answer.status)));
        }
        Err(proxy_refused(proxy, host, answer.status))
    }
}

/// A proxy's answer that no other attempt changes.
pub(crate) fn proxy_refused(proxy: &Proxy, host: &str, status: StatusCode) -> Error {
    let remedy = if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        "it wants a user name and a password: OssConfig(proxy=\"http://USER:PASSWORD@HOST:PORT\")"
    } else {
        "let it pass requests to this host, or name the host in NO_PROXY"
    };
    ErrorKind::Proxy(format!("the proxy {proxy} refused a request to {host} with {status}; {remedy}")).into()
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transport").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why a server cannot be spoken to over TLS, however often it is tried.
enum TlsFault {
    Certificate(String),
    NotTls,
}

fn tls_fault(error: &std::io::Error) -> Option<TlsFault> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => Some(TlsFault::Certificate(fault.to_string())),
        rustls::Error::InvalidMessage(_) => Some(TlsFault::NotTls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn connections_that_nobody_needs_any_more_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = async || Connection::new(Stream::Plain(TcpStream::connect(address).await.unwrap()));
        let idle = IdleConnections::default();
        let long_ago = Instant::now().checked_sub(IDLE_LIMIT).unwrap();
        let old = VecDeque::from([(connect().await, long_ago), (connect().await, long_ago)]);
        lock(&idle.0).push(("host".into(), old));
        idle.keep("host".into(), connect().await);
        assert_eq!(lock(&idle.0)[0].1.len(), 1);
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
