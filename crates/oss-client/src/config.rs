//! What a client needs to know, resolved once by the caller.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::HeaderMap;
use oss_protocol::{endpoint::Endpoint, sign::SignatureVersion};

use crate::{audit::Audit, proxy::Proxy};

/// Resolved configuration of a client. Nothing below this value reads the environment.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where requests go, and how the bucket is addressed. Absent: objects are files, see [`crate::local`].
    pub endpoint: Option<Endpoint>,
    /// Region that V4 signatures are bound to, without the `oss-` prefix.
    pub region: String,
    /// How requests are signed.
    pub signature_version: SignatureVersion,
    /// Longest time to establish a connection, name resolution and TLS included; also how long connection failures
    /// are retried.
    pub connect_timeout: Duration,
    /// Longest silence while a request is sent or a response received.
    pub read_timeout: Duration,
    /// Longest time for one request over all its attempts.
    pub total_timeout: Duration,
    /// Attempts made for one request, the first included.
    pub max_attempts: u32,
    /// Bytes that one stream may hold fetched or in flight.
    pub prefetch_bytes: usize,
    /// Bytes that one reader of a large object may hold fetched or in flight.
    pub reader_window: usize,
    /// Requests in flight at which growth starts; also the requests of one reader in flight at most.
    pub prefetch_concurrency: usize,
    /// Most requests in flight.
    pub max_concurrency: usize,
    /// Bytes of one part of a large transfer.
    pub part_size: usize,
    /// Most parts of one upload in flight.
    pub upload_concurrency: usize,
    /// Most bytes of one upload in flight or being filled; one part is always allowed.
    pub upload_bytes: usize,
    /// Whether datasets list several segments of the key space at once; the order is the same.
    pub fast_list: bool,
    /// PEM file of the certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// The proxy that requests go through.
    pub proxy: Option<Proxy>,
    /// Headers of every request, beside its own.
    pub headers: HeaderMap,
    /// How long credentials without an expiration are used before the provider is asked again.
    pub credential_refresh: Duration,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// The file that slow and failed attempts are written to.
    pub audit: Option<Arc<Audit>>,
}

impl ClientConfig {
    /// The defaults for an endpoint and region.
    pub fn new(endpoint: impl Into<Option<Endpoint>>, region: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            region: region.into(),
            signature_version: SignatureVersion::V4,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(600),
            max_attempts: 6,
            prefetch_bytes: 256 << 20,
            reader_window: 256 << 20,
            prefetch_concurrency: 24,
            max_concurrency: 512,
            part_size: 8 << 20,
            upload_concurrency: 16,
            upload_bytes: 256 << 20,
            fast_list: true,
            ca_bundle: None,
            proxy: None,
            headers: HeaderMap::new(),
            credential_refresh: Duration::from_secs(60),
            user_agent: format!("osstorchconnector/{}", version()),
            audit: None,
        }
    }
}

/// The version of this release as Python packages write it: `2.0.0a1` for cargo's `2.0.0-alpha.1`.
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").replace("-alpha.", "a").replace("-beta.", "b").replace("-rc.", "rc")
}
