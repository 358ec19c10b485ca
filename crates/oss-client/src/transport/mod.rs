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
    sync::{Arc, Mutex, Weak},
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
    descriptors::{Descriptors, Idle, PAUSE, Permit},
    error::{Error, ErrorKind, Result},
    metrics::METRICS,
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
    idle: Arc<IdleConnections>,
    descriptors: Arc<Descriptors>,
}

/// How long one client waits.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    connect: Duration,
    read: Duration,
    total: Duration,
    /// The end of the request.
    deadline: Instant,
}

impl Timeouts {
    pub(crate) fn new(config: &ClientConfig, deadline: Instant) -> Self {
        Self { connect: config.connect_timeout, read: config.read_timeout, total: config.total_timeout, deadline }
    }

    fn patience(self) -> Patience {
        Patience { read_timeout: self.read, total_timeout: self.total, deadline: self.deadline }
    }
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
        // After many requests at once, most of their connections would never be looked at again.
        for (_, idle) in &mut *hosts {
            while idle.front().is_some_and(|(_, since)| now - *since >= IDLE_LIMIT) {
                idle.pop_front();
            }
        }
        hosts[index].1.push_back((connection, now));
    }

    /// The one that was used last.
    fn take(&self, host: &str) -> Option<IdleConnection> {
        let mut hosts = lock(&self.0);
        hosts.iter_mut().find(|(known, _)| **known == *host)?.1.pop_back()
    }
}

impl Idle for IdleConnections {
    fn close_one(&self) -> bool {
        let mut hosts = lock(&self.0);
        hosts.iter_mut().any(|(_, idle)| idle.pop_front().is_some())
    }
}

type IdleConnection = (Connection, Instant);

/// A connection while a response is being received over it.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    host: Arc<str>,
    /// Absent if the connection is not kept.
    idle: Option<Arc<IdleConnections>>,
    permit: Permit,
}

