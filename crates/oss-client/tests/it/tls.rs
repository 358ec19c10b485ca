//! Certificates are verified.

use std::{io::Write, sync::Arc};

use oss_client::{Client, ErrorKind};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{BUCKET, client, config, response};

/// Serves one answer for each connection, with a certificate of its own for `localhost`; returns its port and that
/// certificate.
async fn server() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(&response("200 OK", "ETag: \"A\"\r\n", b"hello")).await.unwrap();
        }
    });
    (port, made.cert.pem())
}

async fn get(client: Client) -> Result<Vec<u8>, oss_client::Error> {
    let fetched = client.get(BUCKET, "key", 100).await?;
    Ok(fetched.bytes.unwrap().to_vec())
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (port, _) = server().await;
    let error = get(client(config(&format!("https://localhost:{port}")))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Untrusted(_)), "{error:?}");
    assert_eq!(error.attempts(), 1);
}

#[tokio::test]
async fn a_certificate_of_the_given_bundle_is_accepted_for_its_name_only() {
    let (port, pem) = server().await;
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    bundle.write_all(pem.as_bytes()).unwrap();
    for (host, accepted) in [("localhost", true), ("127.0.0.1", false)] {
        let mut config = config(&format!("https://{host}:{port}"));
        config.ca_bundle = Some(bundle.path().to_owned());
        let got = get(client(config)).await;
        assert_eq!(got.as_deref().ok() == Some(b"hello"), accepted, "{host}: {got:?}");
    }
}
