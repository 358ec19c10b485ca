//! Streams of objects: in order, whole, within their budget, to the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use oss_client::{
    Client, ClientConfig, ErrorKind,
    catalogue::{Entry, ListingFile, Row, RowsBuilder},
    ops::put::PutOptions,
    order::Order,
    prefetch::{self, Delivery, Item, Outcome, PrefixToList, Queue, Sequence, Taken},
};

use tempfile::TempDir;

use crate::support::{BUCKET, client, config, emulator, pattern};

async fn filled(sizes: &[usize], adjust: impl FnOnce(&mut ClientConfig)) -> (Client, Vec<Entry>) {
    let mut config = config(&emulator().await);
    adjust(&mut config);
    let client = client(config);
    let mut entries = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        let key = format!("p/{index:05}");
        client.put(BUCKET, &key, pattern(*size).into(), &PutOptions::default()).await.unwrap();
        entries.push(Entry::named(BUCKET, key));
    }
    (client, entries)
}

fn named(entries: &[Entry]) -> Sequence {
    let mut rows = RowsBuilder::default();
    for entry in entries {
        rows.push(&Row::from(entry));
    }
    Sequence::rows(Arc::new(rows.build()), Order::default())
}

/// A sequence that lists the bucket, if no other process does.
fn listed(client: &Client, bucket: &str, directory: &TempDir, order: Order) -> Sequence {
    let listing = Arc::new(ListingFile::new(directory.path().join("private"), u64::MAX));
    let file = listing.open().unwrap().unwrap();
    let prefix = PrefixToList {
        client: client.clone(),
        bucket: bucket.to_owned(),
        prefix: "p/".to_owned(),
        directory_markers: false,
        record: Arc::new(|error| error.to_string().into_bytes()),
    };
    Sequence::file(file, order, Some((listing, prefix)))
}

/// Takes everything, on a thread that blocks as Python's does.
pub(crate) async fn drain(
    client: &Client,
    sequence: Sequence,
    budget: usize,
) -> (Vec<Item>, Result<(), oss_client::Error>) {
    let (queue, driver) = prefetch::start(client.clone(), sequence, budget, Delivery::Ordered);
    tokio::spawn(driver);
    tokio::task::spawn_blocking(move || {
        let mut items = Vec::new();
        loop {
            match queue.take(Duration::from_secs(10)) {
                Taken::Items(batch) => items.extend(batch),
                Taken::Nothing => panic!("nothing for ten seconds"),
                Taken::End(end) => return (items, end),
            }
        }
    })
    .await
    .unwrap()
}

fn assert_whole(items: &[Item], sizes: &[usize]) {
    assert_eq!(items.len(), sizes.len());
    for (index, (item, size)) in items.iter().zip(sizes).enumerate() {
        assert_eq!(&*item.entry.key, format!("p/{index:05}"));
        match item.outcome.as_ref().unwrap() {
            Outcome::Fetched(meta, bytes) => {
                assert_eq!(meta.size, *size as u64);
                assert_eq!(&bytes[..], pattern(*size));
            }
            Outcome::Large(_) => panic!("{index} was not fetched"),
        }
    }
}

fn mixed(count: usize) -> Vec<usize> {
    (0..count).map(|index| (index * index * 37) % 20_000).collect()
}

#[tokio::test]
async fn a_listing_is_delivered_in_order() {
    let sizes = mixed(300);
    let (client, _) = filled(&sizes, |_| ()).await;
    let directory = TempDir::new().unwrap();
    let sequence = listed(&client, BUCKET, &directory, Order::default());
    let (items, end) = drain(&client, sequence, 1 << 20).await;
    end.unwrap();
    assert_whole(&items, &sizes);
}

#[tokio::test]
async fn objects_of_unknown_size_stay_within_small_budgets() {
    let sizes = mixed(200);
    // Every object but the first few is larger than what is reserved for an unknown size under the smallest budget.
    for budget in [80_000, 1 << 20] {
        let (client, entries) = filled(&sizes, |config| config.prefetch_concurrency = 8).await;
        let (items, end) = drain(&client, named(&entries), budget).await;
        end.unwrap();
        assert_whole(&items, &sizes);
    }
}

#[tokio::test]
async fn objects_above_a_quarter_of_the_budget_are_not_fetched_ahead() {
    let sizes = [10, 30_000, 20, 25_000, 30];
    let (client, entries) = filled(&sizes, |_| ()).await;
    let directory = TempDir::new().unwrap();
    for sequence in [listed(&client, BUCKET, &directory, Order::default()), named(&entries)] {
        let (items, end) = drain(&client, sequence, 80_000).await;
        end.unwrap();
        let large: Vec<bool> =
            items.iter().map(|item| matches!(item.outcome.as_ref().unwrap(), Outcome::Large(_))).collect();
        assert_eq!(large, [false, true, false, true, false]);
    }
}

