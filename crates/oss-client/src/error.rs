//! One error type: what failed, on which object, after how many attempts.

use std::fmt;

use http::StatusCode;
use oss_protocol::error_code::ErrorCode;

/// The result of every operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. Boxed, so that `Result`s stay small.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    bucket: Option<String>,
    key: Option<String>,
    attempts: Vec<String>,
    others: Vec<String>,
    limit: Option<String>,
}

/// Why an operation failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server answered with an error. Retried for the statuses and codes that OSS calls temporary.
    Service {
        /// HTTP status of the answer.
        status: StatusCode,
        /// OSS error code, for example `NoSuchKey`.
        code: ErrorCode,
        /// The server's message.
        message: String,
        /// OSS error classification (`x-oss-ec`), if the server sent it.
        ec: Option<String>,
        /// Request id to quote to support.
        request_id: Option<String>,
        /// How long the server asks to wait before the next attempt, if it does.
        retry_after: Option<std::time::Duration>,
    },
    /// No connection could be made. Retried until the connect timeout has passed since the first attempt.
    Connect(String),
    /// The server's certificate is not trusted, or the server does not speak TLS. Never retried.
    Untrusted(String),
    /// The proxy refuses, or is none. Never retried.
    Proxy(String),
    /// Nothing arrived within a timeout. Retried.
    Timeout(String),
    /// The connection broke. Retried.
    Transport(String),
    /// Bytes arrived that are not the object's bytes: wrong length, wrong range or wrong checksum. Retried.
    Integrity(String),
    /// The object was replaced while it was being read. Never retried: the bytes read so far belong to the old one.
    Changed(String),
    /// The server's answer does not follow the protocol. Never retried.
    InvalidReply(String),
    /// This process has not enough memory for the bytes. Never retried.
    TooLarge(String),
    /// No usable credentials. Never retried.
    Credentials(String),
    /// The request or the configuration is wrong. Nothing was sent.
    Config(String),
    /// A local file or directory cannot be read. Never retried.
    File(std::io::ErrorKind, String),
    /// The file that holds a listing cannot be written or read.
    Listing(String),
    /// Why a listing failed, as the process that listed recorded it.
    Recorded(Vec<u8>),
    /// The operation was cancelled or its owner is gone.
    Cancelled(String),
}

