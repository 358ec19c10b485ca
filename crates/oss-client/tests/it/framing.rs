//! How responses may be framed, and when their connection may be used again.

use bytes::Bytes;
use http::{HeaderName, Method};
use oss_client::{ErrorKind, Request, ops::put::PutOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{BUCKET, Reply, client, config, error_xml, pattern, response, scripted};

fn chunked(content: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in content.chunks(size) {
        bytes.extend_from_slice(format!("{:X};name=\"value\"\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
    bytes
}

fn get() -> Request {
    Request::object(Method::GET, BUCKET, "key")
}

#[tokio::test]
async fn chunks_are_joined_and_the_connection_is_used_again() {
    let content = pattern(100_000);
    let replies = [1, 7, 16_384, 99_999].map(|size| Reply::Send(chunked(&content[..size * 3 % 100_000], size)));
    let expected = [3, 21, 49_152, 99_997];
    let (url, _requests) = scripted(replies.into()).await;
    let client = client(config(&url));
    for length in expected {
        let body = client.send(&get()).await.unwrap().body;
        assert_eq!(body.collect(1 << 20).await.unwrap(), &content[..length]);
    }
}

#[tokio::test]
async fn chunks_of_no_readable_size_are_an_error() {
    for size in ["-1", "", "1_0", "FFFFFFFFFFFFFFFFF"] {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nx\r\n0\r\n\r\n");
        let (url, _requests) = scripted(vec![Reply::Send(bytes.into_bytes())]).await;
        let body = client(config(&url)).send(&get()).await.unwrap().body;
        let error = body.collect(1 << 20).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let content = pattern(70_000);
    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    bytes.extend_from_slice(&content);
    let (url, _requests) = scripted(vec![Reply::SendAndClose(bytes)]).await;
    let body = client(config(&url)).send(&get()).await.unwrap().body;
    assert_eq!(body.collect(1 << 20).await.unwrap(), content);
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec();
    bytes.extend_from_slice(&response("200 OK", "", b"hello"));
    let (url, _requests) = scripted(vec![Reply::Send(bytes)]).await;
    let response = client(config(&url)).send(&get()).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.body.collect(100).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_long_head_is_read_and_an_endless_one_is_refused() {
    let headers = |count: usize| -> String {
        let header = |n| format!("x-oss-meta-{n}: {}\r\n", "v".repeat(400));
        (0..count).map(header).collect()
    };
    let (url, _requests) = scripted(vec![Reply::Send(response("200 OK", &headers(60), b"hello"))]).await;
    let answer = client(config(&url)).send(&get()).await.unwrap();
    assert_eq!(answer.headers.get(&HeaderName::from_static("x-oss-meta-59")).unwrap().len(), 400);
    assert_eq!(answer.body.collect(100).await.unwrap(), b"hello");

    let (url, _requests) = scripted(vec![Reply::Send(response("200 OK", &headers(400), b""))]).await;
    let error = client(config(&url)).send(&get()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
}

#[tokio::test]
async fn bytes_after_a_body_end_its_connection() {
    let mut bytes = response("200 OK", "", b"hello");
    bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
    let replies = vec![Reply::SendAndStall(bytes), Reply::Send(response("200 OK", "", b"right"))];
    let (url, _requests) = scripted(replies).await;
    let client = client(config(&url));
    for expected in [b"hello", b"right"] {
        let body = client.send(&get()).await.unwrap().body;
        assert_eq!(body.collect(100).await.unwrap(), expected);
    }
}

/// The server answers as soon as it has read the head, and reads no further.
#[tokio::test]
async fn a_refusal_that_comes_before_the_body_is_sent_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(&response("403 Forbidden", "", &error_xml("AccessDenied"))).await.unwrap();
        std::future::pending::<()>().await;
    });
    let request = Request::object(Method::PUT, BUCKET, "key").with_body(Bytes::from(pattern(64 << 20)));
    let error = client(config(&url)).send(&request).await.unwrap_err();
    assert_eq!(error.code().unwrap().as_str(), "AccessDenied");
}

#[tokio::test]
async fn an_interim_answer_does_not_stop_a_body_that_is_being_sent() {
    // More than the sockets hold, so that the client still sends when the server speaks.
    let content = pattern(32 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let length = content.len();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Proc").await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"essing\r\n\r\n").await.unwrap();
        let mut left = length - (bytes.len() - head);
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            left -= stream.read(&mut piece).await.unwrap();
        }
        stream.write_all(&response("200 OK", "ETag: \"P\"\r\n", b"")).await.unwrap();
        stream
    });
    let mut config = config(&url);
    config.max_attempts = 1;
    let etag = client(config).put(BUCKET, "key", content.into(), &PutOptions::default()).await.unwrap();
    assert_eq!(etag, "\"P\"");
    server.await.unwrap();
}

#[tokio::test]
async fn an_endless_run_of_interim_answers_or_trailers_is_an_error() {
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
    let (url, _requests) = scripted(vec![Reply::SendAndStall(interim)]).await;
    let error = client(config(&url)).send(&get()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
    let mut trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec();
    trailers.extend_from_slice(&b"x-trailer: 1\r\n".repeat(10_000));
    let (url, _requests) = scripted(vec![Reply::SendAndStall(trailers)]).await;
    let body = client(config(&url)).send(&get()).await.unwrap().body;
    let error = body.collect(1 << 20).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Transport(_)), "{error:?}");
}

#[tokio::test]
async fn a_size_that_no_object_has_is_an_error() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nETag: \"A\"\r\n\r\n".to_vec();
    let (url, _requests) = scripted(vec![Reply::Send(head.clone()), Reply::SendAndStall(head)]).await;
    let client = client(config(&url));
    let error = client.head(BUCKET, "key").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
    let error = client.get(BUCKET, "key", u64::MAX).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
}
