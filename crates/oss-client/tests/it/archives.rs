//! Members of archives: fetched with their neighbours, delivered in the stream's order.

use std::{sync::Arc, time::Duration};

use oss_client::{
    Client, ErrorKind,
    catalogue::{Entry, Row, Rows, RowsBuilder, Span},
    ops::put::PutOptions,
    order::{Order, Shuffle},
    prefetch::{self, Delivery, Item, Outcome, Sequence, Taken},
    reader::ObjectReader,
};

use crate::{
    prefetching::drain,
    support::{BUCKET, client, config, emulator, pattern},
};

/// An archive with 512 bytes in front of each member, and what lies in it.
struct Archive {
    client: Client,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Archive {
    async fn of(sizes: &[usize]) -> Self {
        let client = client(config(&emulator().await));
        let mut entries = Vec::new();
        let mut end = 0_u64;
        for (index, size) in sizes.iter().enumerate() {
            let span = Some(Span { archive: "a.tar".into(), offset: end + 512 });
            let name = Entry::named(BUCKET, format!("a.tar/{index:05}"));
            entries.push(Entry { size: Some(*size as u64), span, ..name });
            end += (512 + size.next_multiple_of(512)) as u64;
        }
        let bytes = pattern(end as usize);
        let etag = client.put(BUCKET, "a.tar", bytes.clone().into(), &PutOptions::default()).await.unwrap();
        for entry in &mut entries {
            entry.etag = Some(etag.as_str().into());
        }
        Self { client, bytes, entries }
    }

    fn rows(&self) -> Arc<Rows> {
        let mut rows = RowsBuilder::default();
        for entry in &self.entries {
            rows.push(&Row::from(entry));
        }
        Arc::new(rows.build())
    }

    fn content(&self, entry: &Entry) -> &[u8] {
        let start = entry.span.as_ref().unwrap().offset as usize;
        &self.bytes[start..start + entry.size.unwrap() as usize]
    }

    fn assert_whole(&self, item: &Item) {
        match item.outcome.as_ref().unwrap() {
            Outcome::Fetched(meta, bytes) => {
                assert_eq!(&bytes[..], self.content(&item.entry), "{}", item.entry.key);
                assert_eq!(meta.size, bytes.len() as u64);
            }
            Outcome::Large(_) => panic!("{} was not fetched", item.entry.key),
        }
    }
}

fn mixed(count: usize) -> Vec<usize> {
    (0..count).map(|index| (index * index * 37) % 20_000).collect()
}

#[tokio::test]
async fn members_come_whole_and_in_order_whatever_the_order_and_the_budget() {
    let archive = Archive::of(&mixed(500)).await;
    let shuffles = [Shuffle::No, Shuffle::Full, Shuffle::Blocks(64), Shuffle::Chunks(100)];
    for shuffle in shuffles {
        for budget in [80_000, 1 << 20, 256 << 20] {
            let order = Order { shuffle, batch_size: 16, workers: 2, ..Order::default() };
            let (items, end) = drain(&archive.client, Sequence::rows(archive.rows(), order), budget).await;
            end.unwrap();
            assert_eq!(items.len() as u64, order.length(500));
            for (position, item) in items.iter().enumerate() {
                let expected = &archive.entries[order.entry(position as u64, 500) as usize];
                assert_eq!(item.entry.key, expected.key);
                archive.assert_whole(item);
            }
        }
    }
}

#[tokio::test]
async fn members_may_come_twice_and_as_they_arrive() {
    let archive = Archive::of(&mixed(50)).await;
    let picks: Vec<u64> = (0..50).rev().chain([3, 3, 49, 0]).collect();
    let sequence = Sequence::picked(archive.rows(), picks.clone());
    let (items, end) = drain(&archive.client, sequence, 1 << 20).await;
    end.unwrap();
    let keys: Vec<_> = items.iter().map(|item| item.entry.key.to_string()).collect();
    assert_eq!(keys, picks.iter().map(|pick| format!("a.tar/{pick:05}")).collect::<Vec<_>>());

    let sequence = Sequence::picked(archive.rows(), picks.clone());
    let (queue, driver) = prefetch::start(archive.client.clone(), sequence, 80_000, Delivery::Arrival);
    tokio::spawn(driver);
    let taken = tokio::task::spawn_blocking(move || {
        let mut items = Vec::new();
        loop {
            match queue.take(Duration::from_secs(10)) {
                Taken::Items(batch) => items.extend(batch),
                Taken::Nothing => panic!("nothing for ten seconds"),
                Taken::End(end) => return end.map(|()| items),
            }
        }
    });
    let items = taken.await.unwrap().unwrap();
    for item in &items {
        archive.assert_whole(item);
    }
    let mut arrived: Vec<_> = items.iter().map(|item| item.entry.key.to_string()).collect();
    let mut expected = keys;
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
}

#[tokio::test]
async fn large_members_are_read_by_range() {
    let archive = Archive::of(&[10, 30_000, 20]).await;
    let (items, end) = drain(&archive.client, Sequence::rows(archive.rows(), Order::default()), 80_000).await;
    end.unwrap();
    archive.assert_whole(&items[0]);
    archive.assert_whole(&items[2]);
    let large = &items[1].entry;
    assert!(matches!(items[1].outcome, Ok(Outcome::Large(None))));
    let meta = oss_client::ops::head::ObjectMeta::of_part(large.size.unwrap(), large.etag.as_deref().unwrap());
    let reader = ObjectReader::of_entry(vec![archive.client.clone()], large, meta);
    let mut bytes = vec![0; 30_000];
    assert_eq!(reader.read_at(0, &mut bytes).await.unwrap(), 30_000);
    assert_eq!(bytes, archive.content(large));
    assert_eq!(reader.read_at(29_990, &mut bytes).await.unwrap(), 10);
    assert_eq!(bytes[..10], archive.content(large)[29_990..]);
}

#[tokio::test]
async fn a_replaced_archive_is_reported_for_each_of_its_members() {
    let archive = Archive::of(&[100, 200, 300]).await;
    archive.client.put(BUCKET, "a.tar", pattern(10_000).into(), &PutOptions::default()).await.unwrap();
    let (items, end) = drain(&archive.client, Sequence::rows(archive.rows(), Order::default()), 1 << 20).await;
    end.unwrap();
    assert_eq!(items.len(), 3);
    for item in &items {
        let error = item.outcome.as_ref().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Changed(text) if text.contains("a.tar was replaced")), "{error}");
        assert_eq!(error.key(), Some(&*item.entry.key));
    }
}

