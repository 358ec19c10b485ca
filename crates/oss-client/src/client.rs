//! The one seam that every operation goes through.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, StatusCode, header};
use oss_protocol::{
    canonical,
    endpoint::Endpoint,
    error_code::ErrorCode,
    header as oss_header,
    sign::{RequestTarget, SignatureVersion, v1, v4},
    time,
    xml::error::ErrorBody,
};
use tokio::time::Instant;

use crate::{
    advice::{advice, advice_about_condition, advice_without_body},
    attempt::{Attempt, Onlookers, Trace, Watch, is_logged},
    buffer::BufferPool,
    concurrency::Concurrency,
    config::ClientConfig,
    credentials::{CredentialProvider, Secrets, Signer, Signing},
    error::{Error, ErrorKind, Result},
    memory::Memory,
    metrics::{METRICS, OPERATIONS, Operation},
    pool::{Pool, ProcessLimits},
    proxy::Proxy,
    request::Request,
    retry::RetryBudget,
    sizes::Sizes,
    sync::lock,
    transport::{RequestHead, Response, Timeouts, answered_by_proxy, proxy_refused},
};

/// Most bytes of an error body. It is a few hundred bytes; a longer body is not an error.
const ERROR_BODY_LIMIT: usize = 64 << 10;

/// Sends requests to one endpoint. Cheap to clone; clones share connections, credentials and buffers.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// Collects what it does, for one span of the program.
    trace: Option<Arc<Trace>>,
}

#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    pool: Arc<Pool>,
    sizes: Sizes,
    /// The address of the last request: the next one mostly goes to the same bucket.
    address: Mutex<Option<Arc<Address>>>,
}

/// How the objects of a bucket are reached.
#[derive(Debug)]
struct Address {
    bucket: Option<String>,
    /// The value of the `Host` header.
    authority: String,
    /// The host to connect to, or to ask the proxy for.
    host: Arc<str>,
    /// What a proxy needs in front of a path to forward the request; empty without a proxy.
    origin: String,
}

impl Client {
    /// Makes a client that shares nothing; nothing is sent yet.
    pub fn new(config: ClientConfig, provider: Arc<dyn CredentialProvider>) -> Result<Self> {
        let pool = Pool::new(&config, provider, ProcessLimits::default())?;
        Ok(Self::of_pool(config, Arc::new(pool)))
    }

    /// Makes a client of a pool that was made for the same endpoint, region, certificates and proxy.
    pub fn of_pool(config: ClientConfig, pool: Arc<Pool>) -> Self {
        pool.join(&config);
        let shared = Shared { config, pool, sizes: Sizes::default(), address: Mutex::default() };
        Self { shared: Arc::new(shared), trace: None }
    }

    /// The same client, whose attempts are collected in `trace`.
    #[must_use]
    pub fn traced(&self, trace: Arc<Trace>) -> Self {
        Self { shared: Arc::clone(&self.shared), trace: Some(trace) }
    }

    /// The configuration the client was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Whether objects are files of this machine.
    pub fn is_local(&self) -> bool {
        self.config().endpoint.is_none()
    }

    /// Memory that bodies are received into.
    pub fn buffers(&self) -> &BufferPool {
        &self.shared.pool.buffers
    }

