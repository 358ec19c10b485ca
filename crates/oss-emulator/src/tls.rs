//! Serving over TLS, with a certificate that is given or one made for the occasion.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Certificate;
use crate::error::StartError;

/// The server's side of TLS, and the certificates that clients need to trust it.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// Certificates in PEM form. Trusting them is trusting this server.
    pub(crate) trusted: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads or makes the certificate. A generated one is for `localhost`, the loopback addresses, `host`, and `domain`
    /// with its subdomains.
    pub(crate) fn prepare(certificate: &Certificate, host: &str, domain: Option<&str>) -> Result<Self, StartError> {
        match certificate {
            Certificate::Generated => {
                let names = names(host, domain);
                generate(names).map_err(|reason| StartError::GeneratedCertificate { reason })
            }
            Certificate::Files { certificate, key } => read(certificate, key),
        }
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        trusted: String,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), trusted })
    }
}

fn names(host: &str, domain: Option<&str>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = host.trim_matches(['[', ']']).to_owned();
    if !names.contains(&host) {
        names.push(host);
    }
    if let Some(domain) = domain {
        names.extend([domain.to_owned(), format!("*.{domain}")]);
    }
    names
}

/// Makes an authority and a certificate signed by it. The authority's key is gone when this returns, so trust in it
/// is trust in this one certificate. Strict clients accept no certificate that vouches for itself.
fn generate(names: Vec<String>) -> Result<Tls, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut authority = CertificateParams::new(Vec::new()).map_err(|error| text(&error))?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "OSS emulator authority");
    let authority_key = KeyPair::generate().map_err(|error| text(&error))?;
    let authority = CertifiedIssuer::self_signed(authority, authority_key).map_err(|error| text(&error))?;

    let mut params = CertificateParams::new(names).map_err(|error| text(&error))?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(DnType::CommonName, "OSS emulator");
    let key = KeyPair::generate().map_err(|error| text(&error))?;
    let certificate = params.signed_by(&key, &authority).map_err(|error| text(&error))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Tls::new(vec![certificate.der().clone()], key, authority.pem()).map_err(|error| text(&error))
}

fn read(certificate: &Path, key: &Path) -> Result<Tls, StartError> {
    let unusable = |path: &Path, reason: String| StartError::CertificateFile { path: path.to_owned(), reason };
    let trusted = std::fs::read_to_string(certificate).map_err(|error| unusable(certificate, error.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(trusted.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "it holds no certificate in PEM form".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    Tls::new(chain, private, trusted).map_err(|error| unusable(key, error.to_string()))
}
