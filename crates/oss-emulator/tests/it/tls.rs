//! Serving over TLS.

use std::sync::Arc;

use http::Method;
use oss_emulator::{Certificate, Emulator, EmulatorConfig, StartError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use crate::client::{BUCKET, Call, Client, config};

/// Asks for a missing object through TLS, trusting `trusted` for the server `name`; returns what comes back.
pub(crate) async fn ask(client: &Client, name: &str, trusted: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(&client.authority).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
    let (head, _) = client.render(&Call::get("missing").header("connection", "close"));
    stream.write_all(&head).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Starts a server, calls `test` with a client that knows its address and with the certificates to trust, and stops it.
async fn served(certificate: Certificate, test: impl AsyncFnOnce(Client, String)) {
    let emulator = Emulator::bind(EmulatorConfig { tls: Some(certificate), ..config() }).await.unwrap();
    let authority = emulator.local_addr().to_string();
    assert_eq!(emulator.url(), format!("https://{authority}"));
    let trusted = emulator.trusted_certificates().unwrap().to_owned();
    assert!(!trusted.contains("PRIVATE KEY"));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(emulator.serve(async {
        let _ = stopped.await;
    }));
    let client = Client::to(&authority).await;
    test(client, trusted).await;
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_generated_certificate_is_trusted_for_its_names() {
    served(Certificate::Generated, async |client, trusted| {
        for name in ["localhost", "127.0.0.1", "oss.test", "examplebucket.oss.test"] {
            let answer = ask(&client, name, &trusted).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("NoSuchKey"), "{name}: {answer}");
        }
        ask(&client, "example.com", &trusted).await.unwrap_err();
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        ask(&client, "localhost", &other.cert.pem()).await.unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn a_given_certificate_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["given.example".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    served(Certificate::Files { certificate, key }, async |client, trusted| {
        assert_eq!(trusted, made.cert.pem());
        assert!(ask(&client, "given.example", &trusted).await.unwrap().starts_with("HTTP/1.1 404 "));
        ask(&client, "localhost", &trusted).await.unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn plain_http_is_not_answered_on_a_tls_port() {
    served(Certificate::Generated, async |mut client, trusted| {
        let (head, _) = client.render(&Call::bucket(Method::GET));
        client.send(&head).await;
        let _alert = client.drain().await;
        // Others are served all the while, also beside a client that never finishes its handshake.
        let idle = TcpStream::connect(&client.authority).await.unwrap();
        assert!(ask(&client, "localhost", &trusted).await.unwrap().starts_with("HTTP/1.1 404 "));
        drop(idle);
    })
    .await;
}

#[tokio::test]
async fn unusable_certificates_are_said_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    let refused = async || {
        let tls = Certificate::Files { certificate: certificate.clone(), key: key.clone() };
        let error = Emulator::bind(EmulatorConfig { tls: Some(tls), ..config() }).await.unwrap_err();
        assert!(matches!(error, StartError::CertificateFile { .. }), "{error:?}");
        error.to_string()
    };
    assert!(refused().await.contains("certificate.pem"));
    std::fs::write(&certificate, "nothing").unwrap();
    assert!(refused().await.contains("no certificate"));
    let made = rcgen::generate_simple_self_signed(vec![BUCKET.to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    assert!(refused().await.contains("key.pem"));
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(&key, &other).unwrap();
    let said = refused().await;
    assert!(said.contains("key.pem") && !said.contains(&other), "{said}");
}
