//! Listings against the emulator, one page after the other and in several places at once.

use bytes::Bytes;
use oss_client::{
    Client,
    listing::{ListingOptions, pages},
    ops::put::PutOptions,
};

use crate::support::{BUCKET, client, config, emulator};

async fn list(client: &Client, prefix: &str, start_after: Option<&str>, parallel: bool) -> Vec<String> {
    let options = ListingOptions { start_after: start_after.map(str::to_owned), parallel };
    let mut pages = pages(client.clone(), BUCKET, prefix, options);
    let mut keys = Vec::new();
    while let Some(page) = pages.recv().await {
        keys.extend(page.unwrap().into_iter().map(|entry| entry.key.into_string()));
    }
    keys
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
