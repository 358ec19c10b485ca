//! The socket: accepting connections, answering requests, stopping.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, header as standard};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::region::validate_region;
use oss_protocol::{header, uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::auth::Authenticator;
use crate::config::EmulatorConfig;
use crate::error::StartError;
use crate::fault::{AnswerBody, Effects, Ending, Faults, Line, Pace, Wire};
use crate::framing::{Framed, Framing};
use crate::import::import;
use crate::limits::RateLimit;
use crate::listen::listen;
use crate::metrics;
use crate::ops::{self, Context};
use crate::record::{RequestLog, RequestRecord};
use crate::request::{Arrival, Request, Target};
use crate::request_ids::RequestIds;
use crate::response::{Response, ServiceError};
use crate::route::{Operation, route};
use crate::store::{Acl, OpenError, Placement, Store, StoreError};
use crate::tls::Tls;
use crate::traffic;

/// How long a connection may take to send the head of a request, and how long it may stay idle: the service closes idle
/// connections after about a minute.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a TLS handshake may take, which is two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    context: Context,
    domain: Option<String>,
    authenticator: Authenticator,
    log: RequestLog,
    faults: Faults,
    admin: Option<Admin>,
    request_ids: RequestIds,
    rate_limit: Option<RateLimit>,
    tls: Option<Tls>,
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
        let tls = match &config.tls {
            None => None,
            Some(certificate) => Some(Tls::prepare(certificate, &config.host, config.domain.as_deref())?),
        };
        let address = if config.host.contains(':') {
            format!("[{}]:{}", config.host.trim_matches(['[', ']']), config.port)
        } else {
            format!("{}:{}", config.host, config.port)
        };
        // The socket comes first: a second emulator started by mistake must not get as far as the directory of the first.
        let listener = listen(&address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressTaken { address: address.clone() },
            _ => StartError::Listen { address: address.clone(), source },
        })?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Listen { address, source })?;
        let store = Arc::new(open_store(&config)?);
        for name in &config.buckets {
            if let Err(error) = create_bucket(&store, name, config.block_public_access).await
                && let Some(error) = StartError::from_store(name, error)
            {
                return Err(error);
            }
        }
        import_files(&store, &config).await?;
        let faults = Faults::default();
        for rule in config.faults.iter().cloned() {
            faults.add(rule).map_err(|error| StartError::Fault { reason: error.to_string() })?;
        }
        let log = RequestLog::default();
        let admin = config.admin_token.clone().map(|token| Admin::new(token, faults.clone(), log.clone()));
        let authenticator = Authenticator::new(&config)?;
        let shared = Shared {
            authenticator,
            context: Context {
                store,
                etag: config.etag,
                region: config.region,
                address: local_addr,
                scheme: if tls.is_some() { "https" } else { "http" },
                restore_delay: config.restore_delay,
                block_public_access: config.block_public_access,
            },
            domain: config.domain,
            log,
            faults,
            admin,
            request_ids: RequestIds::new(),
            rate_limit: config.requests_per_second.map(RateLimit::new),
            tls,
        };
        Ok(Self { listener, local_addr, shared: Arc::new(shared) })
    }

    /// The address listened on, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The certificates, in PEM form, that a client has to trust to reach a server that speaks TLS.
    pub fn trusted_certificates(&self) -> Option<&str> {
        self.shared.tls.as_ref().map(|tls| tls.trusted.as_str())
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
        format!("{}://{address}", self.shared.context.scheme)
    }

    /// The log of requests. The handle can still be used after the server has stopped.
    pub fn request_log(&self) -> RequestLog {
        self.shared.log.clone()
    }

    /// The faults, which can be changed at any time.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
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
                    Ok((stream, source)) => {
                        let shared = Arc::clone(&self.shared);
                        connections.spawn(serve_connection(stream, source, shared, stopped.clone()));
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

async fn create_bucket(store: &Arc<Store>, name: &str, block_public_access: bool) -> Result<(), StoreError> {
    let configurations = ops::new_bucket_configurations(block_public_access)?;
    store.create_bucket(name, Acl::Private, Placement::default(), configurations).await
}

fn open_store(config: &EmulatorConfig) -> Result<Store, StartError> {
    let Some(root) = &config.root else { return Ok(Store::in_memory(config.memory_limit, config.quota)) };
    Store::open(root, config.fsync, config.quota).map_err(|error| match error {
        OpenError::InUse => StartError::RootInUse { root: root.clone() },
        other => StartError::RootUnusable { root: root.clone(), reason: other.to_string() },
    })
}

async fn import_files(store: &Store, config: &EmulatorConfig) -> Result<(), StartError> {
    let Some(directory) = &config.import else { return Ok(()) };
    let failed = |reason: String| StartError::Import { directory: directory.clone(), reason };
    let [name] = config.buckets.as_slice() else {
        return Err(failed("name exactly one bucket, which the files go to".to_owned()));
    };
    let bucket = store.bucket(name).ok_or_else(|| failed(format!("there is no bucket {name}")))?;
    import(store, &bucket, config.etag, directory).await.map_err(|error| failed(error.to_string()))
}

async fn serve_connection(
    stream: TcpStream,
    source: SocketAddr,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are written whole; waiting to fill a packet would only delay the last one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let line = Arc::new(Line::default());
    let stream = Wire::new(stream, Arc::clone(&line));
    let arrival = Arrival { source, secure: shared.tls.is_some() };
    let Some(tls) = &shared.tls else { return serve_http(stream, arrival, line, shared, stopped).await };
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor.accept(stream));
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        _ = stopped.changed() => return,
    };
    match accepted {
        Ok(Ok(stream)) => serve_http(stream, arrival, line, shared, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    arrival: Arrival,
    line: Arc<Line>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    let framing = Arc::new(Framing::default());
    let stream = Framed::new(stream, Arc::clone(&framing));
    let channel = Arc::new(Channel { shared, arrival, line: Arc::clone(&line), framing });
    let service = service_fn(move |request| {
        // With more than a pointer and the request, the whole future is copied before it runs.
        let channel = Arc::clone(&channel);
        async move { Ok::<_, Infallible>(answer(&channel, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            // An answer that a fault delays would not arrive in time.
            if line.is_held() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(channel: &Channel, request: hyper::Request<Incoming>) -> http::Response<AnswerBody> {
    let started = Instant::now();
    let Channel { shared, line, .. } = channel;
    line.clear();
    let (parts, body) = request.into_parts();
    let body = match beside_the_service(shared, &parts, body).await {
        Ok(response) => return response,
        Err(body) => body,
    };
    let in_flight = shared.log.arrive();
    let request_id = shared.request_ids.next();
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
        concurrency: in_flight.concurrency,
        faults: Vec::new(),
    };
    let mut effects = Effects::default();
    let origin = parts.headers.contains_key(standard::ORIGIN).then(|| (parts.method.clone(), parts.headers.clone()));
    let head = parts.method == Method::HEAD;
    let mut body = Some(body);
    let expects = parts.headers.contains_key(standard::EXPECT);
    let (host, result) = match Target::parse(&parts, shared.domain.as_deref()) {
        Ok(mut target) => {
            record.bucket.clone_from(&target.bucket);
            record.key.clone_from(&target.key);
            let host = std::mem::take(&mut target.host);
            (host, perform(channel, parts, target, &mut body, &mut record.operation, &mut effects).await)
        }
        Err(error) => (String::new(), Err(error)),
    };
    // If a client asked whether to send its body, the answer means no. Any other client is sending already.
    if let (Err(_), Some(body), false) = (&result, body, expects) {
        drain(body).await;
    }
    if !effects.delay.is_zero() {
        line.delay(effects.delay).await;
    }
    let mut response = match result {
        Ok(Performed::Answer(response)) => response,
        Ok(Performed::Nothing(ending)) => {
            record.request_id = request_id;
            record.faults = effects.faults;
            shared.log.push(record);
            match line.end_now(ending).await {}
        }
        Err(error) => {
            record.error_code = Some(error.code().as_str().to_owned());
            let mut response = error.into_response(&request_id, &host, head);
            if let Some(status) = effects.status() {
                *response.status_mut() = status;
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(standard::SERVER, HeaderValue::from_static("AliyunOSS"));
    headers.insert(header::SERVER_TIME, HeaderValue::from(started.elapsed().as_millis() as u64));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(header::REQUEST_ID, value);
    }
    if let (Some((method, sent)), Some(bucket)) = (origin, &record.bucket) {
        response.headers_mut().extend(ops::answer_headers(&shared.context, bucket, &method, &sent));
    }
    effects.change_headers(&mut response);
    record.request_id = request_id;
    record.status = response.status().as_u16();
    let size = response.body().len();
    record.response_bytes = size;
    record.faults.clone_from(&effects.faults);
    shared.log.push(record);
    if let Some(ending) = effects.ending_instead(size) {
        match line.end_now(ending).await {}
    }
    response.map(|content| {
        let mut body = AnswerBody::new(content, Some(in_flight));
        effects.spoil(&mut body, size, line);
        body
    })
}

/// Answers requests of those who run the server; gives the body of any other back.
async fn beside_the_service(
    shared: &Shared,
    parts: &http::request::Parts,
    body: Incoming,
) -> Result<http::Response<AnswerBody>, Incoming> {
    let response = match &shared.admin {
        Some(admin) if Admin::is_addressed(parts.uri.path(), &parts.headers) => admin.answer(parts, body).await,
        _ => metrics::answer(&parts.method, parts.uri.path(), &shared.log).ok_or(body)?,
    };
    Ok(response.map(|body| AnswerBody::new(body, None)))
}

/// The result of a request that was not refused.
enum Performed {
    Answer(Response),
    /// A fault ended it before it was carried out.
    Nothing(Ending),
}

/// A connection, as its requests see it.
struct Channel {
    shared: Arc<Shared>,
    arrival: Arrival,
    line: Arc<Line>,
    framing: Arc<Framing>,
}

/// Routes, authenticates and performs a request. An unwanted body stays unread.
async fn perform(
    channel: &Channel,
    parts: http::request::Parts,
    target: Target,
    body: &mut Option<Incoming>,
    operation: &mut Option<Operation>,
    effects: &mut Effects,
) -> Result<Performed, ServiceError> {
    let shared = &channel.shared;
    let (bucket, key) = (target.bucket.as_deref(), target.key.as_deref());
    let routed = route(&parts.method, bucket, key, &target.query, &parts.headers)?;
    *operation = Some(routed);
    if channel.framing.is_ambiguous(&parts) {
        return Err(ServiceError::new(ErrorCode::InvalidRequest)
            .with_message("Content-Length and Transfer-Encoding exclude each other."));
    }
    *effects = shared.faults.meet(routed, &target, &parts.headers);
    if let Some(pace) = &effects.pace {
        channel.line.pace(Arc::clone(pace));
    }
    if let Some(ending) = effects.ending_before() {
        return Ok(Performed::Nothing(ending));
    }
    if let Some(limit) = &shared.rate_limit {
        limit.take()?;
    }
    if let Some(refusal) = effects.refusal() {
        return Err(refusal);
    }
    let sender = shared.authenticator.check(&parts, &target, effects.now()).map_err(|refusal| {
        // The service looks for the bucket first, so that a missing one is not taken for a wrong key.
        match target.bucket.as_deref() {
            Some(bucket)
                if !matches!(routed, Operation::PutBucket | Operation::PutBucketAcl)
                    && shared.context.store.bucket(bucket).is_none() =>
            {
                ServiceError::no_such_bucket(bucket)
            }
            _ => refusal,
        }
    })?;
    if let Some(rate) = traffic::limit(&parts.headers, &target.query)?
        && effects.pace.as_ref().is_none_or(|pace| rate < pace.bytes_per_second())
    {
        channel.line.pace(Arc::new(Pace::new(rate)));
    }
    let mut request = Request::new(parts, target, sender, channel.arrival, body);
    ops::perform(&shared.context, routed, &mut request).await.map(Performed::Answer)
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
