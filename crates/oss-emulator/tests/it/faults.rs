//! Each fault, as the client sees it.

use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use oss_emulator::{Certificate, Emulator, EmulatorConfig, FaultRule, Operation, StartError};
use oss_protocol::time::parse_http_date;
use tokio::time::timeout;

use crate::client::{Call, Client, Server, config, pattern, start};
use crate::tls::ask as ask_through_tls;

/// How long a test waits to see that something does not happen.
const A_WHILE: Duration = Duration::from_millis(200);

/// A server with one object, and a rule about reading it.
async fn failing(rule: &str, content: &[u8]) -> (Server, Client) {
    let (server, mut client) = start().await;
    client.call(Call::put("key", content)).await.expect(200);
    server.fault(rule);
    (server, client)
}

/// Head and body of an answer that broke off.
fn split(received: &[u8]) -> (String, &[u8]) {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(received[..end].to_ascii_lowercase()).unwrap(), &received[end..])
}

async fn ask(client: &mut Client, call: &Call) {
    let (head, body) = client.render(call);
    client.send(&head).await;
    client.send(&body).await;
}

#[tokio::test]
async fn an_error_is_answered_with_its_status_and_body() {
    let (server, mut client) = failing(r#"{"operation": "GetObject", "error": "InternalError", "nth": 2}"#, b"a").await;
    client.call(Call::get("key")).await.expect(200);
    client.call(Call::get("key")).await.refused(500, "InternalError");
    client.call(Call::get("key")).await.expect(200);
    let records = server.log.records();
    let acted: Vec<_> = records.iter().map(|record| (record.status, record.faults.len())).collect();
    assert_eq!(acted, [(200, 0), (200, 0), (500, 1), (200, 0)]);
}

#[tokio::test]
async fn a_refused_write_changes_nothing() {
    let (_server, mut client) =
        failing(r#"{"operation": "PutObject", "error": "InternalError", "times": 1}"#, b"old").await;
    client.call(Call::put("key", &pattern(300_000))).await.refused(500, "InternalError");
    assert_eq!(client.call(Call::get("key")).await.body, b"old");
    client.call(Call::put("key", b"new")).await.expect(200);
}

#[tokio::test]
async fn any_code_can_come_with_any_status() {
    let (_server, mut client) = failing(r#"{"error": "CpuLimitExceeded", "status": 503}"#, b"a").await;
    client.call(Call::get("key")).await.refused(503, "CpuLimitExceeded");
    let head = client.call(Call::head("key")).await;
    assert!(head.body.is_empty());
    head.refused(503, "CpuLimitExceeded");
}

#[tokio::test]
async fn throttling_tells_for_how_long() {
    let (_server, mut client) = failing(r#"{"throttle": 0.25}"#, b"a").await;
    let answer = client.call(Call::get("key")).await.refused(503, "TotalQpsLimitExceeded");
    assert_eq!(answer.header("x-oss-qos-delay-time"), "250");
    let (_server, mut client) = failing(r#"{"throttle": 0, "error": "DownloadTrafficRateLimitExceeded"}"#, b"a").await;
    client.call(Call::get("key")).await.refused(503, "DownloadTrafficRateLimitExceeded");
}

#[tokio::test]
async fn a_delay_comes_before_the_first_byte() {
    let (_server, mut client) = failing(r#"{"operation": "GetObject", "delay": {"uniform": [0.2, 0.3]}}"#, b"a").await;
    let started = Instant::now();
    client.call(Call::head("key")).await.expect(200);
    let undelayed = started.elapsed();
    let started = Instant::now();
    client.call(Call::get("key")).await.expect(200);
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert!(undelayed < Duration::from_millis(200), "{undelayed:?}");
}

#[tokio::test]
async fn a_rate_limits_what_is_read_and_what_is_written() {
    let content = pattern(100_000);
    let (server, mut client) = failing(r#"{"bandwidth": 200000}"#, &content).await;
    let started = Instant::now();
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, content);
    // The head is paced too; up to the credit and the first transfer come ahead of the schedule.
    assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
    let started = Instant::now();
    client.call(Call::put("other", &content)).await.expect(200);
    // What came with the head was read before the request was known.
    assert!(started.elapsed() > Duration::from_millis(150), "{:?}", started.elapsed());
    server.faults.clear();
    let started = Instant::now();
    assert_eq!(client.call(Call::get("other")).await.expect(200).body, content);
    assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_shared_rate_is_split() {
    let content = pattern(50_000);
    let (server, mut first) = failing(r#"{"shared_bandwidth": 200000}"#, &content).await;
    let mut second = server.connect().await;
    let started = Instant::now();
    let (one, other) = tokio::join!(first.call(Call::get("key")), second.call(Call::get("key")));
    assert_eq!((one.body, other.body), (content.clone(), content));
    assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_reset_comes_before_the_answer_or_inside_the_body() {
    let content = pattern(100_000);
    let (server, mut client) = failing(r#"{"reset": "before"}"#, &content).await;
    ask(&mut client, &Call::put("key", b"new")).await;
    assert_eq!(client.end().await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    let record = server.log.records().pop().unwrap();
    assert_eq!((record.operation, record.status, record.faults.len()), (Some(Operation::PutObject), 0, 1));
    server.faults.clear();
    let mut client = server.connect().await;
    assert_eq!(client.call(Call::get("key")).await.body, content, "it was not carried out");
    server.fault(r#"{"reset": "middle"}"#);
    ask(&mut client, &Call::get("key")).await;
    let (received, error) = client.end().await;
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    let (head, body) = split(&received);
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 100000"), "{head}");
    assert_eq!(body, &content[..50_000]);
}

#[tokio::test]
async fn an_answer_without_a_body_is_not_sent_before_a_reset() {
    let (server, mut client) = failing(r#"{"operation": ["HeadObject", "PutObject"], "reset": 10}"#, b"old").await;
    ask(&mut client, &Call::head("key")).await;
    assert_eq!(client.end().await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    let mut client = server.connect().await;
    ask(&mut client, &Call::put("key", b"new")).await;
    assert_eq!(client.end().await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    let mut client = server.connect().await;
    assert_eq!(client.call(Call::get("key")).await.body, b"new");
}

#[tokio::test]
async fn a_truncated_body_announces_its_whole_length() {
    let content = pattern(3_000_000);
    let (server, mut client) = failing(r#"{"operation": "GetObject", "truncate": 2000000}"#, &content).await;
    ask(&mut client, &Call::get("key")).await;
    let (received, error) = client.end().await;
    assert_eq!(error, None);
    let (head, body) = split(&received);
    assert!(head.contains("content-length: 3000000"), "{head}");
    assert!(body == &content[..2_000_000], "{}", body.len());
    // A body that is not longer than that loses its last byte.
    let mut client = server.connect().await;
    client.call(Call::put("small", b"abc")).await.expect(200);
    ask(&mut client, &Call::get("small")).await;
    let (received, error) = client.end().await;
    assert_eq!((split(&received).1, error), (&b"ab"[..], None));
}

#[tokio::test]
async fn a_stalled_body_leaves_the_connection_open() {
    let content = pattern(1000);
    let (server, mut client) = failing(r#"{"operation": "GetObject", "stall": 10}"#, &content).await;
    ask(&mut client, &Call::get("key")).await;
    let head = client.receive(&Method::HEAD).await;
    assert_eq!(head.header("content-length"), "1000");
    assert!(timeout(A_WHILE, client.end()).await.is_err(), "it ended");
    let mut other = server.connect().await;
    server.fault(r#"{"operation": "HeadObject", "stall": "before"}"#);
    ask(&mut other, &Call::head("key")).await;
    assert!(timeout(A_WHILE, other.receive(&Method::HEAD)).await.is_err(), "it was answered");
    // A stopping server does not wait for them.
    let started = Instant::now();
    server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn bytes_before_a_stall_arrive() {
    let (_server, mut client) = failing(r#"{"operation": "GetObject", "stall": "middle"}"#, &pattern(1000)).await;
    ask(&mut client, &Call::get("key")).await;
    client.receive(&Method::HEAD).await;
    let half = pattern(500);
    assert_eq!(client.exactly(500).await, half);
}

#[tokio::test]
async fn a_flipped_byte_comes_with_the_right_checksum_and_a_wrong_checksum_with_the_right_bytes() {
    let content = pattern(3_000_000);
    let (server, mut client) = failing(r#"{"operation": "GetObject", "nth": 2, "flip": 2500000}"#, &content).await;
    let right = client.call(Call::get("key")).await.expect(200);
    let flipped = client.call(Call::get("key")).await.expect(200);
    assert_eq!(flipped.header("x-oss-hash-crc64ecma"), right.header("x-oss-hash-crc64ecma"));
    let differing: Vec<usize> = (0..content.len()).filter(|at| flipped.body[*at] != content[*at]).collect();
    assert_eq!(differing, [2_500_000]);
    server.faults.clear();
    server.fault(r#"{"wrong_crc": true}"#);
    let wrong = client.call(Call::get("key")).await.expect(200);
    assert!(wrong.body == content);
    let number = |text: &str| text.parse::<u64>().unwrap();
    let checksum = "x-oss-hash-crc64ecma";
    assert_eq!(number(wrong.header(checksum)), number(right.header(checksum)) ^ 1);
}

#[tokio::test]
async fn a_skewed_clock_refuses_what_a_right_clock_signed_and_shows_itself() {
    let (server, mut client) = failing(r#"{"clock_skew": 1800}"#, b"a").await;
    let refused = client.call(Call::get("key")).await.refused(403, "RequestTimeTooSkewed");
    let date = parse_http_date(refused.header("date")).unwrap();
    let ahead = date.duration_since(SystemTime::now()).unwrap();
    assert!(ahead > Duration::from_secs(1700), "{ahead:?}");
    // A client that goes by that date is let in.
    client.time = date;
    client.call(Call::get("key")).await.expect(200);
    server.faults.clear();
    client.call(Call::get("key")).await.refused(403, "RequestTimeTooSkewed");
}

#[tokio::test]
async fn a_token_can_expire() {
    let (_server, mut client) = failing(r#"{"expired_token": true, "times": 1}"#, b"a").await;
    client.call(Call::get("key")).await.refused(403, "SecurityTokenExpired");
    client.call(Call::get("key")).await.expect(200);
}

#[tokio::test]
async fn a_lost_reply_is_to_a_request_that_was_carried_out() {
    let (server, mut client) = failing(r#"{"operation": "PutObject", "lose_reply": true}"#, b"old").await;
    ask(&mut client, &Call::put("key", b"new")).await;
    assert_eq!(client.end().await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    let mut client = server.connect().await;
    assert_eq!(client.call(Call::get("key")).await.body, b"new");
    let record = &server.log.records()[1];
    assert_eq!((record.operation, record.status), (Some(Operation::PutObject), 200));
}

#[tokio::test]
async fn faults_act_below_tls() {
    let emulator = Emulator::bind(EmulatorConfig { tls: Some(Certificate::Generated), ..config() }).await.unwrap();
    let (authority, faults) = (emulator.local_addr().to_string(), emulator.faults());
    let trusted = emulator.trusted_certificates().unwrap().to_owned();
    let serving = tokio::spawn(emulator.serve(std::future::pending()));
    let client = Client::to(&authority).await;
    assert!(ask_through_tls(&client, "localhost", &trusted).await.unwrap().contains("NoSuchKey"));
    for rule in [r#"{"reset": "before"}"#, r#"{"reset": "middle"}"#] {
        faults.clear();
        faults.add(FaultRule::parse_list(rule).unwrap().remove(0)).unwrap();
        let error = ask_through_tls(&client, "localhost", &trusted).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{rule}");
    }
    serving.abort();
}

#[tokio::test]
async fn concurrency_is_recorded() {
    let (server, mut first) = failing(r#"{"operation": "GetObject", "delay": 0.3}"#, b"a").await;
    let (mut second, mut third) = (server.connect().await, server.connect().await);
    let get = || Call::get("key");
    tokio::join!(first.call(get()), second.call(get()), third.call(get()));
    assert_eq!(server.log.peak_concurrency(), 3);
    let mut seen: Vec<u64> = server.log.records()[1..].iter().map(|record| record.concurrency).collect();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3]);
    server.log.clear();
    first.call(Call::head("key")).await.expect(200);
    assert_eq!(server.log.peak_concurrency(), 1);
}

#[tokio::test]
async fn faults_can_be_there_from_the_start() {
    let rule = FaultRule { error: Some("InternalError".to_owned()), ..FaultRule::default() };
    let server = Server::start(EmulatorConfig { faults: vec![rule], ..config() }).await;
    server.connect().await.call(Call::get("key")).await.refused(500, "InternalError");
    let error = Emulator::bind(EmulatorConfig { faults: vec![FaultRule::default()], ..config() }).await.unwrap_err();
    assert!(matches!(error, StartError::Fault { .. }) && error.to_string().contains("does nothing"), "{error}");
}
