//! Connections: made, kept alive and used again.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    config::ClientConfig,
    error::{Error, ErrorKind, Result},
    http::{Body, Response, UploadBody, root_cause},
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

/// Idle connections by host, the one used last on top: it is the likeliest to be still open.
#[derive(Default)]
struct IdleConnections(Mutex<HashMap<String, Vec<IdleConnection>>>);

type IdleConnection = (SendRequest<UploadBody>, Instant);

/// A connection while a response is being received over it.
pub(crate) struct Lease {
    sender: SendRequest<UploadBody>,
    host: String,
    idle: Arc<IdleConnections>,
}

impl Lease {
    /// Makes the connection available to the next request.
    pub(crate) fn give_back(self) {
        if !self.sender.is_closed() {
            let mut idle = lock(&self.idle.0);
            idle.entry(self.host).or_default().push((self.sender, Instant::now()));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lease({})", self.host)
    }
}

/// When a request body last moved.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    start: Instant,
    last_millis: Arc<AtomicU64>,
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), last_millis: Arc::new(AtomicU64::new(0)) }
    }

    pub(crate) fn mark(&self) {
        self.last_millis.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_millis.load(Ordering::Relaxed))
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
            port: config.endpoint.port_or_default(),
            tls: if config.endpoint.is_tls() { Some(tls::configure(config)?) } else { None },
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
            idle: Arc::default(),
        })
    }

    /// Sends one request and waits for the head of its response.
    pub(crate) async fn exchange(
        &self,
        host: &str,
        head: &http::Request<()>,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Response> {
        while let Some(sender) = self.reuse(host).await {
            match self.send(host, sender, head, body, deadline).await {
                Err(Failure { stale: true, error }) => {
                    tracing::debug!(host, %error, "an idle connection had been closed");
                }
                Err(failure) => return Err(failure.error),
                Ok(response) => return Ok(response),
            }
        }
        let limit = deadline.min(Instant::now() + self.connect_timeout);
        let sender = match tokio::time::timeout_at(limit, self.connect(host)).await {
            Ok(connected) => connected?,
            Err(_) => {
                let seconds = self.connect_timeout.as_secs_f64();
                let text = format!("no connection to {host}:{} within {seconds:.1} s", self.port);
                return Err(ErrorKind::Connect(text).into());
            }
        };
        self.send(host, sender, head, body, deadline).await.map_err(|failure| failure.error)
    }

    async fn reuse(&self, host: &str) -> Option<SendRequest<UploadBody>> {
        loop {
            let (mut sender, since) = lock(&self.idle.0).get_mut(host)?.pop()?;
            if since.elapsed() < IDLE_LIMIT && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn send(
        &self,
        host: &str,
        mut sender: SendRequest<UploadBody>,
        head: &http::Request<()>,
        body: &Bytes,
        deadline: Instant,
    ) -> std::result::Result<Response, Failure> {
        let progress = Progress::new();
        let (parts, ()) = head.clone().into_parts();
        let request = http::Request::from_parts(parts, UploadBody::new(body.clone(), progress.clone()));
        let mut answer = std::pin::pin!(sender.send_request(request));
        let answer = loop {
            let limit = deadline.min(progress.last() + self.read_timeout);
            match tokio::time::timeout_at(limit, &mut answer).await {
                Ok(answer) => break answer,
                // The body may have moved meanwhile, which moves the limit.
                Err(_) if Instant::now() < deadline.min(progress.last() + self.read_timeout) => {}
                Err(_) => {
                    let seconds = self.read_timeout.as_secs_f64();
                    let text = format!("no answer from {host}:{} for {seconds:.1} s", self.port);
                    return Err(Failure { error: ErrorKind::Timeout(text).into(), stale: false });
                }
            }
        };
        match answer {
            Ok(answer) => {
                let (parts, incoming) = answer.into_parts();
                let lease = Lease { sender, host: host.to_owned(), idle: Arc::clone(&self.idle) };
                let body = Body::new(incoming, lease, self.read_timeout, deadline);
                Ok(Response { status: parts.status, headers: parts.headers, body })
            }
            Err(error) => {
                let text = format!(
                    "the connection to {host}:{} broke before an answer arrived: {}",
                    self.port,
                    root_cause(&error)
                );
                // A request that changes something each time must be known to have been sent twice.
                let repeatable = head.method() != http::Method::POST;
                let stale = error.is_canceled() || (repeatable && (error.is_incomplete_message() || error.is_closed()));
                let kind = if error.is_parse() {
                    ErrorKind::InvalidReply(format!("{host}:{} does not speak HTTP: {error}", self.port))
                } else {
                    ErrorKind::Transport(text)
                };
                Err(Failure { error: kind.into(), stale })
            }
        }
    }

    async fn connect(&self, host: &str) -> Result<SendRequest<UploadBody>> {
        let refused = |error: &dyn std::error::Error| {
            let text = format!("no connection to {host}:{}: {}", self.port, root_cause(error));
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
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(sender)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transport").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What is wrong with the server's certificate, where that is why a handshake failed.
fn certificate_fault(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(fault) => Some(fault.to_string()),
        _ => None,
    }
}

/// A TCP connection, with or without TLS.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
