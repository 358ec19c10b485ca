//! Listings against a model: a sorted set and the rules, written plainly.

use std::collections::BTreeSet;

use http::Method;
use oss_protocol::xml::list::{ListObjectsResult, ListObjectsV2Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::client::{BUCKET, Call, Client, start};

#[derive(Debug, PartialEq, Eq, Clone)]
enum Entry {
    Key(String),
    Prefix(String),
}

/// The entries of a listing without pages, in order.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let group = (!delimiter.is_empty())
            .then(|| key[prefix.len()..].find(delimiter))
            .flatten()
            .map(|at| &key[..prefix.len() + at + delimiter.len()]);
        // Entries after a common prefix are not below it.
        if key.as_str() <= after || group == Some(after) {
            continue;
        }
        let entry = group.map_or_else(|| Entry::Key(key.clone()), |group| Entry::Prefix(group.to_owned()));
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    entries
}

struct Page {
    entries: Vec<Entry>,
    next: Option<String>,
}

fn merge(keys: Vec<String>, prefixes: Vec<String>) -> Vec<Entry> {
    let mut entries: Vec<_> = keys.into_iter().map(Entry::Key).chain(prefixes.into_iter().map(Entry::Prefix)).collect();
    entries.sort_by(|a, b| {
        let text = |entry: &Entry| match entry {
            Entry::Key(text) | Entry::Prefix(text) => text.clone(),
        };
        text(a).cmp(&text(b))
    });
    entries
}

fn call(prefix: &str, delimiter: &str, limit: usize) -> Call {
    Call::bucket(Method::GET)
        .query("encoding-type", "url")
        .query("prefix", prefix)
        .query("delimiter", delimiter)
        .query("max-keys", &limit.to_string())
}

async fn page_v1(client: &mut Client, call: Call, marker: &str) -> Page {
    let answer = client.call(call.query("marker", marker)).await.expect(200);
    let result = ListObjectsResult::parse(&answer.body).unwrap();
    assert_eq!((result.name.as_str(), result.marker.as_str()), (BUCKET, marker));
    assert_eq!(result.is_truncated, result.next_marker.is_some());
    let keys = result.contents.into_iter().map(|object| object.key).collect();
    Page { entries: merge(keys, result.common_prefixes), next: result.next_marker }
}

async fn page_v2(client: &mut Client, call: Call, after: &str, token: Option<&str>) -> Page {
    let mut call = call.query("list-type", "2").query("start-after", after);
    if let Some(token) = token {
        call = call.query("continuation-token", token);
    }
    let answer = client.call(call).await.expect(200);
    let result = ListObjectsV2Result::parse(&answer.body).unwrap();
    assert_eq!(result.is_truncated, result.next_continuation_token.is_some());
    assert_eq!(result.key_count as usize, result.contents.len() + result.common_prefixes.len());
    let keys = result.contents.into_iter().map(|object| object.key).collect();
    Page { entries: merge(keys, result.common_prefixes), next: result.next_continuation_token }
}

async fn check(client: &mut Client, keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str, limit: usize) {
    let expected = model(keys, prefix, delimiter, after);
    let expected_pages: Vec<_> = expected.chunks(limit).map(<[Entry]>::to_vec).collect();
    let (mut pages, mut marker) = (Vec::new(), after.to_owned());
    loop {
        let page = page_v1(client, call(prefix, delimiter, limit), &marker).await;
        pages.push(page.entries);
        match page.next {
            Some(next) => marker = next,
            None => break,
        }
    }
    assert_eq!(pages.concat(), expected, "V1");
    assert_eq!(pages.len(), expected_pages.len().max(1), "V1");
    let (mut pages, mut token) = (Vec::new(), None);
    loop {
        let page = page_v2(client, call(prefix, delimiter, limit), after, token.as_deref()).await;
        pages.push(page.entries);
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages.concat(), expected, "V2");
    assert_eq!(pages.len(), expected_pages.len().max(1), "V2");
}

