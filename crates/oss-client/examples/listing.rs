//! Fills a bucket with keys of one shape, or lists them and says how long it took. `benchmarks/listing.py` runs it.
//!
//! `listing fill ENDPOINT SHAPE COUNT` and `listing list ENDPOINT SHAPE parallel|sequential`.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{error::Error, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oss_client::{
    Client, ClientConfig,
    credentials::StaticCredentials,
    listing::{ListingOptions, pages},
    ops::put::PutOptions,
};
use oss_protocol::{
    credentials::Credentials,
    endpoint::{Endpoint, Scheme},
};

const BUCKET: &str = "bench";

/// Writes in flight while the bucket is filled.
const WRITES: usize = 32;

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn key(shape: &str, number: u64) -> String {
    let hash = mix(number + 1);
    let wide = |bits: u64| char::from_u32(0x4E00 + (bits % 20_000) as u32).unwrap_or('一');
    match shape {
        "numbers" => format!("numbers/data/{number:08}"),
        "imagenet" => {
            let class = 1_440_764 + number / 1000 * 13_643 + mix(number / 1000) % 9_000;
            format!("imagenet/train/n{class:08}/n{class:08}_{}.JPEG", number % 1000 * 7)
        }
        "hashes" => format!("hashes/{hash:016x}{:016x}", mix(hash)),
        "unicode" => format!("unicode/{}{}{}-{number}", wide(hash), wide(hash >> 20), wide(hash >> 40)),
        _ if number.is_multiple_of(100) => format!("{shape}/{hash:016x}"),
        _ => format!("{shape}/logs/2024/05/17/region=eu-west/service=web/worker-{number:010}.json"),
    }
}

async fn fill(client: Client, shape: &str, count: u64) -> oss_client::Result<()> {
    let options = PutOptions::default();
    let mut writes = stream::iter(0..count)
        .map(|number| {
            let (client, options, key) = (client.clone(), &options, key(shape, number));
            async move { client.put(BUCKET, &key, Bytes::new(), options).await }
        })
        .buffer_unordered(WRITES);
    while let Some(written) = writes.next().await {
        written?;
    }
    Ok(())
}

async fn list(client: Client, shape: &str, parallel: bool) -> oss_client::Result<()> {
    let start = Instant::now();
    let mut pages = pages(client, BUCKET, &format!("{shape}/"), ListingOptions { start_after: None, parallel });
    let (mut keys, mut bytes, mut tenth) = (0, 0, None);
    while let Some(page) = pages.recv().await {
        let page = page?;
        tenth = tenth.or((keys > 100_000).then(|| start.elapsed()));
        keys += page.len();
        bytes += page.iter().map(|entry| entry.key.len()).sum::<usize>();
    }
    let seconds = start.elapsed().as_secs_f64();
    let tenth = tenth.unwrap_or_default().as_secs_f64();
    println!(
        "{{\"keys\": {keys}, \"bytes\": {bytes}, \"seconds\": {seconds:.4}, \"first_100k\": {tenth:.4}, \
         \"peak_kib\": {}}}",
        peak_memory()
    );
    Ok(())
}

/// The most memory that this process has held, in KiB; 0 if the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [action, endpoint, shape, how] = &arguments[..] else { return Err("see the comment at the top".into()) };
    let endpoint = Endpoint::parse(endpoint, Scheme::Http, None)?;
    let credentials = StaticCredentials(Some(Credentials::new("bench-id", "bench-secret")));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = Client::new(ClientConfig::new(endpoint, "cn-hangzhou"), Arc::new(credentials))?;
        match action.as_str() {
            "fill" => fill(client, shape, how.parse()?).await?,
            _ => list(client, shape, how == "parallel").await?,
        }
        Ok(())
    })
}
