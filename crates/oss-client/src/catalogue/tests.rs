//! Rows, files, producers and what can happen to them.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    sync::Arc,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{page_file::failed, *};

fn etags() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "\"[0-9A-F]{32}\"".prop_map(Some),
        "\"[0-9A-F]{32}-[1-9][0-9]{0,4}\"".prop_map(Some),
        // Forms that must not be mistaken for those.
        "\"[0-9A-F]{32}-0[0-9]\"".prop_map(Some),
        "\"[0-9a-fA-F]{31,33}\"".prop_map(Some),
        ".{0,40}".prop_map(Some),
    ]
}

prop_compose! {
    fn entries()(
        bucket in "[ab]", key in ".{1,20}", size in proptest::option::of(any::<u64>()), etag in etags(),
        label in proptest::option::of(".{1,9}"), span in proptest::option::of(("[xyz]", any::<u64>())),
    ) -> Entry {
        Entry {
            // No object has it: OSS ends at 48.8 TB.
            size: size.filter(|size| *size != u64::MAX),
            bucket: bucket.into(),
            key: key.into(),
            etag: etag.map(Into::into),
            label: label.map(Into::into),
            span: span.map(|(archive, offset)| Span { archive: archive.into(), offset }),
        }
    }
}

fn rows_of(entries: &[Entry]) -> Rows {
    let mut rows = RowsBuilder::default();
    for entry in entries {
        rows.push(&Row::from(entry));
    }
    rows.build()
}

fn listing(directory: &TempDir) -> ListingFile {
    ListingFile::new(directory.path().join("private"), u64::MAX)
}

fn open(listing: &ListingFile) -> Arc<PageFile> {
    loop {
        if let Some(file) = listing.open().unwrap() {
            return file;
        }
    }
}

fn produce(listing: &ListingFile, file: &Arc<PageFile>) -> Producer {
    match listing.produce(file).unwrap() {
        Turn::Ours(producer) => *producer,
        other => panic!("{other:?}"),
    }
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<Entry> {
    numbers.map(|number| Entry::named("bucket", format!("{number:06}"))).collect()
}

fn append(producer: &mut Producer, entries: &[Entry]) {
    producer.append(entries.iter().map(Row::from), 0).unwrap();
}

fn read(file: &PageFile) -> Vec<Entry> {
    (0..file.refresh().unwrap().rows).map(|index| file.entry(index).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_come_back_as_they_were(entries in prop::collection::vec(entries(), 0..60)) {
        let rows = rows_of(&entries);
        let restored = Rows::from_bytes(&rows.to_bytes()).unwrap();
        prop_assert_eq!(rows.count(), entries.len() as u64);
        for (index, entry) in entries.iter().enumerate() {
            prop_assert_eq!(rows.entry(index as u64), Some(entry.clone()));
            prop_assert_eq!(restored.entry(index as u64), Some(entry.clone()));
        }
        prop_assert_eq!(rows.entry(entries.len() as u64), None);
    }

    /// For any division into pages and among producers.
    #[test]
    fn a_file_holds_the_same_rows_and_digests(
        entries in prop::collection::vec(entries(), 1..60), cuts in prop::collection::vec((0usize..20, any::<bool>()), 1..9),
    ) {
        let directory = TempDir::new().unwrap();
        let (listing, other) = (listing(&directory), listing(&directory));
        let file = open(&listing);
        let mut producer = produce(&listing, &file);
        let mut rest = &entries[..];
        for (length, leave) in cuts {
            let (page, after) = rest.split_at(length.min(rest.len()));
            append(&mut producer, page);
            rest = after;
            prop_assert_eq!(file.refresh().unwrap().rows as usize, entries.len() - rest.len());
            if leave {
                drop(producer);
                producer = produce(&other, &open(&other));
            }
        }
        append(&mut producer, rest);
        producer.finish(0).unwrap();
        let rows = rows_of(&entries);
        for file in [file, open(&other)] {
            prop_assert_eq!(file.refresh().unwrap().state, State::Complete);
            prop_assert_eq!(&read(&file), &entries);
            for index in 0..entries.len() as u64 {
                let page = file.page(index).unwrap();
                prop_assert_eq!(page.entry(index), entries.get(index as usize).cloned());
            }
            for count in 0..=entries.len() as u64 {
                prop_assert_eq!(Some(file.digest(count).unwrap()), rows.digest(count));
            }
        }
    }

    #[test]
    fn other_rows_have_another_digest(entries in prop::collection::vec(entries(), 1..9), other in entries(), at in any::<prop::sample::Index>()) {
        let mut changed = entries.clone();
        *at.get_mut(&mut changed) = other;
        let count = entries.len() as u64;
        prop_assert_eq!(changed == entries, rows_of(&changed).digest(count) == rows_of(&entries).digest(count));
    }

    #[test]
    fn damaged_bytes_are_no_table_or_another_but_no_panic(entries in prop::collection::vec(entries(), 1..9), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = rows_of(&entries).to_bytes();
        *at.get_mut(&mut bytes) ^= 1 << bit;
        if let Some(rows) = Rows::from_bytes(&bytes) {
            for index in 0..rows.count().min(100) {
                let _ = rows.entry(index);
            }
        }
    }
}

#[test]
fn a_row_of_oss_takes_at_most_forty_bytes_beyond_its_key() {
    let key_bytes = 1023;
    let entry = |number: u64| Entry {
        // 48.8 TB, the largest object of OSS, in ten thousand parts.
        size: Some(53_687_091_200_000),
        etag: Some(format!("\"{number:032X}-10000\"").into()),
        ..Entry::named("a-bucket-with-a-name-of-sixty-three-bytes-which-is-the-longest-1", "k".repeat(key_bytes))
    };
    let rows = 5000;
    let entries: Vec<Entry> = (0..rows).map(entry).collect();
    let packed = rows_of(&entries).to_bytes().len();
    let beyond = packed as f64 / rows as f64 - key_bytes as f64;
    assert!(beyond <= 40.0, "{beyond}");
    let directory = TempDir::new().unwrap();
    let listing = listing(&directory);
    let file = open(&listing);
    append(&mut produce(&listing, &file), &entries);
    let bytes = fs::metadata(directory.path().join("private/listing")).unwrap().len();
    let beyond = bytes as f64 / rows as f64 - key_bytes as f64;
    assert!(beyond <= 40.0, "{beyond}");
}

#[test]
fn what_was_not_committed_is_not_there_and_is_written_over() {
    let directory = TempDir::new().unwrap();
    let listing = listing(&directory);
    let file = open(&listing);
    let mut producer = produce(&listing, &file);
    append(&mut producer, &numbered(0..10));
    drop(producer);
    // A process that ends between a page and the header leaves bytes that no header counts.
    let path = directory.path().join("private/listing");
    let end = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xAB; 5000], end).unwrap();
    assert_eq!(read(&file), numbered(0..10));
    let mut producer = produce(&listing, &file);
    append(&mut producer, &numbered(10..20));
    producer.finish(0).unwrap();
    assert_eq!(read(&file), numbered(0..20));
}