    /// The bytes that all streams of this process hold.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.shared.pool.limits.memory
    }

    /// How many requests the streams of its pool keep in flight.
    pub(crate) fn concurrency(&self) -> &Arc<Concurrency> {
        &self.shared.pool.concurrency
    }

    /// The sizes of the objects that its streams have fetched.
    pub(crate) fn sizes(&self) -> &Sizes {
        &self.shared.sizes
    }

    /// The time to the first byte of the quickest range so far, or `None` before the first. It is the latency of the
    /// service; slower ranges also waited for each other.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        let microseconds = self.shared.pool.first_byte.load(Ordering::Relaxed);
        (microseconds < u64::MAX).then(|| Duration::from_micros(microseconds))
    }

    pub(crate) fn note_first_byte(&self, waited: Duration) {
        let microseconds = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.shared.pool.first_byte.fetch_min(microseconds, Ordering::Relaxed);
    }

    /// Signs and sends a request, retrying what may be retried, and returns the head of a successful response.
    ///
    /// The caller retries a failure while the body is received; see [`crate::ops::get`] for how reads resume.
    pub async fn send(&self, request: &Request) -> Result<Response> {
        self.send_within(request, &mut self.budget()).await
    }

    pub(crate) fn budget(&self) -> RetryBudget {
        RetryBudget::new(&self.shared.config)
    }

    /// [`Client::send`] within a budget that other requests of the same operation draw on too.
    pub(crate) async fn send_within(&self, request: &Request, budget: &mut RetryBudget) -> Result<Response> {
        loop {
            let error = match self.attempt(request, budget).await {
                Ok(response) => return Ok(response),
                Err(error) => error.on(request.bucket.as_deref(), request.key.as_deref()),
            };
            if error.is_throttle() || matches!(error.kind(), ErrorKind::Timeout(_)) {
                self.shared.pool.concurrency.back_off();
            }
            budget.wait_after(error).await?;
        }
    }

    /// One attempt. If fresh credentials or a corrected clock cure a refusal, the request is sent again at once.
    async fn attempt(&self, request: &Request, budget: &mut RetryBudget) -> Result<Response> {
        loop {
            let signing = within(budget.deadline, self.shared.pool.credentials.signing()).await;
            let signing = signing.map_err(|error| budget.give_up(error))?;
            let signer = signing.signer();
            let (host, head, signature) = self.sign(request, signer)?;
            let operation = Operation::of(&request.method, request.key.is_some());
            let secrets = Secrets::new(signing.clone(), signature);
            let mut watch = self.watch(request, &host, operation, budget);
            let timeouts = Timeouts::new(self.config(), budget.deadline);
            let asked = Instant::now();
            let answer = self.shared.pool.transport.exchange(&host, &head, &request.body, timeouts).await;
            match &answer {
                Ok(_) => METRICS.answered(operation, asked.elapsed(), request.body.len()),
                Err(_) => METRICS.unanswered(operation),
            }
            let mut answer = answer.map_err(|error| failed(&mut watch, secrets.hidden_in(error)))?;
            let proxy = self.shared.pool.transport.forwarding_proxy(&host).filter(|_| is_foreign(&answer));
            if let Some(proxy) = proxy.filter(|_| answer.status.is_success()) {
                return Err(failed(&mut watch, answered_by_proxy(proxy, &host, answer.status)));
            }
            if answer.status == StatusCode::PARTIAL_CONTENT && !request.headers.contains_key(header::RANGE) {
                let text = "asked for everything, answered with a part (status 206); see what answers between here and \
                            the service";
                return Err(failed(&mut watch, ErrorKind::InvalidReply(text.to_owned()).into()));
            }
            if answer.status.is_success() {
                if let Some(mut watch) = watch {
                    budget.answered = Some(watch.answered(answer.status.as_u16(), answer.request_id(), &secrets));
                    answer.body.watch(watch);
                }
                answer.secrets = Some(secrets);
                return Ok(answer);
            }
            if let Some(proxy) = proxy.filter(|_| is_refusal(answer.status)) {
                return Err(failed(&mut watch, proxy_refused(proxy, &host, answer.status)));
            }
            // Boxed, because it is rare and would make each request's future larger.
            let (error, server_time) = Box::pin(read_error(answer, self.config())).await?;
            let mut error = secrets.hidden_in(error);
            if let Some(proxy) = proxy {
                error = error.explained(&format!("it came through the proxy {proxy}, and has no request id of OSS"));
            }
            let error = failed(&mut watch, error);
            if Box::pin(self.cured(&error, server_time, signer, budget)).await? {
                budget.record(&error);
                continue;
            }
            return Err(error);
        }
    }

    /// Follows the next attempt, if someone looks on.
    fn watch(
        &self,
        request: &Request,
        host: &Arc<str>,
        operation: Operation,
        budget: &mut RetryBudget,
    ) -> Option<Box<Watch>> {
        budget.answered = None;
        if self.shared.config.audit.is_none() && self.trace.is_none() && !is_logged() {
            return None;
        }
        let range = request.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let attempt = Attempt {
            operation: OPERATIONS[operation as usize],
            server: Arc::clone(host),
            port: self.config().endpoint.as_ref().map_or(0, Endpoint::port_or_default),
            bucket: request.bucket.clone(),
            key: request.key.clone(),
            range: range.map(str::to_owned),
            began: SystemTime::now(),
            first_byte: Duration::ZERO,
            total: Duration::ZERO,
            status: None,
            request_id: None,
            number: budget.number(),
            sent: request.body.len() as u64,
            received: 0,
            failure: None,
            cause: None,
        };
        let (audit, trace) = (self.shared.config.audit.clone(), self.trace.clone());
        Some(Watch::begin(attempt, Onlookers { audit, trace }))
    }

    /// Whether the cause of a refusal has been removed, so that the request is worth sending again at once.
    async fn cured(
        &self,
        error: &Error,
        server_time: Option<SystemTime>,
        signer: Option<&Signer>,
        budget: &mut RetryBudget,
    ) -> Result<bool> {
        match (error.code(), signer) {
            (Some(ErrorCode::RequestTimeTooSkewed), _) => {
                let Some(server_time) = server_time else { return Ok(false) };
                // Each refusal corrects the clock, since the time of an earlier one may have been wrong. Only after the
                // first is the request sent again at once.
                self.shared.pool.clock_offset.store(seconds_ahead(server_time), Ordering::Relaxed);
                Ok(!std::mem::replace(&mut budget.corrected_clock, true))
            }
            (
                Some(
                    ErrorCode::SecurityTokenExpired
                    | ErrorCode::InvalidSecurityToken
                    | ErrorCode::InvalidAccessKeyId
                    | ErrorCode::SignatureDoesNotMatch,
                ),
                Some(signer),
            ) if !budget.renewed_credentials => {
                budget.renewed_credentials = true;
                let renewal = self.shared.pool.credentials.renew_after_refusal(signer);
                within(budget.deadline, renewal).await
            }
            _ => Ok(false),
        }
    }

    /// The host to connect to, the head to send there, and the signature in it.
    fn sign(&self, request: &Request, signer: Option<&Signer>) -> Result<(Arc<str>, RequestHead, String)> {
        let config = &self.shared.config;
        let (bucket, key) = (request.bucket.as_deref(), request.key.as_deref());
        let endpoint = config.endpoint.as_ref().ok_or_else(|| {
            let text = "an empty endpoint stands for files of this machine, which are only read; give an endpoint";
            Error::new(ErrorKind::Config(text.to_owned())).on(bucket, key)
        })?;
        let mut path = endpoint.path(bucket, key);
        if !request.query.is_empty() {
            path.push('?');
            path.push_str(&canonical::format_query(&request.query));
        }
        let invalid = |why: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Config(format!("the request cannot be sent: {why}"))).on(bucket, key)
        };
        let address = self.address(endpoint, bucket);
        for (name, text, spaces) in
            [("path", &path, false), ("host", &address.authority, false), ("user agent", &config.user_agent, true)]
        {
            if !text.bytes().all(|byte| byte.is_ascii_graphic() || (spaces && byte == b' ')) {
                return Err(invalid(&format!("its {name} holds characters that no request may have: {text:?}")));
            }
        }
        path.insert_str(0, &address.origin);
        let mut head = RequestHead::new(request.method.clone(), &path);
        head.header("host", address.authority.as_bytes());
        if let Some(authorization) =
            self.shared.pool.transport.forwarding_proxy(&address.host).and_then(Proxy::authorization)
        {
            head.header("proxy-authorization", authorization.as_bytes());
        }
        head.header("user-agent", config.user_agent.as_bytes());
        if matches!(request.method, http::Method::PUT | http::Method::POST) {
            // OSS refuses a write without it, also an empty one.
            head.header("content-length", request.body.len().to_string().as_bytes());
        }
        let time = self.now();
        let target = RequestTarget { method: &request.method, bucket, key, query: &request.query };
        let mut signature = String::new();
        let (with_common, with_v1);
        let mut headers = &request.headers;
        if !config.headers.is_empty() {
            let mut all = config.headers.clone();
            all.extend(headers.clone());
            with_common = all;
            headers = &with_common;
        }
        match (signer, config.signature_version) {
            (Some(signer), SignatureVersion::V4) => {
                let signing_key = signer.signing_key(time, &config.region);
                let credentials = &signer.credentials;
                // Headers that are not always signed describe what is stored, or a user chose them.
                let writes = matches!(request.method, http::Method::PUT | http::Method::POST);
                let named = if writes { headers } else { &config.headers };
                let additional: Vec<&str> = named.keys().map(HeaderName::as_str).collect();
                let signer = v4::Signer { credentials, signing_key: &signing_key, time, additional: &additional };
                let added = v4::authorize(target, headers, &signer).map_err(|error| invalid(&error))?;
                for (name, value) in added.iter() {
                    head.header(name, value.as_bytes());
                    if name.eq_ignore_ascii_case("authorization") {
                        value.rsplit('=').next().unwrap_or_default().clone_into(&mut signature);
                    }
                }
            }
            (Some(signer), SignatureVersion::V1) => {
                let mut signed = headers.clone();
                v1::sign_headers(target, &mut signed, &signer.credentials, time).map_err(|error| invalid(&error))?;
                let authorization = signed.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let presented = authorization.and_then(|text| text.rsplit(':').next()).unwrap_or_default();
                presented.clone_into(&mut signature);
                with_v1 = signed;
                headers = &with_v1;
            }
            (None, _) => {}
        }
        if headers.contains_key(oss_header::FORBID_OVERWRITE) {
            head.not_repeatable();
        }
        for (name, value) in headers {
            head.header(name.as_str(), value.as_bytes());
        }
        Ok((Arc::clone(&address.host), head, signature))
    }

    /// The address of the bucket.
    fn address(&self, endpoint: &Endpoint, bucket: Option<&str>) -> Arc<Address> {
        let mut last = lock(&self.shared.address);
        match &*last {
            Some(address) if address.bucket.as_deref() == bucket => Arc::clone(address),
            _ => {
                let (authority, host) = (endpoint.authority(bucket), endpoint.connect_host(bucket));
                let forwarded = self.shared.pool.transport.forwarding_proxy(&host).is_some();
                let origin = if forwarded { format!("http://{authority}") } else { String::new() };
                let bucket = bucket.map(str::to_owned);
                let address = Arc::new(Address { bucket, authority, host: host.into(), origin });
                Arc::clone(last.insert(address))
            }
        }
    }

    /// The access key to sign with.
    pub(crate) async fn signing(&self) -> Result<Signing> {
        within(self.budget().deadline, self.shared.pool.credentials.signing()).await
    }

    /// The time as the server sees it.
    pub(crate) fn now(&self) -> SystemTime {
        let offset = self.shared.pool.clock_offset.load(Ordering::Relaxed);
        let by = Duration::from_secs(offset.unsigned_abs());
        let now = SystemTime::now();
        if offset < 0 { now - by } else { now + by }
    }
}

