//! Connections: made, kept alive and used again.

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

use http::Method;
use oss_protocol::endpoint::Endpoint;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

pub(crate) use self::head::RequestHead;
pub use self::{body::Body, response::Response};
use self::{
    connection::{Broken, Connection, Patience, Rest},
    stream::Stream,
};
use crate::{
    config::ClientConfig,
    error::{Error, ErrorKind, Result},
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
    connect_timeout: Duration,
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
        let place = hosts.iter().position(|(known, _)| *known == host).unwrap_or_else(|| {
            hosts.push((host, VecDeque::new()));
            hosts.len() - 1
        });
        let idle = &mut hosts[place].1;
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
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
            idle: Arc::default(),
        })
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
        let patience = Patience { read_timeout: self.read_timeout, deadline };
        let broken = match connection.exchange(head, body, patience).await {
            Ok(answer) => {
                let idle = answer.keep_alive.then(|| Arc::clone(&self.idle));
                let lease = Lease { connection, host: Arc::clone(host), idle };
                let body = Body::new(lease, Rest::of(answer.framing), patience);
                return Ok(Response { status: answer.status, headers: answer.headers, body });
            }
            Err(broken) => broken,
        };
        let port = self.port;
        let (kind, stale) = match broken {
            Broken::Silent => {
                let seconds = self.read_timeout.as_secs_f64();
                (ErrorKind::Timeout(format!("no answer from {host}:{port} for {seconds:.1} s")), false)
            }
            Broken::NotHttp(what) => {
                (ErrorKind::InvalidReply(format!("{host}:{port} does not speak HTTP: {what}")), false)
            }
            Broken::Lost { cause, unanswered } => {
                let text = format!("the connection to {host}:{port} broke before an answer arrived: {cause}");
                // A request that changes something each time must be known to have been sent twice.
                (ErrorKind::Transport(text), unanswered && head.method() != Method::POST)
            }
        };
        Err(Failure { error: kind.into(), stale })
    }

    async fn connect_within(&self, host: &str, deadline: Instant) -> Result<Connection> {
        let limit = deadline.min(Instant::now() + self.connect_timeout);
        tokio::time::timeout_at(limit, self.connect(host)).await.unwrap_or_else(|_| {
            let seconds = self.connect_timeout.as_secs_f64();
            let text = format!("no connection to {host}:{} within {seconds:.1} s", self.port);
            Err(ErrorKind::Connect(text).into())
        })
    }

    async fn connect(&self, host: &str) -> Result<Connection> {
        let refused = |error: &dyn std::error::Error| {
            let text = format!("no connection to {host}:{}: {}", self.port, error);
            Error::new(ErrorKind::Connect(text))
        };
        // A literal IPv6 address stands in brackets in a URL, and without them everywhere else.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((address, self.port)).await.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let name = ServerName::try_from(address.to_owned()).map_err(|error| refused(&error))?;
                let connector = TlsConnector::from(Arc::clone(tls));
                let stream =
                    connector.connect(name, stream).await.map_err(|error| match certificate_fault(&error) {
                        Some(fault) => {
                            let text = format!("{host}:{} is not trusted: {fault}; see ca_bundle", self.port);
                            ErrorKind::Untrusted(text).into()
                        }
                        None => refused(&error),
                    })?;
                Stream::Tls(Box::new(stream))
            }
        };
        Ok(Connection::new(stream))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transport").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What is wrong with the server's certificate, if a handshake failed because of it.
fn certificate_fault(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => Some(fault.to_string()),
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
