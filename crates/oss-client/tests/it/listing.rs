//! Listings, one page after the other and in several places at once: against the emulator, and against a bucket of keys
//! alone that counts, fails and holds back.

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oss_client::{
    Client, ErrorKind, Result,
    listing::{ListingOptions, pages},
    ops::put::PutOptions,
};
use oss_emulator::{Emulator, Operation};
use oss_protocol::{
    canonical::parse_query,
    xml::{
        EncodingType,
        list::{ListObjectsV2Result, ObjectSummary},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::support::{BUCKET, client, config, emulator, emulator_config, error_xml, read_request, response};

/// What the server does with request number n, from 0, instead of answering it.
type Refusal = fn(usize) -> Option<Vec<u8>>;

/// A server with nothing but keys.
struct Keys {
    keys: BTreeSet<String>,
    requests: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    /// One for each answer that may be sent.
    answers: Semaphore,
    latency: Duration,
    refuse: Refusal,
}

impl Keys {
    async fn serve(keys: BTreeSet<String>, answers: usize, latency: Duration, refuse: Refusal) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Self {
            keys,
            requests: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            answers: Semaphore::new(answers),
            latency,
            refuse,
        });
        let served = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = Arc::clone(&served);
                tokio::spawn(async move { server.converse(stream).await });
            }
        });
        (url, server)
    }

    async fn converse(&self, mut stream: TcpStream) {
        while let Some(request) = read_request(&mut stream).await {
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
            tokio::time::sleep(self.latency).await;
            let gone = tokio::select! {
                permit = self.answers.acquire() => {
                    permit.unwrap().forget();
                    false
                }
                ready = stream.readable() => ready.is_ok(),
            };
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            if gone {
                return;
            }
            let answer =
                (self.refuse)(number).unwrap_or_else(|| response("200 OK", "", self.page(&request).as_bytes()));
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    fn page(&self, request: &str) -> String {
        let target = request.split(' ').nth(1).unwrap();
        let query = parse_query(target.split_once('?').unwrap().1).unwrap();
        let get = |name| query.iter().find(|pair| pair.0 == name).map_or("", |pair| &pair.1);
        let prefix = get("prefix");
        let after = [get("continuation-token"), get("start-after")].into_iter().find(|after| !after.is_empty());
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut rest = self.keys.range::<str, _>((start, Bound::Unbounded)).take_while(|key| key.starts_with(prefix));
        let contents: Vec<_> = rest
            .by_ref()
            .take(get("max-keys").parse().unwrap())
            .map(|key| ObjectSummary {
                key: key.clone(),
                size: 1,
                etag: "\"E\"".to_owned(),
                last_modified: std::time::UNIX_EPOCH,
                object_type: "Normal".to_owned(),
                storage_class: "Standard".to_owned(),
                owner: None,
            })
            .collect();
        let next = rest.next().and(contents.last()).map(|last| last.key.clone());
        ListObjectsV2Result {
            encoding_type: EncodingType::Url,
            is_truncated: next.is_some(),
            next_continuation_token: next,
            contents,
            ..ListObjectsV2Result::default()
        }
        .to_xml()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

const NEVER: Refusal = |_| None;

/// More answers than any test asks for.
const ANSWERS: usize = 10_000;

fn numbered(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("data/{number:08}")).collect()
}

async fn collect(
    client: &Client,
    prefix: &str,
    start_after: Option<&str>,
    parallel: bool,
) -> (Vec<String>, Result<()>) {
    let options = ListingOptions { start_after: start_after.map(str::to_owned), parallel };
    let mut pages = pages(client.clone(), BUCKET, prefix, options);
    let mut keys = Vec::new();
    while let Some(page) = pages.recv().await {
        match page {
            Ok(page) => {
                assert!(!page.is_empty());
                keys.extend(page.into_iter().map(|entry| entry.key.into_string()));
            }
            Err(error) => {
                assert!(pages.recv().await.is_none(), "an error is the last");
                return (keys, Err(error));
            }
        }
    }
    (keys, Ok(()))
}

async fn list(client: &Client, prefix: &str, start_after: Option<&str>, parallel: bool) -> Vec<String> {
    let (keys, outcome) = collect(client, prefix, start_after, parallel).await;
    outcome.unwrap();
    keys
}

/// Waits until something that is about to happen has happened; the test's own bound ends it otherwise.
async fn until(mut happened: impl FnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("it does not happen");
}

#[tokio::test]
async fn both_ways_name_the_same_objects() {
    let client = client(config(&emulator().await));
    let mut keys: Vec<String> = (0..2500).map(|number| format!("d/{number}-ß\u{1}/ü %2F+&<.bin")).collect();
    keys.push("d/".to_owned());
    keys.push("e".to_owned());
    for key in &keys {
        client.put(BUCKET, key, Bytes::new(), &PutOptions::default()).await.unwrap();
    }
    keys.sort_unstable();
    keys.retain(|key| key.starts_with("d/"));
    assert_eq!(list(&client, "d/", None, false).await, keys);
    assert_eq!(list(&client, "d/", None, true).await, keys);
    let rest: Vec<_> = keys.iter().filter(|key| key.as_str() > "d/17").cloned().collect();
    assert_eq!(list(&client, "d/", Some("d/17"), false).await, rest);
    assert_eq!(list(&client, "d/", Some("d/17"), true).await, rest);
    assert!(list(&client, "nothing/", None, true).await.is_empty());
}

#[tokio::test]
async fn one_page_after_the_other_takes_a_request_for_each() {
    for (count, requests) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (12_000, 12), (12_001, 13)] {
        let keys = numbered(count);
        let (url, server) = Keys::serve(keys.clone(), ANSWERS, Duration::ZERO, NEVER).await;
        assert!(list(&client(config(&url)), "data/", None, false).await.iter().eq(&keys));
        assert_eq!(server.requests(), requests, "{count} keys");
        assert_eq!(server.most_in_flight.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn several_places_at_once_keep_the_order_and_the_requests_allowed() {
    let flat: BTreeSet<String> = numbered(60_000);
    let nested: BTreeSet<String> =
        (0..60_000).map(|number| format!("data/n{:08}/{}_图.jpg", number / 700 * 977, number % 700)).collect();
    for keys in [flat, nested] {
        let (url, server) = Keys::serve(keys.clone(), ANSWERS, Duration::from_millis(3), NEVER).await;
        assert!(list(&client(config(&url)), "data/", None, true).await.iter().eq(&keys));
        assert!((60..=66 + 64).contains(&server.requests()), "{}", server.requests());
        let most = server.most_in_flight.load(Ordering::SeqCst);
        assert!((9..=16).contains(&most), "{most} in flight");
    }
}

/// Keys that are hard to count on from: of wide characters, of hashes, and nearly all in one deep directory.
#[tokio::test]
async fn odd_shapes_of_keys_keep_the_order_and_the_requests_allowed() {
    let mixed = |number: u64| number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let wide = |bits: u64| char::from_u32(0x4E00 + (bits % 20_000) as u32).unwrap();
    let shapes: [(&str, &dyn Fn(u64) -> String); 3] = [
        ("hashes", &|number| format!("hashes/{:016x}", mixed(number))),
        ("unicode", &|number| {
            let bits = mixed(number);
            format!("unicode/{}{}{}-{number}", wide(bits >> 48), wide(bits >> 32), wide(bits >> 16))
        }),
        ("skewed", &|number| match number % 100 {
            0 => format!("skewed/{:016x}", mixed(number)),
            _ => format!("skewed/logs/2024/05/17/region=eu-west/worker-{number:010}.json"),
        }),
    ];
    let emulator = Emulator::bind(emulator_config()).await.unwrap();
    let (url, log) = (emulator.url(), emulator.request_log());
    tokio::spawn(emulator.serve(std::future::pending()));
    let client = client(config(&url));
    for (shape, key) in shapes {
        let keys: BTreeSet<String> = (0..20_000).map(key).collect();
        stream::iter(&keys)
            .for_each_concurrent(32, async |key| {
                client.put(BUCKET, key, Bytes::new(), &PutOptions::default()).await.unwrap();
            })
            .await;
        log.clear();
        assert!(list(&client, &format!("{shape}/"), None, true).await.iter().eq(&keys), "{shape}");
        let requests = log.count(Operation::ListObjectsV2);
        assert!((20..=22 + 64).contains(&requests), "{shape}: {requests}");
    }
}

#[tokio::test]
async fn the_number_in_flight_follows_the_configuration() {
    let keys = numbered(30_000);
    let (url, server) = Keys::serve(keys.clone(), ANSWERS, Duration::from_millis(1), NEVER).await;
    let mut config = config(&url);
    (config.prefetch_concurrency, config.max_concurrency) = (1, 1);
    assert!(list(&client(config), "data/", None, true).await.iter().eq(&keys));
    assert_eq!(server.most_in_flight.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_page_is_asked_for_again() {
    let keys = numbered(30_000);
    let refuse: Refusal = |number| (number % 7 == 3).then(|| response("500 Oops", "", &error_xml("InternalError")));
    let (url, server) = Keys::serve(keys.clone(), ANSWERS, Duration::from_millis(1), refuse).await;
    assert!(list(&client(config(&url)), "data/", None, true).await.iter().eq(&keys));
    assert!(server.requests() > 30);
}

#[tokio::test]
async fn an_error_is_raised_in_its_place() {
    let keys: Vec<String> = numbered(40_000).into_iter().collect();
    let refuse: Refusal = |number| (number == 17).then(|| response("403 No", "", &error_xml("AccessDenied")));
    for parallel in [false, true] {
        let (url, _server) =
            Keys::serve(keys.iter().cloned().collect(), ANSWERS, Duration::from_millis(1), refuse).await;
        let (listed, outcome) = collect(&client(config(&url)), "data/", None, parallel).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.code().unwrap().as_str(), "AccessDenied");
        assert_eq!(error.bucket(), Some(BUCKET));
        assert_eq!(listed, keys[..listed.len()]);
        assert!(listed.len() < keys.len() && (parallel || listed.len() == 17_000), "{}", listed.len());
    }
}

#[tokio::test]
async fn a_dropped_receiver_ends_the_listing() {
    let (url, server) = Keys::serve(numbered(100_000), 12, Duration::ZERO, NEVER).await;
    let client = client(config(&url));
    let options = ListingOptions { start_after: None, parallel: true };
    let mut pages = pages(client.clone(), BUCKET, "data/", options);
    for _ in 0..3 {
        pages.recv().await.unwrap().unwrap();
    }
    // All answers have been given, and requests wait for more.
    until(|| server.answers.available_permits() == 0 && server.in_flight.load(Ordering::SeqCst) > 1).await;
    drop(pages);
    until(|| server.in_flight.load(Ordering::SeqCst) == 0).await;
    let requests = server.requests();
    server.answers.add_permits(ANSWERS);
    // Whatever was left of the listing would come before this.
    assert_eq!(list(&client, "data/0009999", None, false).await.len(), 10);
    assert_eq!(server.requests(), requests + 1);
}

#[tokio::test]
async fn a_slow_reader_stops_the_listing_ahead_of_it() {
    let keys = (0..400_000).map(|number| format!("data/{number:08}{}", "x".repeat(120))).collect();
    let (url, server) = Keys::serve(keys, ANSWERS, Duration::ZERO, NEVER).await;
    let options = ListingOptions { start_after: None, parallel: true };
    let mut pages = pages(client(config(&url)), BUCKET, "data/", options);
    pages.recv().await.unwrap().unwrap();
    let (mut before, mut still) = (0, 0);
    // The listing stands still once nothing is in flight and nothing new has been asked for in fifty looks.
    until(|| {
        let requests = server.requests();
        let stands = requests > 20 && requests == before && server.in_flight.load(Ordering::SeqCst) == 0;
        still = if stands { still + 1 } else { 0 };
        before = requests;
        still == 50
    })
    .await;
    // A page takes 160 KiB, and 32 MiB are allowed; of each segment one request may have found nothing to keep.
    assert!(server.requests() < 280, "{}", server.requests());
    assert_eq!(pages.recv().await.unwrap().unwrap()[0].key.get(..13), Some("data/00001000"));
}

#[tokio::test]
async fn a_server_without_an_order_is_named() {
    let refuse: Refusal = |_| {
        let contents = ["b", "a"].map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")).concat();
        let body = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>");
        Some(response("200 OK", "", body.as_bytes()))
    };
    let (url, _server) = Keys::serve(BTreeSet::new(), ANSWERS, Duration::ZERO, refuse).await;
    let client = client(config(&url));
    let (_, outcome) = collect(&client, "", None, true).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(text) if text.contains("fast_list=False")), "{error}");
    let (listed, outcome) = collect(&client, "", None, false).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidReply(text) if text.contains("not in order")), "{error}");
    assert!(listed.is_empty(), "{listed:?}");
}
