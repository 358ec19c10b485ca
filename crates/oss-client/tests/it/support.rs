//! Servers to test against.

use std::{sync::Arc, time::Duration};

use oss_client::{Client, ClientConfig, credentials::StaticCredentials};
use oss_emulator::{Emulator, EmulatorConfig, KeyPair};
use oss_protocol::{
    credentials::Credentials,
    endpoint::{Endpoint, Scheme},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(crate) const BUCKET: &str = "examplebucket";
pub(crate) const ID: &str = "test-id";
pub(crate) const SECRET: &str = "test-secret-never-shown";

pub(crate) fn config(url: &str) -> ClientConfig {
    let endpoint = Endpoint::parse(url, Scheme::Http, None).unwrap();
    let mut config = ClientConfig::new(endpoint, "cn-hangzhou");
    config.connect_timeout = Duration::from_secs(2);
    config.read_timeout = Duration::from_secs(2);
    config
}

pub(crate) fn client(config: ClientConfig) -> Client {
    let credentials = Credentials::new(ID, SECRET);
    Client::new(config, Arc::new(StaticCredentials(Some(credentials)))).unwrap()
}

pub(crate) fn emulator_config() -> EmulatorConfig {
    EmulatorConfig {
        host: "127.0.0.1".to_owned(),
        port: 0,
        region: "cn-hangzhou".to_owned(),
        key_pairs: vec![KeyPair::new(ID, SECRET)],
        buckets: vec![BUCKET.to_owned()],
        ..EmulatorConfig::default()
    }
}

/// Starts an emulator that runs as long as the test's runtime does.
pub(crate) async fn emulator() -> String {
    let emulator = Emulator::bind(emulator_config()).await.unwrap();
    let url = emulator.url();
    tokio::spawn(emulator.serve(std::future::pending()));
    url
}

/// What a scripted server does with one request.
pub(crate) enum Reply {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends these bytes, then nothing more, and keeps the connection open.
    SendAndStall(Vec<u8>),
}

/// A server that answers request number n with reply number n and records what it was asked.
pub(crate) async fn scripted(replies: Vec<Reply>) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut replies = replies.into_iter();
        'connections: loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            loop {
                let Some(request) = read_request(&mut stream).await else { continue 'connections };
                sender.send(request).unwrap();
                match replies.next() {
                    Some(Reply::Send(bytes)) => stream.write_all(&bytes).await.unwrap(),
                    Some(Reply::SendAndClose(bytes)) => {
                        stream.write_all(&bytes).await.unwrap();
                        continue 'connections;
                    }
                    Some(Reply::SendAndStall(bytes)) => {
                        stream.write_all(&bytes).await.unwrap();
                        // Held by a task of its own, so that the next connection is served.
                        tokio::spawn(async move {
                            let _open = stream;
                            std::future::pending::<()>().await;
                        });
                        continue 'connections;
                    }
                    None => return,
                }
            }
        }
    });
    (url, receiver)
}

/// Reads a request without a body, or with one whose length is announced.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0_usize);
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(text)
}

/// A response with these header lines and this body.
pub(crate) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn error_xml(code: &str) -> Vec<u8> {
    format!("<Error><Code>{code}</Code><Message>said {code}</Message><RequestId>0123456789ABCDEF01234567</RequestId><EC>0001-00000001</EC></Error>").into_bytes()
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
