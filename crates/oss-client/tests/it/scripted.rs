//! What the client does when a server or the network misbehaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use oss_client::{Client, ErrorKind, attempt::Trace, credentials::CredentialProvider, ops::list::ListOptions};
use oss_protocol::{crc64, credentials::Credentials, time};

use crate::support::{BUCKET, Reply, SECRET, client, config, error_xml, pattern, response, scripted};

const ETAG: &str = "ETag: \"A\"\r\n";

fn object(content: &[u8]) -> Vec<u8> {
    let headers = format!("{ETAG}x-oss-hash-crc64ecma: {}\r\n", crc64::checksum(content));
    response("200 OK", &headers, content)
}

fn partial(content: &[u8], start: usize, etag: &str) -> Vec<u8> {
    let range = format!("Content-Range: bytes {start}-{}/{}\r\n", content.len() - 1, content.len());
    response("206 Partial Content", &format!("{etag}{range}"), &content[start..])
}

#[tokio::test]
async fn temporary_failures_are_retried_and_signed_again() {
    let content = pattern(100);
    let unavailable = || Reply::Send(response("503 Busy", "", &error_xml("ServiceUnavailable")));
    let (url, mut requests) = scripted(vec![unavailable(), unavailable(), Reply::Send(object(&content))]).await;
    let fetched = client(config(&url)).get(BUCKET, "key", 100).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&content[..]));
    for _ in 0..3 {
        assert!(requests.recv().await.unwrap().to_lowercase().contains("authorization: oss4-hmac-sha256"));
    }
}

#[tokio::test]
async fn a_trace_has_each_attempt() {
    let content = pattern(600_000);
    let mut broken = object(&content);
    broken.truncate(broken.len() - 300_000);
    let replies = vec![
        Reply::Send(response("503 Busy", "x-oss-request-id: ONE\r\n", &error_xml("ServiceUnavailable"))),
        Reply::SendAndClose(broken),
        Reply::Send(partial(&content, 256 << 10, ETAG)),
    ];
    let (url, _requests) = scripted(replies).await;
    let trace = Arc::new(Trace::default());
    let fetched = client(config(&url)).traced(Arc::clone(&trace)).get(BUCKET, "key", 1 << 20).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&content[..]));
    let (attempts, left_out) = trace.take();
    let seen: Vec<_> = attempts.iter().map(|one| (one.number, one.status, one.failure.is_some())).collect();
    assert_eq!(seen, [(1, Some(503), true), (2, Some(200), true), (3, Some(206), false)]);
    assert_eq!((attempts[0].request_id.as_deref(), left_out), (Some("ONE"), 0));
    assert_eq!(attempts[2].received, 600_000 - (256 << 10));
    assert!(attempts.iter().all(|one| one.first_byte <= one.total));
}

#[tokio::test]
async fn retries_end_and_the_error_tells_of_all_attempts() {
    let replies = (0..3).map(|_| Reply::Send(response("500 Oops", "", &error_xml("InternalError"))));
    let (url, _requests) = scripted(replies.collect()).await;
    let mut config = config(&url);
    config.max_attempts = 3;
    let error = client(config).head(BUCKET, "key").await.unwrap_err();
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.earlier_attempts().len(), 2);
    assert_eq!(error.status().unwrap().as_u16(), 500);
}

#[tokio::test]
async fn refusals_are_not_retried() {
    let (url, mut requests) = scripted(vec![Reply::Send(response("403 No", "", &error_xml("AccessDenied")))]).await;
    let error = client(config(&url)).get(BUCKET, "key", 1).await.unwrap_err();
    assert_eq!((error.attempts(), error.code().unwrap().as_str()), (1, "AccessDenied"));
    requests.recv().await.unwrap();
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_resumed_where_it_broke() {
    let content = pattern(600_000);
    let mut first = object(&content);
    first.truncate(first.len() - 200_000);
    // What arrived of the piece that broke is asked for again: pieces are 256 KiB.
    let resumed = 256 << 10;
    let (url, mut requests) =
        scripted(vec![Reply::SendAndClose(first), Reply::Send(partial(&content, resumed, ETAG))]).await;
    let fetched = client(config(&url)).get(BUCKET, "key", 1 << 20).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&content[..]));
    requests.recv().await.unwrap();
    let second = requests.recv().await.unwrap().to_lowercase();
    assert!(second.contains(&format!("range: bytes={resumed}-599999")), "{second}");
    assert!(second.contains("if-match: \"a\""), "{second}");
    assert!(second.contains("x-oss-range-behavior: standard"), "{second}");
}

