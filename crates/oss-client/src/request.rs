//! One request, as the operations see it.

use bytes::Bytes;
use http::{HeaderMap, Method};

/// What is asked of OSS. Signed anew for each attempt.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Bucket, absent for service-level requests.
    pub bucket: Option<String>,
    /// Object key, not encoded.
    pub key: Option<String>,
    /// Query parameters, not encoded; an empty value is sent as a bare name.
    pub query: Vec<(String, String)>,
    /// Headers beyond those that addressing and signing add.
    pub headers: HeaderMap,
    /// Request body.
    pub body: Bytes,
}

impl Request {
    /// A request about a bucket.
    pub fn bucket(method: Method, bucket: &str) -> Self {
        Self {
            method,
            bucket: Some(bucket.to_owned()),
            key: None,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A request about an object.
    pub fn object(method: Method, bucket: &str, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..Self::bucket(method, bucket) }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}