#[test]
fn a_first_page_without_a_header_is_not_there_and_is_written_over() {
    let directory = TempDir::new().unwrap();
    let listing = listing(&directory);
    let file = open(&listing);
    let path = directory.path().join("private/listing");
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xAB; 100], 64).unwrap();
    assert_eq!(file.refresh().unwrap(), ListingProgress::default());
    let mut producer = produce(&listing, &file);
    append(&mut producer, &numbered(0..1));
    producer.finish(0).unwrap();
    assert_eq!(read(&file), numbered(0..1));
}

#[test]
fn a_table_is_read_from_a_file_as_from_memory() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("table");
    let entries = numbered(0..2500);
    let rows = rows_of(&entries);
    rows.write_to(&mut fs::File::create(&path).unwrap()).unwrap();
    let file = Arc::new(PageFile::of_table(&path).unwrap());
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&file), entries);
    for count in [0, 1, 999, 1000, 1001, 2500] {
        assert_eq!(Some(file.digest(count).unwrap()), rows.digest(count));
    }
    assert_eq!(file.to_bytes().unwrap(), rows.to_bytes());
    // One that was cut short, and one that is empty, are none.
    for length in [100, 64, 3, 0] {
        fs::write(&path, &rows.to_bytes()[..length]).unwrap();
        let error = PageFile::of_table(&path).map(drop).unwrap_err();
        assert!(error.message().contains("damaged"), "{length}: {error}");
    }
}

#[test]
fn one_of_many_is_the_producer() {
    let directory = TempDir::new().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let listing = listing(&directory);
            std::thread::spawn(move || {
                let mut made = 0;
                let file = open(&listing);
                loop {
                    match listing.produce(&file).unwrap() {
                        Turn::Ours(mut producer) => {
                            let rows = producer.rows() as usize;
                            if rows == 100 {
                                producer.finish(0).unwrap();
                            } else {
                                append(&mut producer, &numbered(rows..rows + 1));
                                made += 1;
                            }
                        }
                        Turn::Taken => std::thread::yield_now(),
                        Turn::Over => return (made, read(&file)),
                    }
                }
            })
        })
        .collect();
    let mut made = 0;
    for thread in threads {
        let (rows, read) = thread.join().unwrap();
        made += rows;
        assert_eq!(read, numbered(0..100));
    }
    assert_eq!(made, 100);
}