#[tokio::test]
async fn an_object_replaced_while_it_breaks_off_is_read_again() {
    let (old, new) = (pattern(1000), pattern(2000));
    let mut first = object(&old);
    first.truncate(first.len() - 500);
    let refused = response("412 Changed", "", &error_xml("PreconditionFailed"));
    let (url, _requests) =
        scripted(vec![Reply::SendAndClose(first), Reply::Send(refused), Reply::Send(object(&new))]).await;
    let fetched = client(config(&url)).get(BUCKET, "key", 1 << 20).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&new[..]));
}

#[tokio::test]
async fn a_range_of_a_replaced_object_is_an_error() {
    let content = pattern(1000);
    let (url, _requests) = scripted(vec![Reply::Send(partial(&content, 500, "ETag: \"B\"\r\n"))]).await;
    let mut buffer = [0; 500];
    let error = client(config(&url)).get_range(BUCKET, "key", "\"A\"", 500, &mut buffer[..]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Changed(_)), "{error:?}");
}

#[tokio::test]
async fn the_whole_object_in_answer_to_a_range_is_an_error() {
    let (url, _requests) = scripted(vec![Reply::Send(object(&pattern(1000)))]).await;
    let mut buffer = [0; 500];
    let error = client(config(&url)).get_range(BUCKET, "key", "\"A\"", 0, &mut buffer[..]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
}

#[tokio::test]
async fn flipped_bytes_are_fetched_again_and_then_reported() {
    let content = pattern(1000);
    let flipped = || {
        let mut bytes = object(&content);
        *bytes.last_mut().unwrap() ^= 1;
        Reply::Send(bytes)
    };
    let (url, _requests) = scripted(vec![flipped(), Reply::Send(object(&content))]).await;
    let fetched = client(config(&url)).get(BUCKET, "key", 1000).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&content[..]));

    let (url, _requests) = scripted(vec![flipped(), flipped()]).await;
    let mut config = config(&url);
    config.max_attempts = 2;
    let error = client(config).get(BUCKET, "key", 1000).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Integrity(_)), "{error:?}");
    assert_eq!(error.key(), Some("key"));
}

#[tokio::test]
async fn silence_ends_in_a_timeout() {
    let stalled = || Reply::SendAndStall(object(&pattern(1000))[..600].to_vec());
    let (url, _requests) = scripted(vec![stalled(), stalled()]).await;
    let mut config = config(&url);
    config.read_timeout = Duration::from_millis(100);
    config.max_attempts = 2;
    let started = Instant::now();
    let error = client(config).get(BUCKET, "key", 1000).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_unreachable_endpoint_fails_within_the_connect_timeout() {
    // A port that was free a moment ago.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut config = config(&format!("http://127.0.0.1:{port}"));
    config.connect_timeout = Duration::from_millis(300);
    let started = Instant::now();
    let error = client(config).head(BUCKET, "key").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect(_)), "{error:?}");
    // The wait before the last attempt is at most the backoff's second step.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_listing_that_is_not_xml_is_an_error() {
    let (url, _requests) = scripted(vec![Reply::Send(response("200 OK", "", b"<html>It works!"))]).await;
    let error = client(config(&url)).list_page(BUCKET, &ListOptions::default(), None).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_http_is_an_error() {
    let (url, _requests) = scripted(vec![Reply::SendAndClose(b"SSH-2.0-OpenSSH\r\n".to_vec())]).await;
    let error = client(config(&url)).head(BUCKET, "key").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(_)), "{error:?}");
}

