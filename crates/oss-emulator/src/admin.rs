//! Steering from another process: faults and the request log over HTTP, for holders of a token.
//!
//! The path begins with `-`, which no bucket does, and the token comes as `Authorization: Bearer`, which OSS does not know:
//! no request of a client can be taken for one of these, and without a token in the configuration none is answered.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header as standard};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::body::ResponseBody;
use crate::config::AdminToken;
use crate::fault::{FaultRule, Faults};
use crate::record::{RequestLog, RequestRecord};
use crate::response::{Response, empty};

/// The beginning of the paths of all these requests.
const PREFIX: &str = "/-/admin/";

/// Largest body of a request: some thousand rules.
const LARGEST_BODY: usize = 1024 * 1024;

/// Answers requests about faults and the log.
#[derive(Debug)]
pub(crate) struct Admin {
    token: AdminToken,
    faults: Faults,
    log: RequestLog,
}

/// The log in the form of the answer.
#[derive(Serialize)]
struct LogView<'a> {
    total: u64,
    peak_concurrency: u64,
    requests: Vec<RecordView<'a>>,
}

/// A record in the form of the answer.
#[derive(Serialize)]
struct RecordView<'a> {
    method: &'a str,
    operation: Option<&'static str>,
    bucket: Option<&'a str>,
    key: Option<&'a str>,
    range: Option<&'a str>,
    status: u16,
    error_code: Option<&'a str>,
    response_bytes: u64,
    request_id: &'a str,
    concurrency: u64,
    faults: &'a [u64],
}

impl<'a> From<&'a RequestRecord> for RecordView<'a> {
    fn from(record: &'a RequestRecord) -> Self {
        Self {
            method: record.method.as_str(),
            operation: record.operation.map(crate::route::Operation::as_str),
            bucket: record.bucket.as_deref(),
            key: record.key.as_deref(),
            range: record.range.as_deref(),
            status: record.status,
            error_code: record.error_code.as_deref(),
            response_bytes: record.response_bytes,
            request_id: &record.request_id,
            concurrency: record.concurrency,
            faults: &record.faults,
        }
    }
}

impl Admin {
    pub(crate) fn new(token: AdminToken, faults: Faults, log: RequestLog) -> Self {
        Self { token, faults, log }
    }

    /// Whether a request is one of these and not one of the service.
    pub(crate) fn is_addressed(path: &str, headers: &HeaderMap) -> bool {
        path.starts_with(PREFIX) && bearer(headers).is_some()
    }

    /// Answers a request that [is addressed](Self::is_addressed) here.
    pub(crate) async fn answer(&self, parts: &http::request::Parts, body: Incoming) -> Response {
        let sent = bearer(&parts.headers).unwrap_or_default();
        if !bool::from(self.token.as_str().as_bytes().ct_eq(sent)) {
            return refuse(StatusCode::UNAUTHORIZED, "the token is wrong");
        }
        let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        match (&parts.method, path) {
            (&Method::GET, "requests") => self.requests(),
            (&Method::DELETE, "requests") => {
                self.log.clear();
                empty(StatusCode::NO_CONTENT)
            }
            (&Method::GET, "faults") => json(StatusCode::OK, &self.faults.list()),
            (&Method::POST, "faults") => self.add(body).await,
            (&Method::DELETE, "faults") => {
                self.faults.clear();
                empty(StatusCode::NO_CONTENT)
            }
            (&Method::DELETE, _) => {
                let id = path.strip_prefix("faults/").and_then(|id| id.parse().ok());
                if id.is_some_and(|id| self.faults.remove(id)) {
                    empty(StatusCode::NO_CONTENT)
                } else {
                    refuse(StatusCode::NOT_FOUND, "there is no such fault")
                }
            }
            _ => refuse(StatusCode::NOT_FOUND, "there is requests (GET, DELETE) and faults (GET, POST, DELETE)"),
        }
    }

    fn requests(&self) -> Response {
        let records = self.log.records();
        let requests = records.iter().map(RecordView::from).collect();
        let view = LogView { total: self.log.total(), peak_concurrency: self.log.peak_concurrency(), requests };
        json(StatusCode::OK, &view)
    }

    async fn add(&self, body: Incoming) -> Response {
        let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off");
        };
        let body = body.to_bytes();
        let rules = str::from_utf8(&body).map_err(|error| error.to_string()).and_then(|text| {
            // A list is added whole or not at all: each rule has been checked when the first is added.
            FaultRule::parse_list(text).map_err(|error| error.to_string())
        });
        let added = rules.and_then(|rules| {
            let add = |rule| self.faults.add(rule).map_err(|error| error.to_string());
            rules.into_iter().map(add).collect::<Result<Vec<u64>, String>>()
        });
        match added {
            Ok(ids) => json(StatusCode::CREATED, &ids),
            Err(reason) => refuse(StatusCode::BAD_REQUEST, &reason),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(standard::AUTHORIZATION)?.as_bytes().strip_prefix(b"Bearer ")
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    json(status, &serde_json::json!({ "error": reason }))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(text) = serde_json::to_vec(value) else { return empty(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut response = Response::new(ResponseBody::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(standard::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
