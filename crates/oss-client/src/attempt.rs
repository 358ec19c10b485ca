//! Each attempt at a request, for those who look on: the audit file, the log at the level debug, and traces.
//!
//! If nobody looks on, an attempt costs a few comparisons.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use http::StatusCode;

use crate::{
    audit::Audit,
    credentials::Secrets,
    error::{Error, ErrorKind},
    metrics::cause_of,
    sync::lock,
};

/// One request as it was sent once, and what became of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What the request does, as [`crate::metrics::OPERATIONS`] has it.
    pub operation: &'static str,
    /// Name or address of the server, without brackets.
    pub server: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Bucket, absent for requests to the service.
    pub bucket: Option<String>,
    /// Object key.
    pub key: Option<String>,
    /// The bytes that were asked for, as the header `Range` has them.
    pub range: Option<String>,
    /// When it began.
    pub began: SystemTime,
    /// Time to the first byte of the answer, or to the failure that took its place.
    pub first_byte: Duration,
    /// Time to the last byte of the answer, or until the answer was given up.
    pub total: Duration,
    /// HTTP status of the answer; absent without one.
    pub status: Option<u16>,
    /// Id of the request, as the service has it.
    pub request_id: Option<String>,
    /// 1 for the first attempt at this request.
    pub number: usize,
    /// Bytes of its body.
    pub sent: u64,
    /// Bytes of the answer's body.
    pub received: u64,
    /// Why it failed; no secret.
    pub failure: Option<String>,
    /// The kind of the failure, as [`crate::metrics::CAUSES`] has them.
    pub cause: Option<&'static str>,
}

/// Longest text of a failure; servers and proxies send whole pages.
const FAILURE_LIMIT: usize = 1_000;

/// One line; times in microseconds.
impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = format!("oss:{} [url=oss://", self.operation);
        for name in [self.bucket.as_deref(), Some("/"), self.key.as_deref()].into_iter().flatten() {
            push_in_one_line(&mut line, name);
        }
        line.push(']');
        if let Some(range) = &self.range {
            write!(line, "[range={}]", range.trim_start_matches("bytes="))?;
        }
        let status = self.status.unwrap_or_default();
        write!(line, "[status={status}][request_id=")?;
        push_in_one_line(&mut line, self.request_id.as_deref().unwrap_or_default());
        write!(line, "][attempt={}][sent={}][received={}]", self.number, self.sent, self.received)?;
        write!(line, "[first_byte={}][latency={}]", self.first_byte.as_micros(), self.total.as_micros())?;
        if let Some(failure) = &self.failure {
            line.push_str("[error=");
            let end = failure.char_indices().nth(FAILURE_LIMIT).map_or(failure.len(), |(end, _)| end);
            push_in_one_line(&mut line, &failure[..end]);
            line.push(']');
        }
        formatter.write_str(&line)
    }
}

/// Keys and what servers say may hold line breaks and controls of a terminal.
fn push_in_one_line(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Attempts of one span of the program, in the order in which they ended.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Traced>);

#[derive(Debug, Default)]
struct Traced {
    attempts: Vec<Attempt>,
    left_out: usize,
}

/// Most attempts that one trace keeps: a checkpoint of 100 GB has 12,000 parts of 8 MiB, and no viewer shows them all.
const TRACE_LIMIT: usize = 1_000;

impl Trace {
    fn add(&self, attempt: Attempt) {
        let mut traced = lock(&self.0);
        if traced.attempts.len() < TRACE_LIMIT {
            traced.attempts.push(attempt);
        } else {
            traced.left_out += 1;
        }
    }

    /// Takes the attempts that have ended since the last call; returns also how many more there were.
    pub fn take(&self) -> (Vec<Attempt>, usize) {
        let traced = std::mem::take(&mut *lock(&self.0));
        (traced.attempts, traced.left_out)
    }
}

/// Who looks on, beside the log.
#[derive(Clone, Debug)]
pub(crate) struct Onlookers {
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) trace: Option<Arc<Trace>>,
}

impl Onlookers {
    fn see(&self, attempt: &Attempt) {
        tracing::debug!("{attempt}");
        if let Some(audit) = &self.audit {
            audit.see(attempt);
        }
        if let Some(trace) = &self.trace {
            trace.add(attempt.clone());
        }
    }
}

