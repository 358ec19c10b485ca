//! The resolved Python configuration, read by attribute name.

use std::{path::PathBuf, sync::Arc, time::Duration};

use oss_client::{ClientConfig, audit::Audit, proxy::Proxy};
use oss_protocol::{
    endpoint::{Addressing, Endpoint, Scheme},
    sign::SignatureVersion,
};
use pyo3::prelude::*;

use crate::{client::header_map, error};

/// Attributes of the Python `OssConfig` that the core needs; the dataclass has validated them.
#[derive(Debug, FromPyObject)]
pub(crate) struct Settings {
    signature_version: String,
    addressing: Option<String>,
    connect_timeout: f64,
    read_timeout: f64,
    total_timeout: f64,
    max_attempts: u32,
    prefetch_bytes: usize,
    reader_window: usize,
    prefetch_concurrency: usize,
    max_concurrency: usize,
    part_size: usize,
    upload_concurrency: usize,
    upload_bytes: usize,
    fast_list: bool,
    ca_bundle: Option<PathBuf>,
    credential_refresh_seconds: f64,
    request_headers: Vec<(String, String)>,
    audit_path: Option<PathBuf>,
    audit_slow_seconds: f64,
}

/// Attributes of the Python `Proxy`.
#[derive(FromPyObject)]
pub(crate) struct ProxySettings {
    host: String,
    port: u16,
    user: Option<String>,
    password: String,
    without: Vec<String>,
    way_around: String,
}

impl From<ProxySettings> for Proxy {
    fn from(settings: ProxySettings) -> Self {
        let proxy = Self::new(settings.host, settings.port).without(settings.without);
        let proxy = proxy.with_way_around(settings.way_around);
        match settings.user {
            Some(user) => proxy.with_password(&user, &settings.password),
            None => proxy,
        }
    }
}

/// Makes the client's configuration; an empty endpoint stands for files of this machine.
pub(crate) fn resolve(py: Python<'_>, endpoint: &str, region: &str, settings: Settings) -> PyResult<ClientConfig> {
    let addressing = match settings.addressing.as_deref() {
        None => None,
        Some("virtual_host") => Some(Addressing::VirtualHost),
        Some("path") => Some(Addressing::Path),
        Some("cname") => Some(Addressing::Cname),
        Some(other) => return Err(error::config(py, format!("addressing {other:?} is not known"))),
    };
    let signature_version = match settings.signature_version.as_str() {
        "v4" => SignatureVersion::V4,
        "v1" => SignatureVersion::V1,
        other => return Err(error::config(py, format!("signature_version {other:?} is not known"))),
    };
    let seconds = |name: &str, value: f64| {
        Duration::try_from_secs_f64(value).map_err(|cause| error::config(py, format!("{name}: {cause}")))
    };
    let slow = seconds("audit_slow_seconds", settings.audit_slow_seconds)?;
    let audit = settings.audit_path.map(|path| {
        let opened = std::path::absolute(&path).and_then(|path| Audit::open(&path, slow));
        opened
            .map(Arc::new)
            .map_err(|cause| error::config(py, format!("audit file '{}' cannot be written: {cause}", path.display())))
    });
    let endpoint = match endpoint {
        "" => None,
        endpoint => Some(parse_endpoint(py, endpoint, addressing)?),
    };
    Ok(ClientConfig {
        audit: audit.transpose()?,
        headers: header_map(py, settings.request_headers)?,
        signature_version,
        connect_timeout: seconds("connect_timeout", settings.connect_timeout)?,
        read_timeout: seconds("read_timeout", settings.read_timeout)?,
        total_timeout: seconds("total_timeout", settings.total_timeout)?,
        max_attempts: settings.max_attempts,
        prefetch_bytes: settings.prefetch_bytes,
        reader_window: settings.reader_window,
        prefetch_concurrency: settings.prefetch_concurrency,
        max_concurrency: settings.max_concurrency,
        part_size: settings.part_size,
        upload_concurrency: settings.upload_concurrency,
        upload_bytes: settings.upload_bytes,
        fast_list: settings.fast_list,
        ca_bundle: settings.ca_bundle,
        credential_refresh: seconds("credential_refresh_seconds", settings.credential_refresh_seconds)?,
        ..ClientConfig::new(endpoint, region)
    })
}

/// Without a scheme, HTTPS is meant. For this machine HTTP is meant, because no server here has a certificate.
fn parse_endpoint(py: Python<'_>, text: &str, addressing: Option<Addressing>) -> PyResult<Endpoint> {
    let endpoint = Endpoint::parse(text, Scheme::Https, addressing).map_err(|cause| error::config(py, cause))?;
    let local = matches!(endpoint.host(), "localhost" | "127.0.0.1" | "[::1]" | "::1");
    if local && !text.contains("://") {
        return Endpoint::parse(text, Scheme::Http, addressing).map_err(|cause| error::config(py, cause));
    }
    Ok(endpoint)
}

/// The region in an endpoint's host name, if there is one. Raises if the endpoint cannot be parsed.
#[pyfunction]
pub(crate) fn infer_region(py: Python<'_>, endpoint: &str) -> PyResult<Option<String>> {
    Ok(parse_endpoint(py, endpoint, None)?.infer_region())
}