/// Ends the watch with this error, and returns it.
fn failed(watch: &mut Option<Box<Watch>>, error: Error) -> Error {
    if let Some(mut watch) = watch.take() {
        watch.failed(&error);
    }
    error
}

/// Waits for a provider until the deadline: it may ask a service that does not answer.
async fn within<T>(deadline: Instant, provided: impl Future<Output = Result<T>>) -> Result<T> {
    let provided = tokio::time::timeout_at(deadline, provided).await;
    provided.unwrap_or_else(|_| {
        let text = "the provider of access keys had not answered when total_timeout was over: see why it takes so long";
        Err(Error::new(ErrorKind::Timeout(text.to_owned())))
    })
}

fn seconds_ahead(server_time: SystemTime) -> i64 {
    let now = SystemTime::now();
    let seconds = |ahead: Duration| i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX);
    match server_time.duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(earlier) => -seconds(earlier.duration()),
    }
}

/// Whether an answer does not come from OSS, which gives each of its answers a request id.
fn is_foreign(answer: &Response) -> bool {
    answer.header(&oss_header::REQUEST_ID).is_none()
}

/// Whether a proxy that gives this answer will give it again. It may say of its own copy that it is not modified.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || (status.is_redirection() && status != StatusCode::NOT_MODIFIED)
}

