//! Reading one object: ahead, in parallel, and never mixed.

use std::{ops::Range, sync::Arc};

use oss_client::{
    Client, ErrorKind,
    ops::put::PutOptions,
    reader::{Job, Jobs, ObjectReader, Step, Window},
};
use tokio::runtime::Handle;

use crate::support::{BUCKET, client, config, emulator, pattern};

/// Reads through a window as its users do.
async fn read(window: &mut Window, want: Range<u64>) -> oss_client::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for step in window.steps_for(want.clone()) {
        match step {
            Step::Piece(piece) => {
                piece.arrival().await?;
                let at = want.start + bytes.len() as u64;
                let arrived = piece.bytes_from(at).unwrap();
                bytes.extend_from_slice(&arrived[..arrived.len().min((want.end - at) as usize)]);
            }
            Step::Direct(range) => {
                assert!(range.start <= want.start + bytes.len() as u64);
                let mut received = vec![0; (range.end - range.start) as usize];
                let mut rest = &mut received[..];
                let mut jobs = Vec::new();
                for part in window.split(range.clone()) {
                    let (front, back) = rest.split_at_mut((part.end - part.start) as usize);
                    let mut job = Job::new(part.start);
                    job.fill(front);
                    jobs.push(job);
                    rest = back;
                }
                window.object().clone().work(0, Arc::new(Jobs::new(jobs, true)), 4).await?;
                let known = want.start + bytes.len() as u64 - range.start;
                bytes.extend_from_slice(&received[known as usize..]);
            }
        }
    }
    assert_eq!(bytes.len() as u64, want.end - want.start);
    Ok(bytes)
}

async fn window(client: &Client, content: Vec<u8>) -> Window {
    client.put(BUCKET, "object", content.into(), &PutOptions::default()).await.unwrap();
    let object = ObjectReader::open(client.clone(), BUCKET, "object").await.unwrap();
    Window::new(object, vec![Handle::current()])
}

#[tokio::test]
#[expect(clippy::single_range_in_vec_init, reason = "a way of reading is a list of ranges, also of one")]
async fn every_way_of_reading_completes_the_checksum() {
    let content = pattern(3_000_007);
    let ways: [&[Range<u64>]; 5] = [
        &[0..3_000_007],
        &[0..10, 10..1_500_000, 1_500_000..3_000_007],
        &[2_000_000..3_000_007, 0..2_000_000],
        // What is left out is small enough to be fetched in the end, or between two reads.
        &[0..100, 2_999_000..3_000_007, 130..1_000_000, 1_000_040..2_000_000, 2_030_000..2_980_000],
        &[0..3_000_007, 0..1_000_000, 500_000..3_000_007],
    ];
    for reader_window in [64 << 10, 1 << 20, 256 << 20] {
        for way in ways {
            let mut config = config(&emulator().await);
            config.reader_window = reader_window;
            let mut window = window(&client(config), content.clone()).await;
            for want in way {
                let bytes = read(&mut window, want.clone()).await.unwrap();
                assert!(bytes == content[want.start as usize..want.end as usize], "{want:?} of {way:?}");
            }
            for step in window.steps_for_remainder() {
                let Step::Piece(piece) = step else { panic!("{step:?}") };
                piece.arrival().await.unwrap();
            }
            assert_eq!(window.object().left(), 0, "{way:?} with {reader_window}");
            window.object().verify().unwrap();
        }
    }
}

#[tokio::test]
async fn a_sequential_reader_finds_the_next_bytes_on_their_way() {
    let mut config = config(&emulator().await);
    config.reader_window = 8 << 20;
    let mut window = window(&client(config), pattern(6_000_000)).await;
    let mut at_hand = 0;
    for start in (0..6_000_000).step_by(10_000) {
        at_hand += u32::from(window.at_hand(&(start..start + 10_000)).is_some());
        read(&mut window, start..start + 10_000).await.unwrap();
    }
    assert!(at_hand > 400, "{at_hand} of 600");
}

#[tokio::test]
async fn a_failed_request_ahead_is_made_again() {
    let url = emulator().await;
    let mut config = config(&url);
    config.max_attempts = 1;
    let client = client(config);
    let mut window = window(&client, pattern(2_000_000)).await;
    read(&mut window, 0..10).await.unwrap();
    client.delete(BUCKET, "object").await.unwrap();
    assert!(read(&mut window, 500_000..500_010).await.unwrap_err().is_not_found());
    client.put(BUCKET, "object", pattern(2_000_000).into(), &PutOptions::default()).await.unwrap();
    assert_eq!(read(&mut window, 500_000..500_010).await.unwrap(), pattern(2_000_000)[500_000..500_010]);
}

#[tokio::test]
async fn a_reader_reads_any_range_in_parallel_parts() {
    let mut config = config(&emulator().await);
    config.part_size = 1000;
    let client = client(config);
    let content = pattern(10_500);
    client.put(BUCKET, "object", content.clone().into(), &PutOptions::default()).await.unwrap();
    let reader = ObjectReader::open(client, BUCKET, "object").await.unwrap();
    for (offset, length) in [(0, 10_500), (1, 1), (999, 2), (1500, 5000), (10_000, 9999), (10_500, 5), (20_000, 5)] {
        let mut buffer = vec![0; length];
        let count = reader.read_at(offset, &mut buffer).await.unwrap();
        let offset = (offset as usize).min(content.len());
        let end = (offset + length).min(content.len());
        assert_eq!(&buffer[..count], &content[offset..end], "{offset} + {length}");
    }
}

#[tokio::test]
async fn a_replaced_object_is_noticed() {
    let client = client(config(&emulator().await));
    client.put(BUCKET, "object", pattern(2000).into(), &PutOptions::default()).await.unwrap();
    let reader = ObjectReader::open(client.clone(), BUCKET, "object").await.unwrap();
    client.put(BUCKET, "object", pattern(3000).into(), &PutOptions::default()).await.unwrap();
    let error = reader.read_at(0, &mut [0; 2000]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Changed(_)), "{error:?}");
    assert_eq!(error.key(), Some("object"));
}

#[tokio::test]
async fn a_very_large_read_begins_with_long_ranges_and_ends_with_parts() {
    let config = config(&emulator().await);
    let part = config.part_size as u64;
    let window = window(&client(config), pattern(10)).await;
    for length in [1, part, 3 * part + 1, 2 << 30, 100 << 30] {
        let ranges: Vec<_> = window.split(7..7 + length).collect();
        assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (7, 7 + length));
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        let lengths: Vec<_> = ranges.iter().map(|range| range.end - range.start).collect();
        assert!(lengths.is_sorted_by(|before, after| before >= after), "{lengths:?}");
        assert!(lengths[lengths.len() - 1] <= part);
        assert!(ranges.len() as u64 <= length.div_ceil(part).max(16), "{} ranges", ranges.len());
        assert!(length < 1 << 30 || lengths[0] > 4 * part, "{lengths:?}");
    }
}