#[test]
fn a_failed_listing_says_why_and_the_next_use_begins_anew() {
    let directory = TempDir::new().unwrap();
    let (listing, other) = (listing(&directory), listing(&directory));
    let file = open(&listing);
    let late = open(&other);
    let mut producer = produce(&listing, &file);
    append(&mut producer, &numbered(0..3));
    producer.fail(b"why").unwrap();
    for file in [&file, &late] {
        assert_eq!(file.refresh().unwrap().state, State::Failed);
        assert_eq!(file.failure().unwrap(), b"why");
        assert_eq!(read(file), numbered(0..3));
        assert!(matches!(listing.produce(file).unwrap(), Turn::Over));
    }
    // Both begin the same new one.
    let (next, others_next) = (open(&listing), open(&other));
    assert_eq!(next.refresh().unwrap(), ListingProgress::default());
    append(&mut produce(&listing, &next), &numbered(0..1));
    assert_eq!(read(&others_next), numbered(0..1));
}

#[test]
fn a_listing_above_the_limit_is_read_to_its_end_and_not_kept() {
    let directory = TempDir::new().unwrap();
    let small = ListingFile::new(directory.path().join("private"), 100);
    let file = open(&small);
    let mut producer = produce(&small, &file);
    append(&mut producer, &numbered(0..100));
    producer.finish(0).unwrap();
    assert_eq!(read(&file), numbered(0..100));
    assert!(!directory.path().join("private/listing").exists());
    assert_eq!(open(&small).refresh().unwrap(), ListingProgress::default());
}

#[test]
fn a_discarded_listing_is_read_to_its_end_but_not_continued() {
    let directory = TempDir::new().unwrap();
    let listing = listing(&directory);
    let file = open(&listing);
    let mut producer = produce(&listing, &file);
    append(&mut producer, &numbered(0..5));
    listing.discard().unwrap();
    // Who is at it ends it.
    append(&mut producer, &numbered(5..6));
    assert_eq!(read(&file), numbered(0..6));
    drop(producer);
    let error = listing.produce(&file).unwrap_err();
    assert!(error.message().contains("discarded"), "{error}");
    assert_eq!(open(&listing).refresh().unwrap().rows, 0);
    assert!(listing.produce(&file).unwrap_err().message().contains("discarded"));
}

#[test]
fn a_directory_that_is_removed_is_made_again() {
    let directory = TempDir::new().unwrap();
    let listing = listing(&directory);
    let file = open(&listing);
    let mut producer = produce(&listing, &file);
    append(&mut producer, &numbered(0..5));
    fs::remove_dir_all(directory.path().join("private")).unwrap();
    producer.finish(0).unwrap();
    assert_eq!(read(&file), numbered(0..5));
    assert_eq!(open(&listing).refresh().unwrap().rows, 0);
}

#[test]
fn files_are_private_and_a_directory_that_is_not_is_refused() {
    let directory = TempDir::new().unwrap();
    let listing = listing(&directory);
    open(&listing);
    let path = directory.path().join("private");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join("listing")).unwrap().mode() & 0o777, 0o600);
    listing.close();
    for mode in [0o750, 0o702] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = listing.open().unwrap_err();
        assert!(error.message().contains("open to other users"), "{error}");
        assert!(error.message().contains("TMPDIR"), "{error}");
    }
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let error = ListingFile::new(link, 0).open().unwrap_err();
    assert!(error.message().contains("no directory"), "{error}");
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    // In the header, in the head of the page, and in the ends of its rows.
    for at in [8, 16, 60, 64, 70, 96, 100] {
        let directory = TempDir::new().unwrap();
        let listing = listing(&directory);
        let file = open(&listing);
        append(&mut produce(&listing, &file), &numbered(0..3));
        let path = directory.path().join("private/listing");
        let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all_at(&[0xEE; 4], at).unwrap();
        listing.close();
        let read = || -> crate::Result<()> {
            let file = listing.open()?.unwrap();
            (0..file.refresh()?.rows).try_for_each(|index| file.entry(index).map(drop))
        };
        let error = read().unwrap_err();
        assert!(error.message().contains("damaged"), "{at}: {error}");
        assert!(error.message().contains("listing"), "{at}: {error}");
    }
}

#[test]
fn a_full_disk_is_reported_with_the_place_and_the_way_out() {
    let full = failed(std::path::Path::new("/somewhere/listing"), "written", &std::io::ErrorKind::StorageFull.into());
    assert!(full.message().contains("/somewhere/listing"));
    assert!(full.message().contains("TMPDIR"));
}
