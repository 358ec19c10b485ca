//! Measures the listing file: rows a second, written and read on one core, and bytes a row.
//!
//! `cargo run --release -p oss-client --example listing_file [ROWS]`

#![allow(clippy::print_stdout, reason = "it prints")]

use std::{error::Error, sync::Arc, time::Instant};

use oss_client::{
    catalogue::{Entry, ListingFile, Row, Turn},
    order::{Order, Shuffle},
};

fn main() -> Result<(), Box<dyn Error>> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(2_000_000), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let listing = ListingFile::new(directory.path().join("private"), u64::MAX);
    let file = listing.open()?.ok_or("no file")?;
    let Turn::Ours(mut producer) = listing.produce(&file)? else { return Err("not ours".into()) };
    let bucket: Arc<str> = "bucket".into();
    let entry = |number: u64| Entry {
        size: Some(100_000 + number % 1000),
        etag: Some(format!("\"{number:032X}\"").into()),
        ..Entry::named(Arc::clone(&bucket), format!("train/n{:08}/n{number:08}.JPEG", number / 1300))
    };
    let pages: Vec<Vec<Entry>> =
        (0..rows).step_by(1000).map(|first| (first..rows.min(first + 1000)).map(entry).collect()).collect();
    let report = |what: &str, count: u64, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        println!(
            "{what:32} {:6.2} M rows/s  {:5.0} ns each",
            count as f64 / seconds / 1e6,
            seconds / count as f64 * 1e9
        );
    };

    let start = Instant::now();
    for page in &pages {
        producer.append(page.iter().map(Row::from), 0)?;
    }
    producer.finish(0)?;
    report("appended", rows, start);

    let start = Instant::now();
    let again = ListingFile::new(directory.path().join("private"), u64::MAX);
    let file = again.open()?.ok_or("no file")?;
    file.refresh()?;
    report("opened again", rows, start);

    let start = Instant::now();
    let order = Order::default();
    let mut bytes = 0;
    let mut reader = file.reader();
    for position in 0..order.length(rows) {
        bytes += reader.entry(order.entry(position, rows))?.key.len();
    }
    report("read in order", rows, start);

    let start = Instant::now();
    let order = Order { shuffle: Shuffle::Full, ..order };
    for position in 0..rows / 4 {
        bytes += file.entry(order.entry(position, rows))?.key.len();
    }
    report("read shuffled, row by row", rows / 4, start);

    let key_bytes: usize = pages.iter().flatten().map(|entry| entry.key.len()).sum();
    let file_bytes = std::fs::metadata(directory.path().join("private/listing"))?.len();
    println!("{:.1} bytes a row beyond its key", (file_bytes as f64 - key_bytes as f64) / rows as f64);
    assert!(bytes > 0, "every row was read");
    Ok(())
}