#[test]
fn pages_agree_with_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_server, client) = runtime.block_on(start());
    let client = tokio::sync::Mutex::new(client);
    // Few letters, so that keys share prefixes and markers hit them.
    let key = "[ab/é\u{10FFFF}+ ]{1,6}".prop_filter("no leading slash", |key| !key.starts_with('/'));
    let strategy = (
        prop::collection::btree_set(key, 0..25),
        "[ab/]{0,2}",
        prop_oneof!["", "/", "/", "b", "ab", "\u{10FFFF}"],
        "[ab/é]{0,4}",
        1..8_usize,
    );
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |(keys, prefix, delimiter, after, limit)| {
            runtime.block_on(async {
                let client = &mut *client.lock().await;
                for key in &keys {
                    client.call(Call::put(key, b"")).await.expect(200);
                }
                check(client, &keys, &prefix, &delimiter, &after, limit).await;
                for key in &keys {
                    client.call(Call::object(Method::DELETE, key)).await.expect(204);
                }
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn entries_tell_what_the_object_is() {
    let (_server, mut client) = start().await;
    let put = client.call(Call::put("key", b"hello")).await.expect(200);
    let answer = client.call(Call::bucket(Method::GET)).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/xml");
    let result = ListObjectsResult::parse(&answer.body).unwrap();
    let object = &result.contents[0];
    assert_eq!((object.key.as_str(), object.size, object.etag.as_str()), ("key", 5, put.header("etag")));
    assert_eq!((object.object_type.as_str(), object.storage_class.as_str()), ("Normal", "Standard"));
    assert!(object.owner.is_some());
    assert_eq!(result.max_keys, 100);
    let list = || Call::bucket(Method::GET).query("list-type", "2");
    let owner =
        |answer: crate::client::Answer| ListObjectsV2Result::parse(&answer.body).unwrap().contents[0].owner.clone();
    assert_eq!(owner(client.call(list()).await.expect(200)), None);
    assert!(owner(client.call(list().query("fetch-owner", "true")).await.expect(200)).is_some());
}

#[tokio::test]
async fn keys_are_encoded_only_on_request() {
    let (_server, mut client) = start().await;
    client.call(Call::put("a b/c&d", b"")).await.expect(200);
    let plain = client.call(Call::bucket(Method::GET).query("delimiter", "&")).await.expect(200);
    assert!(plain.text().contains("<Prefix>a b/c&amp;</Prefix>"), "{}", plain.text());
    assert!(!plain.text().contains("EncodingType"));
    let call = Call::bucket(Method::GET).query("delimiter", "&").query("encoding-type", "url");
    let encoded = client.call(call).await.expect(200);
    assert!(encoded.text().contains("<Prefix>a%20b%2Fc%26</Prefix>"), "{}", encoded.text());
    assert_eq!(encoded.element("Delimiter"), "%26");
}

#[tokio::test]
async fn bad_parameters_are_refused() {
    let (_server, mut client) = start().await;
    let long = "k".repeat(1024);
    for (name, value) in [
        ("max-keys", "0"),
        ("max-keys", "1001"),
        ("max-keys", "-1"),
        ("max-keys", "many"),
        ("encoding-type", "base64"),
        ("list-type", "3"),
        ("prefix", long.as_str()),
        ("marker", long.as_str()),
        ("delimiter", long.as_str()),
    ] {
        let refused = client.call(Call::bucket(Method::GET).query(name, value)).await.refused(400, "InvalidArgument");
        assert_eq!(refused.error().get("ArgumentName"), Some(name));
    }
    let list = || Call::bucket(Method::GET).query("list-type", "2");
    for (name, value) in [("continuation-token", "a/b.png"), ("start-after", &long), ("fetch-owner", "maybe")] {
        client.call(list().query(name, value)).await.refused(400, "InvalidArgument");
    }
}

#[tokio::test]
async fn a_page_holds_up_to_a_thousand() {
    let (_server, mut client) = start().await;
    for number in 0..1001 {
        client.call(Call::put(&format!("{number:04}"), b"")).await.expect(200);
    }
    let list = Call::bucket(Method::GET).query("list-type", "2").query("max-keys", "1000");
    let first = ListObjectsV2Result::parse(&client.call(list.clone()).await.expect(200).body).unwrap();
    assert_eq!((first.contents.len(), first.contents[999].key.as_str()), (1000, "0999"));
    let token = first.next_continuation_token.unwrap();
    let second = client.call(list.query("continuation-token", &token)).await.expect(200);
    let second = ListObjectsV2Result::parse(&second.body).unwrap();
    assert_eq!((second.contents.len(), second.contents[0].key.as_str()), (1, "1000"));
    assert_eq!(second.continuation_token.as_deref(), Some(token.as_str()));
    assert_eq!(
        ListObjectsResult::parse(&client.call(Call::bucket(Method::GET)).await.body).unwrap().contents.len(),
        100
    );
}