impl Error {
    /// An error that concerns no particular object yet.
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, bucket: None, key: None, attempts: Vec::new(), others: Vec::new(), limit: None }))
    }

    /// Names the object the error is about; an object already named stays.
    #[must_use]
    pub fn on(mut self, bucket: Option<&str>, key: Option<&str>) -> Self {
        if self.0.bucket.is_none() {
            self.0.bucket = bucket.map(str::to_owned);
            self.0.key = key.filter(|key| !key.is_empty()).map(str::to_owned);
        }
        self
    }

    /// The same error about another object.
    #[must_use]
    pub(crate) fn about(mut self, bucket: &str, key: &str) -> Self {
        self.0.bucket = Some(bucket.to_owned());
        self.0.key = Some(key.to_owned());
        self
    }

    /// Adds the failures of the attempts that came before this one.
    #[must_use]
    pub(crate) fn after(mut self, mut earlier: Vec<String>) -> Self {
        earlier.append(&mut self.0.attempts);
        self.0.attempts = earlier;
        self
    }

    /// Notes the limit that left no time for another attempt.
    #[must_use]
    pub(crate) fn ended_by(mut self, limit: String) -> Self {
        self.0.limit = Some(limit);
        self
    }

    /// Adds other failures of the same operation.
    #[must_use]
    pub(crate) fn with(mut self, mut others: Vec<String>) -> Self {
        self.0.others.append(&mut others);
        self
    }

    /// Adds to what the server said.
    #[must_use]
    pub(crate) fn explained(mut self, why: &str) -> Self {
        let said = self.message();
        if let ErrorKind::Service { message, .. } = &mut self.0.kind {
            *message = format!("{said}; {why}");
        }
        self
    }

    /// The same error with each text of its cause changed.
    #[must_use]
    pub(crate) fn map_texts(mut self, map: impl Fn(String) -> String) -> Self {
        let change = |text: &mut String| *text = map(std::mem::take(text));
        match &mut self.0.kind {
            ErrorKind::Service { code, message, ec, request_id, .. } => {
                if let ErrorCode::Other(code) = code {
                    *code = map(code.to_string()).into();
                }
                change(message);
                ec.iter_mut().for_each(change);
                request_id.iter_mut().for_each(change);
            }
            ErrorKind::Connect(text)
            | ErrorKind::Untrusted(text)
            | ErrorKind::Timeout(text)
            | ErrorKind::Transport(text)
            | ErrorKind::Integrity(text)
            | ErrorKind::Changed(text)
            | ErrorKind::InvalidReply(text)
            | ErrorKind::TooLarge(text)
            | ErrorKind::Credentials(text)
            | ErrorKind::Config(text)
            | ErrorKind::File(_, text)
            | ErrorKind::Listing(text)
            | ErrorKind::Proxy(text)
            | ErrorKind::Cancelled(text) => change(text),
            ErrorKind::Recorded(_) => {}
        }
        self
    }

    /// Why the operation failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The bucket concerned.
    pub fn bucket(&self) -> Option<&str> {
        self.0.bucket.as_deref()
    }

    /// The object key concerned.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Number of attempts made, the last one included.
    pub fn attempts(&self) -> usize {
        self.0.attempts.len() + 1
    }

    /// What went wrong, without the object and the attempts.
    pub fn message(&self) -> String {
        match &self.0.kind {
            ErrorKind::Service { status, message, .. } if message.is_empty() => {
                format!("the server answered {status}")
            }
            ErrorKind::Service { message, .. } => message.clone(),
            ErrorKind::Connect(text)
            | ErrorKind::Untrusted(text)
            | ErrorKind::Proxy(text)
            | ErrorKind::Timeout(text)
            | ErrorKind::Transport(text)
            | ErrorKind::Integrity(text)
            | ErrorKind::Changed(text)
            | ErrorKind::InvalidReply(text)
            | ErrorKind::TooLarge(text)
            | ErrorKind::Credentials(text)
            | ErrorKind::Config(text)
            | ErrorKind::File(_, text)
            | ErrorKind::Listing(text)
            | ErrorKind::Cancelled(text) => text.clone(),
            ErrorKind::Recorded(_) => "listing failed in another process".to_owned(),
        }
    }

    /// The failures of the earlier attempts, in order; empty if this was the only one.
    pub fn earlier_attempts(&self) -> &[String] {
        &self.0.attempts
    }

    /// The limit that left no time for another attempt.
    pub fn limit(&self) -> Option<&str> {
        self.0.limit.as_deref()
    }

    /// Other failures of the same operation.
    pub fn others(&self) -> &[String] {
        &self.0.others
    }

    /// OSS error code of a service error.
    pub fn code(&self) -> Option<&ErrorCode> {
        match &self.0.kind {
            ErrorKind::Service { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The error code of the service, if there is one, and the message.
    pub(crate) fn reason(&self) -> String {
        let message = self.message();
        self.code().map_or_else(|| message.clone(), |code| format!("{}: {message}", code.as_str()))
    }

    /// HTTP status of a service error.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.0.kind {
            ErrorKind::Service { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the object, bucket or upload does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
            || matches!(self.0.kind, ErrorKind::File(std::io::ErrorKind::NotFound, _))
    }

    /// Whether the server asks for fewer requests.
    pub fn is_throttle(&self) -> bool {
        self.status() == Some(StatusCode::SERVICE_UNAVAILABLE) || self.code().is_some_and(ErrorCode::is_throttle)
    }

    /// Whether another attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        match &self.0.kind {
            ErrorKind::Service { status, code, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 401 | 408 | 429) || code.is_retryable()
            }
            ErrorKind::Connect(_) | ErrorKind::Timeout(_) | ErrorKind::Transport(_) | ErrorKind::Integrity(_) => true,
            _ => false,
        }
    }
}

/// There is no memory for an object of `size` bytes.
pub fn too_large(size: u64) -> Error {
    let text = format!("there is no memory for {size} bytes; open the object and read it in pieces");
    Error::new(ErrorKind::TooLarge(text))
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason())?;
        match (self.bucket(), self.key()) {
            (Some(bucket), Some(key)) => write!(formatter, " (oss://{bucket}/{key})"),
            (Some(bucket), None) => write!(formatter, " (oss://{bucket})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("bucket", &self.0.bucket)
            .field("key", &self.0.key)
            .field("attempts", &self.0.attempts)
            .field("others", &self.0.others)
            .field("limit", &self.0.limit)
            .finish()
    }
}

impl std::error::Error for Error {}