fn refused_as_skewed(date: SystemTime) -> Reply {
    let date = format!("Date: {}\r\n", time::format_http_date(date));
    Reply::Send(response("403 Skewed", &date, &error_xml("RequestTimeTooSkewed")))
}

/// How far the time that a request was signed with is from another.
fn distance(request: &str, from: SystemTime) -> Duration {
    let sent = request.lines().find_map(|line| line.strip_prefix("x-oss-date: ")).unwrap();
    let sent = time::parse_oss_date(sent).unwrap();
    sent.duration_since(from).unwrap_or_else(|behind| behind.duration())
}

const CLOSE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_skewed_clock_is_corrected_from_the_servers_date() {
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    let content = pattern(10);
    let (url, mut requests) = scripted(vec![refused_as_skewed(ahead), Reply::Send(object(&content))]).await;
    client(config(&url)).get(BUCKET, "key", 10).await.unwrap();
    requests.recv().await.unwrap();
    assert!(distance(&requests.recv().await.unwrap(), ahead) < CLOSE);
}

#[tokio::test]
async fn a_wrong_time_from_a_server_is_corrected_by_the_next_refusal() {
    let now = SystemTime::now();
    for wrong in [SystemTime::UNIX_EPOCH, now - Duration::from_secs(86_400), now + Duration::from_secs(3 << 30)] {
        let content = pattern(10);
        let replies = [refused_as_skewed(wrong), refused_as_skewed(now)];
        let served = [object(&content), object(&content)].map(Reply::Send);
        let (url, mut requests) = scripted(replies.into_iter().chain(served).collect()).await;
        let client = client(config(&url));
        // Corrected within the operation that met it, and for those after it.
        client.get(BUCKET, "key", 10).await.unwrap();
        client.get(BUCKET, "key", 10).await.unwrap();
        assert!(distance(&requests.recv().await.unwrap(), now) < CLOSE);
        assert!(distance(&requests.recv().await.unwrap(), wrong) < CLOSE);
        assert!(distance(&requests.recv().await.unwrap(), now) < CLOSE);
        assert!(distance(&requests.recv().await.unwrap(), now) < CLOSE);
    }
}

#[tokio::test]
async fn a_server_whose_times_contradict_each_other_ends_in_its_refusal() {
    let now = SystemTime::now();
    let ahead = now + Duration::from_secs(3600);
    let (url, _requests) = scripted([now, ahead, now, ahead, now].map(refused_as_skewed).into()).await;
    let mut config = config(&url);
    config.max_attempts = 3;
    let error = client(config).get(BUCKET, "key", 10).await.unwrap_err();
    assert_eq!(error.code().unwrap().as_str(), "RequestTimeTooSkewed");
    // The first is answered at once, and is no attempt of those that are counted.
    assert_eq!(error.attempts(), 4);
}

struct Rotating(AtomicU32);

impl CredentialProvider for Rotating {
    fn fetch(&self, _refused: Option<&Credentials>) -> Result<Option<Credentials>, String> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Credentials::new(format!("id-{turn}"), SECRET)))
    }
}

#[tokio::test]
async fn refused_credentials_are_renewed_once() {
    let refused = || Reply::Send(response("403 Expired", "", &error_xml("SecurityTokenExpired")));
    let content = pattern(10);
    let (url, mut requests) = scripted(vec![refused(), Reply::Send(object(&content)), refused(), refused()]).await;
    let rotating = Client::new(config(&url), Arc::new(Rotating(AtomicU32::new(0)))).unwrap();
    rotating.get(BUCKET, "key", 10).await.unwrap();
    assert!(requests.recv().await.unwrap().contains("Credential=id-0/"));
    assert!(requests.recv().await.unwrap().contains("Credential=id-1/"));

    let error = rotating.get(BUCKET, "key", 10).await.unwrap_err();
    assert_eq!(error.code().unwrap().as_str(), "SecurityTokenExpired");
    assert_eq!(error.attempts(), 2);
}

