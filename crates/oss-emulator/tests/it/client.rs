//! A server to test, and a client that sends exactly the given bytes.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use oss_emulator::{Emulator, EmulatorConfig, FaultRule, Faults, KeyPair, RequestLog};
use oss_protocol::canonical::{encode_path, format_query};
use oss_protocol::credentials::Credentials;
use oss_protocol::sign::v4::{Signer, SigningKey};
use oss_protocol::sign::{RequestTarget, v1, v4};
use oss_protocol::xml::error::ErrorBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const ID: &str = "test-id";
pub(crate) const SECRET: &str = "test-secret";
pub(crate) const REGION: &str = "cn-hangzhou";
pub(crate) const BUCKET: &str = "examplebucket";

/// A configuration with one key pair and one bucket.
pub(crate) fn config() -> EmulatorConfig {
    EmulatorConfig {
        key_pairs: vec![KeyPair::new(ID, SECRET)],
        buckets: vec![BUCKET.to_owned()],
        domain: Some("oss.test".to_owned()),
        // Most tests of access rules are about what they open.
        block_public_access: false,
        ..EmulatorConfig::default()
    }
}

/// A running emulator.
pub(crate) struct Server {
    pub(crate) authority: String,
    pub(crate) log: RequestLog,
    pub(crate) faults: Faults,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(config: EmulatorConfig) -> Self {
        let emulator = Emulator::bind(config).await.unwrap();
        let authority = emulator.local_addr().to_string();
        assert_eq!(emulator.url(), format!("http://{authority}"));
        let log = emulator.request_log();
        let faults = emulator.faults();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(emulator.serve(async {
            let _ = stopped.await;
        }));
        Self { authority, log, faults, stop, task }
    }

    /// Adds a fault, given as JSON.
    pub(crate) fn fault(&self, rule: &str) -> u64 {
        self.faults.add(FaultRule::parse_list(rule).unwrap().remove(0)).unwrap()
    }

    /// A connection that signs with V4.
    pub(crate) async fn connect(&self) -> Client {
        Client::to(&self.authority).await
    }

    /// A connection that signs with another access key.
    pub(crate) async fn connect_as(&self, id: &str, secret: &str) -> Client {
        let mut client = self.connect().await;
        client.credentials = Credentials::new(id, secret);
        client
    }

    /// A connection that does not sign.
    pub(crate) async fn connect_unsigned(&self) -> Client {
        let mut client = self.connect().await;
        client.signing = Signing::None;
        client
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// A server in memory and a connection to it.
pub(crate) async fn start() -> (Server, Client) {
    let server = Server::start(config()).await;
    let client = server.connect().await;
    (server, client)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    None,
    V1,
    V4,
    V1Url,
    V4Url,
}

/// A request as it will be signed and sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) bucket: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the bucket goes into the host.
    pub(crate) virtual_host: bool,
    /// Whether the body goes as chunks of a few bytes instead of with a length.
    pub(crate) chunked: bool,
}

impl Call {
    pub(crate) fn service(method: Method) -> Self {
        Self {
            method,
            bucket: None,
            key: None,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            virtual_host: false,
            chunked: false,
        }
    }

    pub(crate) fn bucket(method: Method) -> Self {
        Self { bucket: Some(BUCKET.to_owned()), ..Self::service(method) }
    }

    pub(crate) fn object(method: Method, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..Self::bucket(method) }
    }

    pub(crate) fn get(key: &str) -> Self {
        Self::object(Method::GET, key)
    }

    pub(crate) fn head(key: &str) -> Self {
        Self::object(Method::HEAD, key)
    }

    pub(crate) fn put(key: &str, body: &[u8]) -> Self {
        Self::object(Method::PUT, key).body(body)
    }