/// Whether the log wants each attempt.
pub(crate) fn is_logged() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// Follows one attempt until it ends, which is when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    attempt: Attempt,
    started: Instant,
    secrets: Option<Secrets>,
    onlookers: Onlookers,
}

impl Watch {
    /// Begins now.
    pub(crate) fn begin(attempt: Attempt, onlookers: Onlookers) -> Box<Self> {
        Box::new(Self { attempt, started: Instant::now(), secrets: None, onlookers })
    }

    /// Notes the head of a success; returns what is known then, for a failure that is found later.
    pub(crate) fn answered(&mut self, status: u16, request_id: Option<&str>, secrets: &Secrets) -> Box<Answered> {
        self.attempt.first_byte = self.started.elapsed();
        self.attempt.status = Some(status);
        self.attempt.request_id = request_id.map(str::to_owned);
        self.secrets = Some(secrets.clone());
        let (attempt, started, onlookers) = (self.attempt.clone(), self.started, self.onlookers.clone());
        Box::new(Answered { attempt, started, onlookers })
    }

    /// Notes bytes of the answer's body.
    pub(crate) fn received(&mut self, count: usize) {
        self.attempt.received += count as u64;
    }

    /// Notes why it failed. Secrets are hidden in an error of the service already.
    pub(crate) fn failed(&mut self, error: &Error) {
        if let ErrorKind::Service { status, request_id, .. } = error.kind() {
            self.attempt.status = Some(status.as_u16());
            self.attempt.request_id.clone_from(request_id);
        }
        if self.attempt.first_byte.is_zero() {
            self.attempt.first_byte = self.started.elapsed();
        }
        if self.attempt.status == Some(StatusCode::NOT_MODIFIED.as_u16()) {
            // The answer that a condition asked for.
            return;
        }
        self.attempt.failure = Some(match &self.secrets {
            Some(secrets) => secrets.hidden_in(error.clone()).reason(),
            None => error.reason(),
        });
        self.attempt.cause = Some(cause_of(error));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.attempt.total = self.started.elapsed();
        self.onlookers.see(&self.attempt);
    }
}

/// An attempt that succeeded, as far as its head tells.
#[derive(Debug)]
pub(crate) struct Answered {
    attempt: Attempt,
    started: Instant,
    onlookers: Onlookers,
}

impl Answered {
    /// Notes that the answer is worth nothing, for instance because its checksum is wrong. What broke the connection was
    /// noted when it broke.
    pub(crate) fn refuted(mut self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Transport(_) | ErrorKind::Timeout(_) | ErrorKind::Cancelled(_)) {
            return;
        }
        self.attempt.total = self.started.elapsed();
        self.attempt.failure = Some(error.reason());
        self.attempt.cause = Some(cause_of(error));
        self.onlookers.see(&self.attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn attempt(key: &str) -> Attempt {
        Attempt {
            operation: "get",
            server: "127.0.0.1".into(),
            port: 80,
            bucket: Some("bucket".to_owned()),
            key: Some(key.to_owned()),
            range: Some("bytes=0-9".to_owned()),
            began: SystemTime::UNIX_EPOCH,
            first_byte: Duration::from_micros(7),
            total: Duration::from_millis(2),
            status: Some(206),
            request_id: Some("5C3D".to_owned()),
            number: 2,
            sent: 0,
            received: 10,
            failure: None,
            cause: None,
        }
    }

    #[test]
    fn an_attempt_is_one_line() {
        let mut one = attempt("a\nb\u{1b}[31m");
        let said = "oss:get [url=oss://bucket/a\\nb\\u{1b}[31m][range=0-9][status=206][request_id=5C3D][attempt=2][sent=0]\
                    [received=10][first_byte=7][latency=2000]";
        assert_eq!(one.to_string(), said);
        one.failure = Some("\r\n".to_owned() + &"é".repeat(2_000));
        let said = one.to_string();
        assert!(said.contains("[error=\\r\\né") && said.chars().count() < 1_300, "{said}");
    }

    #[test]
    fn a_trace_keeps_so_many_and_counts_the_others() {
        let trace = Trace::default();
        for _ in 0..TRACE_LIMIT + 2 {
            trace.add(attempt("a"));
        }
        let (attempts, left_out) = trace.take();
        assert_eq!((attempts.len(), left_out), (TRACE_LIMIT, 2));
        assert_eq!(trace.take().0.len(), 0);
    }
}