/// Hands out one key, and then fails.
struct Failing {
    fetched: AtomicU32,
    holds: Duration,
}

impl CredentialProvider for Failing {
    fn fetch(&self, _refused: Option<&Credentials>) -> Result<Option<Credentials>, String> {
        match self.fetched.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(Some(Credentials::new("id", SECRET).with_expiration(SystemTime::now() + self.holds))),
            _ => Err("no more".to_owned()),
        }
    }
}

#[tokio::test]
async fn a_key_lasts_until_it_expires_while_it_cannot_be_renewed() {
    for (holds, outlives) in [(Duration::from_secs(200), true), (Duration::ZERO, false)] {
        let content = pattern(10);
        let (url, _requests) = scripted(vec![Reply::Send(object(&content)), Reply::Send(object(&content))]).await;
        let mut config = config(&url);
        config.credential_refresh = Duration::ZERO;
        let failing = Client::new(config, Arc::new(Failing { fetched: AtomicU32::new(0), holds })).unwrap();
        failing.get(BUCKET, "key", 10).await.unwrap();
        let second = failing.get(BUCKET, "key", 10).await;
        assert_eq!(second.is_ok(), outlives, "{second:?}");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_bounded() {
    struct Silent(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);
    impl CredentialProvider for Silent {
        fn fetch(&self, _refused: Option<&Credentials>) -> Result<Option<Credentials>, String> {
            let _ = self.0.lock().unwrap().recv();
            Err("released".to_owned())
        }
    }
    let (release, silent) = std::sync::mpsc::channel();
    let mut config = config("http://127.0.0.1:9");
    config.total_timeout = Duration::from_millis(100);
    let client = Client::new(config, Arc::new(Silent(std::sync::Mutex::new(silent)))).unwrap();
    let error = client.head(BUCKET, "key").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout(_)), "{error:?}");
    drop(release);
}

#[tokio::test]
async fn an_error_behind_a_connection_that_was_closed_while_idle_is_invisible() {
    let content = pattern(10);
    let (url, mut requests) =
        scripted(vec![Reply::SendAndClose(object(&content)), Reply::Send(object(&content))]).await;
    let client = client(config(&url));
    client.get(BUCKET, "key", 10).await.unwrap();
    client.get(BUCKET, "key", 10).await.unwrap();
    requests.recv().await.unwrap();
    requests.recv().await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_to_wait_for_ever_is_not_waited_for() {
    for header in ["Retry-After: 18446744073709551615\r\n", "x-oss-qos-delay-time: 18446744073709551615\r\n"] {
        let answer = response("503 Busy", header, &error_xml("ServiceUnavailable"));
        let (url, _requests) = scripted(vec![Reply::Send(answer)]).await;
        let error = client(config(&url)).head(BUCKET, "key").await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), 503);
        assert_eq!(error.attempts(), 1);
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_after_a_refusal_is_bounded() {
    struct SilentLater(AtomicU32, std::sync::Mutex<std::sync::mpsc::Receiver<()>>);
    impl CredentialProvider for SilentLater {
        fn fetch(&self, _refused: Option<&Credentials>) -> Result<Option<Credentials>, String> {
            if self.0.fetch_add(1, Ordering::Relaxed) > 0 {
                let _ = self.1.lock().unwrap().recv();
            }
            Ok(Some(Credentials::new("id", SECRET)))
        }
    }
    let (release, silent) = std::sync::mpsc::channel();
    let refused = response("403 Expired", "", &error_xml("SecurityTokenExpired"));
    let (url, _requests) = scripted(vec![Reply::Send(refused)]).await;
    let mut config = config(&url);
    config.total_timeout = Duration::from_millis(300);
    let client = Client::new(config, Arc::new(SilentLater(AtomicU32::new(0), std::sync::Mutex::new(silent)))).unwrap();
    let bounded = tokio::time::timeout(Duration::from_secs(5), client.get(BUCKET, "key", 10)).await;
    drop(release);
    let error = bounded.expect("it waits for the provider").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout(_)), "{error:?}");
}