#[tokio::test]
async fn shares_are_disjoint_and_complete() {
    let sizes = mixed(101);
    let (client, _) = filled(&sizes, |_| ()).await;
    let directory = TempDir::new().unwrap();
    let mut seen = Vec::new();
    for index in 0..3 {
        let sequence = listed(&client, BUCKET, &directory, Order { worker: index, workers: 3, ..Order::default() });
        let (items, end) = drain(&client, sequence, 1 << 20).await;
        end.unwrap();
        for (place, item) in items.iter().enumerate() {
            assert_eq!(&*item.entry.key, format!("p/{:05}", place as u64 * 3 + index));
        }
        seen.extend(items);
    }
    assert_eq!(seen.len(), sizes.len());
}

#[tokio::test]
async fn a_missing_object_fails_at_its_place_and_the_stream_goes_on() {
    let sizes = mixed(20);
    let (client, entries) = filled(&sizes, |_| ()).await;
    client.delete(BUCKET, "p/00007").await.unwrap();
    let (items, end) = drain(&client, named(&entries), 1 << 20).await;
    end.unwrap();
    assert_eq!(items.len(), 20);
    for (index, item) in items.iter().enumerate() {
        assert_eq!(item.outcome.is_err(), index == 7);
    }
    assert!(items[7].outcome.as_ref().unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_failed_listing_ends_the_stream_with_its_error() {
    let (client, _) = filled(&[1], |_| ()).await;
    let directory = TempDir::new().unwrap();
    let sequence = listed(&client, "nosuchbucket", &directory, Order::default());
    let (items, end) = drain(&client, sequence, 1 << 20).await;
    assert!(items.is_empty());
    let ErrorKind::Recorded(record) = end.unwrap_err().kind().clone() else { panic!("not recorded") };
    assert!(String::from_utf8(record).unwrap().contains("NoSuchBucket"));
}

#[tokio::test]
async fn memory_ahead_of_a_reader_that_does_not_read_is_bounded() {
    let sizes = vec![10_000; 200];
    let (client, entries) = filled(&sizes, |_| ()).await;
    let budget = 200_000;
    let (queue, driver) = prefetch::start(client, named(&entries), budget, Delivery::Ordered);
    tokio::spawn(driver);
    let held = settled(&queue, budget / 2).await;
    assert!(held <= budget, "{held} bytes ahead");
    assert!(held >= budget / 2, "{held} bytes ahead");
}

/// What the queue holds once that is at least `least` bytes and does not change any more: the driver waits for room. A
/// busy machine may be silent before, so silence alone proves nothing.
async fn settled(queue: &Arc<Queue>, least: usize) -> usize {
    let started = Instant::now();
    let (mut held, mut quiet) = (0, 0);
    while quiet < 3 {
        assert!(started.elapsed() < Duration::from_secs(20), "{held} bytes ahead instead of {least}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let bytes = queue.held();
        quiet = if bytes == held && bytes >= least { quiet + 1 } else { 0 };
        held = bytes;
    }
    held
}

#[tokio::test]
async fn more_is_read_ahead_only_after_the_reader_had_to_wait() {
    const MIB: usize = 1 << 20;
    const IN_FLIGHT: usize = 4;
    let few = |config: &mut ClientConfig| {
        config.prefetch_concurrency = IN_FLIGHT;
        config.max_concurrency = IN_FLIGHT;
    };
    let (client, entries) = filled(&[MIB; 100], few).await;
    let (queue, driver) = prefetch::start(client, named(&entries), 1 << 30, Delivery::Ordered);
    tokio::spawn(driver);
    let mut taken = 0;
    for expected in [16, 32] {
        let held = settled(&queue, expected * MIB).await / MIB;
        assert!((expected..=expected + IN_FLIGHT).contains(&held), "{held} MiB ahead instead of {expected}");
        // Reads everything that has arrived, and then has to wait.
        let reader = Arc::clone(&queue);
        let read = move || {
            let mut count = 0;
            loop {
                let had_to_wait = reader.held() == 0;
                let Taken::Items(items) = reader.take(Duration::from_secs(10)) else { panic!("nothing came") };
                count += items.len();
                if had_to_wait && count > held {
                    return count;
                }
            }
        };
        taken += tokio::task::spawn_blocking(read).await.unwrap();
    }
    assert!(taken < entries.len(), "nothing is left to be read ahead");
}
