//! Every operation, round trip.

use std::sync::Arc;

use bytes::Bytes;
use oss_client::{ErrorKind, ops::list::ListOptions, ops::put::PutOptions, paginate::Pages, upload::CopyOptions};

use crate::support::{BUCKET, client, config, emulator, pattern};

const HOSTILE_KEYS: [&str; 12] = [
    "plain.txt",
    "with space",
    "plus+plus",
    "per%cent%20",
    "question?mark",
    "hash#tag",
    "amper&sand=x",
    "数据/图像.png",
    "..leading/./dots/../x",
    "a//b///",
    "quote\"'<>",
    "~tilde*star|pipe",
];

#[tokio::test]
async fn objects_round_trip_under_hostile_keys() {
    let client = client(config(&emulator().await));
    let longest = "k".repeat(1023);
    for key in HOSTILE_KEYS.iter().copied().chain([longest.as_str()]) {
        let content = Bytes::from(pattern(1000 + key.len()));
        let etag = client.put(BUCKET, key, content.clone(), &PutOptions::default()).await.unwrap();
        let fetched = client.get(BUCKET, key, u64::MAX).await.unwrap();
        assert_eq!(fetched.bytes.as_deref(), Some(&content[..]), "{key}");
        assert_eq!(fetched.meta.etag, etag);
        assert_eq!(client.head(BUCKET, key).await.unwrap().size, content.len() as u64);
        let options = CopyOptions { largest: 1 << 30, size: None, copied: Arc::default(), put: PutOptions::default() };
        client.copy(BUCKET, key, BUCKET, "copy", options).await.unwrap();
        let copied = client.get(BUCKET, "copy", u64::MAX).await.unwrap();
        assert_eq!(copied.bytes.as_deref(), Some(&content[..]), "{key}");
        client.delete(BUCKET, key).await.unwrap();
        assert!(client.head(BUCKET, key).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let client = client(config(&emulator().await));
    client.put(BUCKET, "empty", Bytes::new(), &PutOptions::default()).await.unwrap();
    let fetched = client.get(BUCKET, "empty", 0).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&[][..]));
}

#[tokio::test]
async fn an_object_above_the_limit_is_described_only() {
    let client = client(config(&emulator().await));
    client.put(BUCKET, "big", pattern(5000).into(), &PutOptions::default()).await.unwrap();
    let fetched = client.get(BUCKET, "big", 4999).await.unwrap();
    assert!(fetched.bytes.is_none());
    assert_eq!(fetched.meta.size, 5000);
}

#[tokio::test]
async fn listings_come_whole_and_in_order_over_many_pages() {
    let client = client(config(&emulator().await));
    let mut keys: Vec<String> = (0..57).map(|index| format!("p/{index:03} +%&")).collect();
    for key in keys.iter().chain(&["q/other".to_owned()]) {
        client.put(BUCKET, key, Bytes::from_static(b"x"), &PutOptions::default()).await.unwrap();
    }
    keys.sort();
    for max_keys in [1, 7, 57, 1000] {
        let options = ListOptions { prefix: "p/".to_owned(), max_keys: Some(max_keys), ..ListOptions::default() };
        let mut pages = Pages::new(client.clone(), BUCKET, options);
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            listed.extend(page.contents.into_iter().map(|object| object.key));
        }
        assert_eq!(listed, keys, "{max_keys} by page");
    }
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let client = client(config(&emulator().await));
    let keys: Vec<String> = HOSTILE_KEYS.iter().map(|key| (*key).to_owned()).collect();
    for key in &keys {
        client.put(BUCKET, key, Bytes::from_static(b"x"), &PutOptions::default()).await.unwrap();
    }
    client.delete_many(BUCKET, &keys).await.unwrap();
    let page = client.list_page(BUCKET, &ListOptions::default(), None).await.unwrap();
    assert!(page.contents.is_empty());
}

#[tokio::test]
async fn buckets_are_created_listed_and_deleted() {
    let client = client(config(&emulator().await));
    client.create_bucket("another").await.unwrap();
    assert!(client.list_buckets().await.unwrap().contains(&"another".to_owned()));
    client.delete_bucket("another").await.unwrap();
    assert!(!client.list_buckets().await.unwrap().contains(&"another".to_owned()));
    let error = client.get("another", "key", 1).await.unwrap_err();
    assert_eq!(error.code().unwrap().as_str(), "NoSuchBucket");
}

#[tokio::test]
async fn errors_name_code_request_and_object() {
    let client = client(config(&emulator().await));
    let error = client.get(BUCKET, "absent", 1).await.unwrap_err();
    assert_eq!(error.code().unwrap().as_str(), "NoSuchKey");
    assert_eq!((error.bucket(), error.key()), (Some(BUCKET), Some("absent")));
    assert_eq!(error.attempts(), 1);
    let ErrorKind::Service { status, request_id, ec, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(status.as_u16(), 404);
    assert_eq!(ec.as_deref(), Some("0026-00000001"));
    assert_eq!(request_id.as_ref().unwrap().len(), 24);
}

#[tokio::test]
async fn forbid_overwrite_keeps_the_existing_object() {
    let client = client(config(&emulator().await));
    let options = PutOptions { forbid_overwrite: true, ..PutOptions::default() };
    client.put(BUCKET, "once", Bytes::from_static(b"first"), &options).await.unwrap();
    let error = client.put(BUCKET, "once", Bytes::from_static(b"second"), &options).await.unwrap_err();
    assert_eq!(error.code().unwrap().as_str(), "FileAlreadyExists");
    let fetched = client.get(BUCKET, "once", 100).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&b"first"[..]));
}
