//! Responses and errors, and the headers that all of them have.

use std::borrow::Cow;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::range::ContentRange;
use oss_protocol::xml::error::ErrorBody;

use crate::body::ResponseBody;
use crate::store::StoreError;

/// A response before the headers that every response has.
pub(crate) type Response = http::Response<ResponseBody>;

/// A refusal, as the service would word it.
#[derive(Debug)]
pub(crate) struct ServiceError(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    code: ErrorCode,
    message: Option<Cow<'static, str>>,
    ec: Option<&'static str>,
    extra: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ServiceError {
    /// The code with its usual status, message and EC.
    pub(crate) fn new(code: ErrorCode) -> Self {
        Self(Box::new(Refusal { code, message: None, ec: None, extra: Vec::new(), headers: Vec::new() }))
    }

    pub(crate) fn invalid_argument(name: &str, value: &str) -> Self {
        Self::new(ErrorCode::InvalidArgument)
            .with_message(format!("The value of {name} is not valid."))
            .with_field("ArgumentName", name)
            .with_field("ArgumentValue", value)
    }

    pub(crate) fn no_such_bucket(bucket: &str) -> Self {
        Self::new(ErrorCode::NoSuchBucket).with_field("BucketName", bucket)
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::new(ErrorCode::NoSuchKey).with_field("Key", key)
    }

    pub(crate) fn no_such_upload(id: &str) -> Self {
        Self::new(ErrorCode::NoSuchUpload).with_field("UploadId", id)
    }

    #[must_use]
    pub(crate) fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    #[must_use]
    pub(crate) fn with_ec(mut self, ec: &'static str) -> Self {
        self.0.ec = Some(ec);
        self
    }

    /// Adds an element to the body.
    #[must_use]
    pub(crate) fn with_field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.extra.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds what a 416 tells of the size.
    #[must_use]
    pub(crate) fn with_content_range(self, size: u64) -> Self {
        match HeaderValue::try_from(ContentRange::unsatisfied(size)) {
            Ok(value) => self.with_header(standard::CONTENT_RANGE, value),
            Err(_) => self,
        }
    }

    pub(crate) fn code(&self) -> &ErrorCode {
        &self.0.code
    }

    /// The response. A HEAD request gets the body in a header: the SDKs look for it there.
    pub(crate) fn into_response(self, request_id: &str, host: &str, head: bool) -> Response {
        let refusal = *self.0;
        let status = refusal.code.status();
        let mut response = empty(status);
        response.headers_mut().extend(refusal.headers);
        if status == StatusCode::NOT_MODIFIED {
            return response;
        }
        let ec = refusal.ec.or_else(|| refusal.code.ec());
        if let Some(ec) = ec {
            response.headers_mut().insert(header::EC, HeaderValue::from_static(ec));
        }
        let message = refusal.message.unwrap_or(Cow::Borrowed(refusal.code.message())).into_owned();
        let body = error_body(&refusal.code, message, request_id, host, ec, refusal.extra);
        if head {
            if let Ok(value) = HeaderValue::try_from(STANDARD.encode(body)) {
                response.headers_mut().insert(header::ERR, value);
            }
            return response;
        }
        response.headers_mut().insert(standard::CONTENT_TYPE, XML);
        *response.body_mut() = ResponseBody::full(body);
        response
    }
}

fn error_body(
    code: &ErrorCode,
    message: String,
    request_id: &str,
    host: &str,
    ec: Option<&str>,
    extra: Vec<(String, String)>,
) -> String {
    ErrorBody {
        code: code.as_str().to_owned(),
        message,
        request_id: request_id.to_owned(),
        host_id: host.to_owned(),
        ec: ec.map(str::to_owned),
        extra,
    }
    .to_xml()
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BucketAlreadyExists => Self::new(ErrorCode::BucketAlreadyExists),
            StoreError::NoSuchBucket => Self::new(ErrorCode::NoSuchBucket),
            StoreError::QuotaExceeded => Self::new(ErrorCode::QuotaExceeded),
            StoreError::Configuration(reason) => Self::new(ErrorCode::MalformedXML).with_message(reason),
            StoreError::BucketNotEmpty => Self::new(ErrorCode::BucketNotEmpty),
            StoreError::NoSuchUpload => Self::new(ErrorCode::NoSuchUpload),
            StoreError::PartNotSequential => Self::new(ErrorCode::PartNotSequential),
            // A limit that was asked for, or a full disk. Sending the request again would not help.
            StoreError::Io(source) if source.kind() == io::ErrorKind::StorageFull => {
                Self::new(ErrorCode::Other(Cow::Borrowed("InsufficientStorage"))).with_message(source.to_string())
            }
            StoreError::Io(source) => {
                tracing::error!(error = %source, "the store failed");
                Self::new(ErrorCode::InternalError)
            }
        }
    }
}

const XML: HeaderValue = HeaderValue::from_static("application/xml");

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}

/// A successful response with an XML body.
pub(crate) fn xml(body: String) -> Response {
    let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
    response.headers_mut().insert(standard::CONTENT_TYPE, XML);
    response
}

/// Sets a header whose value the server made. A value that cannot stand in a header is left out.
pub(crate) fn set(response: &mut Response, name: HeaderName, value: impl TryInto<HeaderValue>) {
    if let Ok(value) = value.try_into() {
        response.headers_mut().insert(name, value);
    }
}