impl Lease {
    /// Makes the connection available to the next request.
    pub(crate) fn give_back(self) {
        if let Some(idle) = self.idle
            && self.permit.keeps_connection()
        {
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

/// Why there is no connection.
enum NoConnection {
    /// The process has too many open files.
    Descriptors(Error),
    Failed(Error),
}

impl From<Error> for NoConnection {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Transport {
    pub(crate) fn new(config: &ClientConfig, descriptors: Arc<Descriptors>) -> Result<Self> {
        let idle = Arc::<IdleConnections>::default();
        let known: Weak<IdleConnections> = Arc::downgrade(&idle);
        descriptors.register(known);
        Ok(Self {
            port: config.endpoint.as_ref().map_or(0, Endpoint::port_or_default),
            tls: if config.endpoint.as_ref().is_some_and(Endpoint::is_tls) {
                Some(tls::configure(config)?)
            } else {
                None
            },
            proxy: config.proxy.clone(),
            addresses: Addresses::default(),
            idle,
            descriptors,
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
        timeouts: Timeouts,
    ) -> Result<Response> {
        let mut permit = match self.descriptors.try_permit() {
            Some(permit) => permit,
            None => Box::pin(self.permit(host, timeouts)).await?,
        };
        while let Some(connection) = self.reuse(host) {
            match self.send(host, connection, permit, head, body, timeouts).await {
                Err((returned, Failure { stale: true, error })) => {
                    tracing::debug!(%host, %error, "an idle connection had been closed");
                    permit = returned;
                }
                Err((_, failure)) => return Err(failure.error),
                Ok(response) => return Ok(response),
            }
        }
        // Rare, so kept out of what each request's future holds.
        let connection = Box::pin(self.obtain(host, timeouts)).await?;
        let answer = self.send(host, connection, permit, head, body, timeouts).await;
        answer.map_err(|(_, failure)| failure.error)
    }

    /// A new connection, or one that became free while there was no descriptor for another.
    async fn obtain(&self, host: &str, timeouts: Timeouts) -> Result<Connection> {
        loop {
            let error = match self.connect_within(host, timeouts).await {
                Ok(connection) => {
                    METRICS.connections.add(1);
                    return Ok(connection);
                }
                Err(NoConnection::Failed(error)) => return Err(error),
                Err(NoConnection::Descriptors(error)) => error,
            };
            if !self.descriptors.make_room() || Instant::now() + PAUSE >= timeouts.deadline {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
            if let Some(connection) = self.reuse(host) {
                return Ok(connection);
            }
        }
    }

    async fn permit(&self, host: &str, timeouts: Timeouts) -> Result<Permit> {
        let permit = tokio::time::timeout_at(timeouts.deadline, self.descriptors.permit()).await;
        permit.map_err(|_| {
            let seconds = timeouts.total.as_secs_f64();
            let why = format!(
                " within {seconds:.1} s (total_timeout): this process has too many open files, and no other request \
                 ended; raise the limit (ulimit -n)"
            );
            ErrorKind::Timeout(format!("no connection to {}{why}", self.peer(host))).into()
        })
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
        permit: Permit,
        head: &RequestHead,
        body: &[u8],
        timeouts: Timeouts,
    ) -> std::result::Result<Response, (Permit, Failure)> {
        let patience = timeouts.patience();
        let broken = match connection.exchange(head, body, patience).await {
            Ok(answer) => {
                let idle = answer.keep_alive.then(|| Arc::clone(&self.idle));
                let lease = Lease { connection, host: Arc::clone(host), idle, permit };
                let body = Body::new(lease, Rest::of(answer.framing), patience);
                return Ok(Response { status: answer.status, headers: answer.headers, body, secrets: None });
            }
            Err(broken) => broken,
        };
        let peer = self.peer(host);
        let (kind, stale) = match broken {
            Broken::Silent => {
                let seconds = timeouts.read.as_secs_f64();
                (ErrorKind::Timeout(format!("no answer from {peer} for {seconds:.1} s")), false)
            }
            Broken::Late => {
                let seconds = timeouts.total.as_secs_f64();
                let text = format!("{peer} had not answered when total_timeout ({seconds:.1} s) was over");
                (ErrorKind::Timeout(text), false)
            }
            Broken::NotHttp(what) => (ErrorKind::InvalidReply(format!("{peer} does not speak HTTP: {what}")), false),
            Broken::Lost { cause, unanswered } => {
                let text = format!("the connection to {peer} broke before an answer arrived: {cause}");
                (ErrorKind::Transport(text), unanswered && head.is_repeatable())
            }
        };
        Err((permit, Failure { error: kind.into(), stale }))
    }

    async fn connect_within(&self, host: &str, timeouts: Timeouts) -> std::result::Result<Connection, NoConnection> {
        let limit = Instant::now() + timeouts.connect;
        let earlier = timeouts.deadline.min(limit);
        let connecting = self.connect(host, Timeouts { deadline: earlier, ..timeouts });
        tokio::time::timeout_at(earlier, connecting).await.unwrap_or_else(|_| {
            let (seconds, setting) = if timeouts.deadline < limit {
                (timeouts.total.as_secs_f64(), "total_timeout")
            } else {
                (timeouts.connect.as_secs_f64(), "connect_timeout")
            };
            Err(self.no_connection(host, &format!(" within {seconds:.1} s ({setting}): no answer")).into())
        })
    }

    async fn connect(&self, host: &str, timeouts: Timeouts) -> std::result::Result<Connection, NoConnection> {
        let refused = |error: &dyn std::error::Error| self.unreachable(host, error);
        // A literal IPv6 address stands in brackets in a URL, and without them everywhere else.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let proxy = self.proxy(host);
        let (peer, port) = proxy.map_or((address, self.port), |proxy| (proxy.host(), proxy.port()));
        let stream = self.addresses.connect(peer, port).await.map_err(|error| {
            if Descriptors::exhausted(&error) {
                NoConnection::Descriptors(self.no_descriptor(host, &error))
            } else {
                refused(&error).into()
            }
        })?;
        let counted = self.descriptors.opened(&stream);
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let stream = match proxy {
                    Some(proxy) => self.tunnel(proxy, host, stream, timeouts).await?,
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
        Ok(Connection::new(stream).counted(counted))
    }

    fn unreachable(&self, host: &str, cause: &dyn fmt::Display) -> Error {
        self.no_connection(host, &format!(": {cause}"))
    }

    fn no_descriptor(&self, host: &str, cause: &std::io::Error) -> Error {
        let hint = "raise the limit of open files (ulimit -n), or close files that the program has open";
        ErrorKind::Connect(format!("no connection to {}: {cause}; {hint}", self.peer(host))).into()
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
    async fn tunnel(&self, proxy: &Proxy, host: &str, stream: TcpStream, timeouts: Timeouts) -> Result<TcpStream> {
        let target = format!("{host}:{}", self.port);
        let mut head = RequestHead::new(Method::CONNECT, &target);
        head.header("host", target.as_bytes());
        if let Some(authorization) = proxy.authorization() {
            head.header("proxy-authorization", authorization.as_bytes());
        }
        let mut connection = Connection::new(Stream::Plain(stream));
        let answer = connection.exchange(&head, &[], timeouts.patience()).await.map_err(|broken| match broken {
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
        "it wants a user name and a password: OssConfig(proxy=\"http://USER:PASSWORD@HOST:PORT\")".to_owned()
    } else {
        format!("let it pass requests to this host, or {}", proxy.way_around())
    };
    ErrorKind::Proxy(format!("the proxy {proxy} refused a request to {host} with {status}; {remedy}")).into()
}

/// A success that the service did not send, such as the page on which a proxy wants a user to log in.
pub(crate) fn answered_by_proxy(proxy: &Proxy, host: &str, status: StatusCode) -> Error {
    let text = format!(
        "the answer to a request to {host} through the proxy {proxy} has no request id of OSS (status {status}): it \
         comes from the proxy or from what answers behind it; let it pass requests to this host, or {}",
        proxy.way_around()
    );
    ErrorKind::Proxy(text).into()
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