    pub(crate) fn of(mut self, bucket: &str) -> Self {
        self.bucket = Some(bucket.to_owned());
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn virtual_host(mut self) -> Self {
        self.virtual_host = true;
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| str::from_utf8(value.as_bytes()).unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The error, from the body or from the header that stands for it.
    pub(crate) fn error(&self) -> ErrorBody {
        let body =
            if self.body.is_empty() { STANDARD.decode(self.header("x-oss-err")).unwrap() } else { self.body.clone() };
        ErrorBody::parse(&body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text between a pair of tags.
    pub(crate) fn element(&self, name: &str) -> &str {
        let (_, rest) = self.text().split_once(&format!("<{name}>")).unwrap();
        rest.split_once(&format!("</{name}>")).unwrap().0
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let error = self.error();
        assert_eq!((self.status, error.code.as_str()), (status, code), "{error:?}");
        assert_eq!(error.request_id, self.header("x-oss-request-id"));
        assert_eq!(error.ec.unwrap_or_default(), self.header("x-oss-ec"));
        self
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    pub(crate) authority: String,
    pub(crate) signing: Signing,
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    pub(crate) time: SystemTime,
    pub(crate) additional: Vec<&'static str>,
}

impl Client {
    /// A connection that signs with V4.
    pub(crate) async fn to(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).await.unwrap();
        // Head and body are written one after the other; without this the body waits for the server to acknowledge.
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
            authority: authority.to_owned(),
            signing: Signing::V4,
            credentials: Credentials::new(ID, SECRET),
            region: REGION.to_owned(),
            time: SystemTime::now(),
            additional: Vec::new(),
        }
    }

    pub(crate) async fn call(&mut self, call: Call) -> Answer {
        let (head, body) = self.render(&call);
        self.send(&head).await;
        self.send(&body).await;
        self.receive(&call.method).await
    }

    /// Sends a GET of a path that is not the service's, without a signature.
    pub(crate) async fn get_path(&mut self, path: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.authority);
        self.send(head.as_bytes()).await;
        self.receive(&Method::GET).await
    }

    /// The same of a server that may die; `None` when it did.
    pub(crate) async fn try_call(&mut self, call: Call) -> Option<Answer> {
        let (head, body) = self.render(&call);
        self.stream.write_all(&head).await.ok()?;
        self.stream.write_all(&body).await.ok()?;
        while !is_whole(&self.buffer) {
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
        Some(self.receive(&call.method).await)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Head and body on the wire, signed.
    pub(crate) fn render(&self, call: &Call) -> (Vec<u8>, Vec<u8>) {
        let mut call = call.clone();
        let host = match &call.bucket {
            Some(bucket) if call.virtual_host => format!("{bucket}.oss.test"),
            _ => self.authority.clone(),
        };
        call.headers.insert("host", host.parse().unwrap());
        self.sign(&mut call);
        let key = call.key.as_deref().map(encode_path).unwrap_or_default();
        let path = match &call.bucket {
            Some(bucket) if !call.virtual_host => format!("/{bucket}/{key}"),
            _ => format!("/{key}"),
        };
        let query = format_query(&call.query);
        let separator = if query.is_empty() { "" } else { "?" };
        let mut head = format!("{} {path}{separator}{query} HTTP/1.1\r\n", call.method).into_bytes();
        for (name, value) in &call.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        let mut body = Vec::new();
        if call.chunked {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            for chunk in call.body.chunks(7) {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
        } else {
            if (call.method == Method::PUT || call.method == Method::POST)
                && !call.headers.contains_key("content-length")
            {
                head.extend_from_slice(format!("Content-Length: {}\r\n", call.body.len()).as_bytes());
            }
            body = call.body;
        }
        head.extend_from_slice(b"\r\n");
        (head, body)
    }

    fn sign(&self, call: &mut Call) {
        let query = call.query.clone();
        let target = RequestTarget {
            method: &call.method,
            bucket: call.bucket.as_deref(),
            key: call.key.as_deref(),
            query: &query,
        };
        let signing_key = SigningKey::for_time(self.credentials.access_key_secret(), self.time, &self.region);
        let signer = Signer {
            credentials: &self.credentials,
            signing_key: &signing_key,
            time: self.time,
            additional: &self.additional,
        };
        let hour = Duration::from_secs(3600);
        match self.signing {
            Signing::None => {}
            Signing::V1 => v1::sign_headers(target, &mut call.headers, &self.credentials, self.time).unwrap(),
            Signing::V4 => v4::sign_headers(target, &mut call.headers, &signer).unwrap(),
            Signing::V1Url => {
                let more = v1::presign(target, &call.headers, &self.credentials, self.time, hour).unwrap();
                call.query.extend(more);
            }
            Signing::V4Url => {
                let more = v4::presign(target, &call.headers, &signer, hour).unwrap();
                call.query.extend(more);
            }
        }
    }

    async fn fill(&mut self) {
        let mut chunk = vec![0; 64 * 1024];
        let read = self.stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the server closed the connection after {:?}", String::from_utf8_lossy(&self.buffer));
        self.buffer.extend_from_slice(&chunk[..read]);
    }

    /// Whether the server has closed the connection.
    pub(crate) async fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0) | Err(_))
    }

    /// The bytes that the server sends until it closes the connection.
    pub(crate) async fn drain(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        let _ = self.stream.read_to_end(&mut rest).await;
        rest
    }

    /// The next `count` bytes from the server.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.fill().await;
        }
        self.buffer.drain(..length).collect()
    }

    /// The bytes that the server sends until the connection ends, and the error at its end, if any.
    pub(crate) async fn end(&mut self) -> (Vec<u8>, Option<std::io::ErrorKind>) {
        let mut rest = std::mem::take(&mut self.buffer);
        let ended = self.stream.read_to_end(&mut rest).await;
        (rest, ended.err().map(|error| error.kind()))
    }

    /// A body whose length is announced for each chunk.
    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    break end;
                }
                self.fill().await;
            };
            let line = self.exactly(end + 2).await;
            let length = usize::from_str_radix(str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
            body.extend(self.exactly(length).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
            if length == 0 {
                return body;
            }
        }
    }

    pub(crate) async fn receive(&mut self, method: &Method) -> Answer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            self.fill().await;
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.trim()).unwrap());
        }
        if headers.contains_key("transfer-encoding") {
            return Answer { status, headers, body: self.chunks().await };
        }
        let length = match headers.get("content-length") {
            Some(length) if *method != Method::HEAD && status != 304 && status != 204 => {
                length.to_str().unwrap().parse().unwrap()
            }
            _ => 0,
        };
        while self.buffer.len() < length {
            self.fill().await;
        }
        let body = self.buffer.drain(..length).collect();
        Answer { status, headers, body }
    }
}

/// Whether there is an answer with the body that its head announces.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    bytes.len() >= end + 4 + length
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}
