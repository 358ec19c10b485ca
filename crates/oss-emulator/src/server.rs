//! The socket: accepting connections, answering requests, stopping.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, header as standard};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use oss_protocol::region::validate_region;
use oss_protocol::{header, uri};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::auth::Authenticator;
use crate::config::EmulatorConfig;
use crate::error::StartError;
use crate::ops::{self, Context};
use crate::record::{RequestLog, RequestRecord};
use crate::request::{Request, Target};
use crate::response::{Response, ServiceError};
use crate::route::{Operation, route};
use crate::store::{Acl, OpenError, Store};

/// How long a connection may take to send the head of a request, and how long it may stay idle: the service closes idle
/// connections after about a minute.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a stopping server waits for requests under way.
const GRACE: Duration = Duration::from_secs(5);

/// How much of the body of a refused request is read before the answer is sent. A client that is still sending would
/// otherwise see a reset connection instead of the error. A part of the usual size fits.
const DRAIN_LIMIT: u64 = 64 * 1024 * 1024;

/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after the system refused to accept a connection, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server that listens and has not begun to answer.
#[derive(Debug)]
pub struct Emulator {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    context: Context,
    domain: Option<String>,
    authenticator: Authenticator,
    log: RequestLog,
    request_ids: RequestIds,
}

impl Emulator {
    /// Opens the store and the socket. Connections are accepted by the operating system from here on and answered by
    /// [`serve`](Self::serve).
    pub async fn bind(config: EmulatorConfig) -> Result<Self, StartError> {
        if validate_region(&config.region).is_err() {
            return Err(StartError::Region { region: config.region });
        }
        for name in &config.buckets {
            uri::validate_bucket(name)
                .map_err(|error| StartError::BucketName { name: name.clone(), reason: error.to_string() })?;
        }
        let address = if config.host.contains(':') {
            format!("[{}]:{}", config.host.trim_matches(['[', ']']), config.port)
        } else {
            format!("{}:{}", config.host, config.port)
        };
        // The socket comes first: a second emulator started by mistake must not get as far as the directory of the first.
        let listener = TcpListener::bind(&address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressTaken { address: address.clone() },
            _ => StartError::Listen { address: address.clone(), source },
        })?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Listen { address, source })?;
        let store = Arc::new(open_store(&config)?);
        for name in &config.buckets {
            if let Err(error) = store.create_bucket(name, Acl::Private, "Standard").await
                && let Some(error) = StartError::from_store(name, error)
            {
                return Err(error);
            }
        }
        let shared = Shared {
            authenticator: Authenticator::new(&config),
            context: Context { store, etag: config.etag, region: config.region, address: local_addr },
            domain: config.domain,
            log: RequestLog::default(),
            request_ids: RequestIds::new(),
        };
        Ok(Self { listener, local_addr, shared: Arc::new(shared) })
    }

    /// The address listened on, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address as an endpoint, such as `http://127.0.0.1:9400`. An unspecified address is given as loopback.
    pub fn url(&self) -> String {
        let mut address = self.local_addr;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}")
    }

    /// What has been asked so far. The handle stays good while the server runs and after.
    pub fn request_log(&self) -> RequestLog {
        self.shared.log.clone()
    }

    /// Answers requests until `shutdown` completes, then closes idle connections, gives those with a request under way five
    /// seconds, and returns.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut shutdown = pin!(shutdown);
        let (stopping, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(stream, Arc::clone(&self.shared), stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(self.listener);
        drop(stopping);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_ended).await.is_err() {
            connections.shutdown().await;
        }
        Ok(())
    }
}

fn open_store(config: &EmulatorConfig) -> Result<Store, StartError> {
    let Some(root) = &config.root else { return Ok(Store::in_memory()) };
    Store::open(root, config.fsync).map_err(|error| match error {
        OpenError::InUse => StartError::RootInUse { root: root.clone() },
        other => StartError::RootUnusable { root: root.clone(), reason: other.to_string() },
    })
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    // Answers are written whole; waiting to fill a packet would only delay the last one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(shared: &Shared, request: hyper::Request<Incoming>) -> Response {
    let started = Instant::now();
    let request_id = shared.request_ids.next();
    let (parts, body) = request.into_parts();
    let mut record = RequestRecord {
        method: parts.method.clone(),
        operation: None,
        bucket: None,
        key: None,
        range: parts.headers.get(standard::RANGE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        status: 0,
        error_code: None,
        response_bytes: 0,
        request_id: String::new(),
    };
    let head = parts.method == Method::HEAD;
    let mut body = Some(body);
    let expects = parts.headers.contains_key(standard::EXPECT);
    let (host, result) = match Target::parse(&parts, shared.domain.as_deref()) {
        Ok(mut target) => {
            record.bucket.clone_from(&target.bucket);
            record.key.clone_from(&target.key);
            let host = std::mem::take(&mut target.host);
            (host, perform(shared, parts, target, &mut body, &mut record.operation).await)
        }
        Err(error) => (String::new(), Err(error)),
    };
    // A client that asked whether to send its body is told no by the answer; any other is sending already.
    if let (Err(_), Some(body), false) = (&result, body, expects) {
        drain(body).await;
    }
    let mut response = match result {
        Ok(response) => response,
        Err(error) => {
            record.error_code = Some(error.code().as_str().to_owned());
            error.into_response(&request_id, &host, head)
        }
    };
    let headers = response.headers_mut();
    headers.insert(standard::SERVER, HeaderValue::from_static("AliyunOSS"));
    headers.insert(header::SERVER_TIME, HeaderValue::from(started.elapsed().as_millis() as u64));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(header::REQUEST_ID, value);
    }
    record.request_id = request_id;
    record.status = response.status().as_u16();
    record.response_bytes = response.body().len();
    shared.log.push(record);
    response
}

/// Routes, authenticates and performs. A body that was not wanted stays where it is.
async fn perform(
    shared: &Shared,
    parts: http::request::Parts,
    target: Target,
    body: &mut Option<Incoming>,
    operation: &mut Option<Operation>,
) -> Result<Response, ServiceError> {
    let (bucket, key) = (target.bucket.as_deref(), target.key.as_deref());
    let routed = route(&parts.method, bucket, key, &target.query, &parts.headers)?;
    *operation = Some(routed);
    let anonymous = shared.authenticator.check(&parts, &target)?;
    let mut request = Request::new(parts, target, anonymous, body);
    ops::perform(&shared.context, routed, &mut request).await
}

/// Reads what a refused client is still sending, within bounds.
async fn drain(mut body: Incoming) {
    let read = async {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
            if left == 0 {
                break;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, read).await.is_err() {
        tracing::debug!("a refused client is slow to finish its body");
    }
}

/// Makes request identifiers: 24 hexadecimal digits, different in every run.
#[derive(Debug)]
struct RequestIds {
    prefix: u32,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        Self { prefix: rand::random(), next: AtomicU64::new(1) }
    }

    fn next(&self) -> String {
        format!("{:08X}{:016X}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
