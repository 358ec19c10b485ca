//! Starting, stopping, the request log, and requests that are not quite HTTP.

use http::Method;
use oss_emulator::{Emulator, EmulatorConfig, Operation, StartError};

use crate::client::{BUCKET, Call, Server, config, pattern, start};

#[tokio::test]
async fn a_taken_port_is_said_clearly() {
    let (server, _client) = start().await;
    let port = server.authority.rsplit(':').next().unwrap().parse().unwrap();
    let error = Emulator::bind(EmulatorConfig { port, ..config() }).await.unwrap_err();
    assert!(matches!(error, StartError::AddressTaken { .. }));
    assert!(error.to_string().contains(&format!("127.0.0.1:{port} is taken")), "{error}");
}

#[tokio::test]
async fn bad_configurations_are_refused() {
    let refused = |config| async { Emulator::bind(config).await.unwrap_err() };
    let error = refused(EmulatorConfig { buckets: vec!["Bad".to_owned()], ..config() }).await;
    assert!(matches!(error, StartError::BucketName { .. }) && error.to_string().contains("Bad"), "{error}");
    let error = refused(EmulatorConfig { region: "CN Hangzhou".to_owned(), ..config() }).await;
    assert!(matches!(error, StartError::Region { .. }), "{error}");
    let error = refused(EmulatorConfig { host: "203.0.113.1".to_owned(), ..config() }).await;
    assert!(matches!(error, StartError::Listen { .. }) && error.to_string().contains("203.0.113.1"), "{error}");
}

#[tokio::test]
async fn addresses_of_version_6_work_where_there_are_any() {
    for host in ["::1", "[::1]"] {
        match Emulator::bind(EmulatorConfig { host: host.to_owned(), ..config() }).await {
            Ok(emulator) => assert!(emulator.url().starts_with("http://[::1]:"), "{}", emulator.url()),
            Err(error) => assert!(matches!(error, StartError::Listen { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn an_unspecified_address_is_reached_by_loopback() {
    let emulator = Emulator::bind(EmulatorConfig { host: "0.0.0.0".to_owned(), ..config() }).await.unwrap();
    assert_eq!(emulator.url(), format!("http://127.0.0.1:{}", emulator.local_addr().port()));
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_the_socket() {
    let (server, mut client) = start().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    let authority = server.authority.clone();
    server.stop().await;
    assert!(client.is_closed().await);
    tokio::net::TcpStream::connect(&authority).await.unwrap_err();
}

#[tokio::test]
async fn a_request_under_way_is_finished() {
    let (server, mut client) = start().await;
    let (head, body) = client.render(&Call::put("key", &pattern(1000)).header("expect", "100-continue"));
    client.send(&head).await;
    // Once it says so the server is reading the body.
    client.receive(&Method::PUT).await.expect(100);
    client.send(&body[..500]).await;
    let log = server.log.clone();
    // The test stops the server before it sends the rest of the body.
    let ((), answer) = tokio::join!(server.stop(), async {
        client.send(&body[500..]).await;
        client.receive(&Method::PUT).await
    });
    answer.expect(200);
    assert_eq!(log.count(Operation::PutObject), 1);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn the_log_tells_what_was_asked() {
    let (server, mut client) = start().await;
    client.call(Call::put("a b", b"hello")).await.expect(200);
    let get = client.call(Call::get("a b").header("range", "bytes=1-2")).await.expect(206);
    client.call(Call::get("missing")).await.refused(404, "NoSuchKey");
    client.call(Call::bucket(Method::PATCH)).await.refused(405, "MethodNotAllowed");
    let records = server.log.records();
    assert_eq!(records.len(), 4);
    let read = &records[1];
    assert_eq!((read.operation, read.status, read.response_bytes), (Some(Operation::GetObject), 206, 2));
    assert_eq!((read.bucket.as_deref(), read.key.as_deref()), (Some(BUCKET), Some("a b")));
    assert_eq!(read.range.as_deref(), Some("bytes=1-2"));
    assert_eq!(read.request_id, get.header("x-oss-request-id"));
    assert_eq!(records[2].error_code.as_deref(), Some("NoSuchKey"));
    assert_eq!((records[3].operation, records[3].status), (None, 405));
    assert_eq!(server.log.count(Operation::GetObject), 2);
    assert_eq!(server.log.total(), 4);
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_refusals() {
    let (_server, mut client) = start().await;
    for _ in 0..50 {
        client.call(Call::put("key", &pattern(10_000))).await.expect(200);
        client.call(Call::get("missing")).await.refused(404, "NoSuchKey");
        // The body of a refused request is read, so that the next request is understood.
        client.call(Call::put("key", &pattern(300_000)).of("no-such-bucket")).await.refused(404, "NoSuchBucket");
        assert_eq!(client.call(Call::get("key")).await.expect(200).body, pattern(10_000));
    }
}

#[tokio::test]
async fn requests_that_nobody_should_send_are_answered_or_cut() {
    let (server, _client) = start().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", Some(400)),
        ("GET /%zz/key HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", Some(400)),
        ("GET /bucket/%FF HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", Some(400)),
        ("GET /bucket/?a=%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", Some(400)),
        ("OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", Some(405)),
        ("GET http://examplebucket.oss.test/key HTTP/1.1\r\nHost: examplebucket.oss.test\r\n\r\n", Some(403)),
        ("nonsense\r\n\r\n", None),
    ] {
        let mut client = server.connect().await;
        client.send(request.as_bytes()).await;
        match status {
            Some(status) => {
                assert_eq!(client.receive(&Method::GET).await.status, status, "{request}");
            }
            // hyper answers 400 by itself and closes the connection.
            None => {
                client.receive(&Method::GET).await;
                assert!(client.is_closed().await);
            }
        }
    }
    let mut client = server.connect().await;
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let (server, mut client) = start().await;
    client.call(Call::put("key", b"whole")).await.expect(200);
    let mut other = server.connect().await;
    let (head, _) = other.render(&Call::put("key", &pattern(1000)));
    other.send(&head).await;
    other.send(&pattern(1000)[..999]).await;
    drop(other);
    while server.log.count(Operation::PutObject) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"whole");
}

async fn many_clients() {
    let server = Server::start(config()).await;
    let mut clients = Vec::new();
    for number in 0..16 {
        let mut client = server.connect().await;
        clients.push(tokio::spawn(async move {
            for round in 0..20 {
                let key = format!("{number}/{round}");
                client.call(Call::put(&key, key.as_bytes())).await.expect(200);
                assert_eq!(client.call(Call::get(&key)).await.expect(200).body, key.as_bytes());
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(server.log.count(Operation::GetObject), 320);
    server.stop().await;
}

#[tokio::test(flavor = "current_thread")]
async fn it_serves_many_clients_on_one_thread() {
    many_clients().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn it_serves_many_clients_on_many_threads() {
    many_clients().await;
}