/// Makes an error of a response that is not a success; also returns the server's time.
async fn read_error(response: Response, config: &ClientConfig) -> Result<(Error, Option<SystemTime>)> {
    let status = response.status;
    let header = |name: &HeaderName| response.header(name).map(str::to_owned);
    let server_time = header(&header::DATE).and_then(|date| time::parse_http_date(&date).ok());
    let mut ec = header(&oss_header::EC);
    let mut request_id = header(&oss_header::REQUEST_ID);
    let retry_after = header(&oss_header::QOS_DELAY_TIME)
        .and_then(|text| text.parse().ok().map(Duration::from_millis))
        .or_else(|| header(&header::RETRY_AFTER).and_then(|text| text.parse().ok().map(Duration::from_secs)));
    // The answer to a HEAD has no body; OSS puts the error into a header instead.
    let encoded = header(&oss_header::ERR);
    let mut xml = response.body.collect(ERROR_BODY_LIMIT).await.unwrap_or_default();
    if xml.is_empty()
        && let Some(encoded) = encoded
    {
        xml = STANDARD.decode(encoded).unwrap_or_default();
    }
    let (mut code, mut message) = (code_of_status(status), String::new());
    let mut advised = advice_without_body(&xml, config);
    if let Ok(body) = ErrorBody::parse(&xml) {
        code = ErrorCode::from(body.code.as_str());
        advised = advice(&code, &body, config);
        message = body.message;
        ec = ec.or(body.ec);
        request_id = request_id.or(Some(body.request_id).filter(|id| !id.is_empty()));
    }
    if let Some(advised) = advised.or_else(|| advice_about_condition(&code)) {
        message = match message.trim_end_matches('.') {
            "" => advised,
            said => format!("{said}: {advised}"),
        };
    }
    let kind = ErrorKind::Service { status, code, message, ec, request_id, retry_after };
    Ok((Error::new(kind), server_time))
}

/// The code to assume if the server sends no readable error.
fn code_of_status(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::NOT_FOUND => ErrorCode::NoSuchKey,
        StatusCode::FORBIDDEN => ErrorCode::AccessDenied,
        StatusCode::NOT_MODIFIED => ErrorCode::NotModified,
        StatusCode::PRECONDITION_FAILED => ErrorCode::PreconditionFailed,
        StatusCode::RANGE_NOT_SATISFIABLE => ErrorCode::InvalidRange,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::ServiceUnavailable,
        StatusCode::INTERNAL_SERVER_ERROR => ErrorCode::InternalError,
        _ => ErrorCode::from(status.as_str()),
    }
}