#[tokio::test]
async fn an_archive_that_is_not_there_or_too_short_is_reported() {
    let mut archive = Archive::of(&[100, 200]).await;
    archive.client.delete(BUCKET, "a.tar").await.unwrap();
    let (items, _) = drain(&archive.client, Sequence::rows(archive.rows(), Order::default()), 1 << 20).await;
    assert!(items.iter().all(|item| item.outcome.as_ref().unwrap_err().is_not_found()));

    let etag = archive.client.put(BUCKET, "a.tar", pattern(1000).into(), &PutOptions::default()).await.unwrap();
    for entry in &mut archive.entries {
        entry.etag = Some(etag.as_str().into());
    }
    let (items, _) = drain(&archive.client, Sequence::rows(archive.rows(), Order::default()), 1 << 20).await;
    assert!(items.iter().all(|item| item.outcome.is_err()));
}

#[tokio::test]
async fn memory_ahead_of_a_reader_that_does_not_read_is_bounded() {
    let archive = Archive::of(&[10_000; 300]).await;
    let budget = 200_000;
    for shuffle in [Shuffle::No, Shuffle::Full] {
        let sequence = Sequence::rows(archive.rows(), Order { shuffle, ..Order::default() });
        let (queue, driver) = prefetch::start(archive.client.clone(), sequence, budget, Delivery::Ordered);
        tokio::spawn(driver);
        let held = tokio::task::spawn_blocking(move || {
            let (mut held, mut quiet) = (0, 0);
            while quiet < 3 {
                let bytes = queue.held();
                quiet = if bytes == held && bytes > 0 { quiet + 1 } else { 0 };
                held = bytes;
                std::thread::park_timeout(Duration::from_millis(100));
            }
            held
        });
        let held = held.await.unwrap();
        assert!((budget / 4..=budget).contains(&held), "{held} bytes ahead");
    }
}
