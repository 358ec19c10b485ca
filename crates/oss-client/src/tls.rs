//! Certificates to trust: a file of the user's choice, else the system's, else the ones compiled in.

use std::sync::Arc;

use rustls::{
    ClientConfig as TlsConfig, RootCertStore, crypto,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    config::ClientConfig,
    error::{ErrorKind, Result},
};

/// Builds the TLS configuration; certificates are always verified.
pub(crate) fn configure(config: &ClientConfig) -> Result<Arc<TlsConfig>> {
    let roots = match &config.ca_bundle {
        Some(path) => from_file(path)?,
        None => from_system(),
    };
    let tls = TlsConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ErrorKind::Config(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(tls))
}

fn from_file(path: &std::path::Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let unusable = |error: &dyn std::fmt::Display| {
        ErrorKind::Config(format!("ca_bundle {}: {error}; pass a PEM file of certificates", path.display()))
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"it holds no certificate").into());
    }
    Ok(roots)
}

fn from_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        // Minimal containers ship no certificates at all.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
