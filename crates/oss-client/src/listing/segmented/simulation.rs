//! Listings in segments, against a simulated bucket and a simulated clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use proptest::prelude::*;

use super::*;

/// Time of one request, during which others run, and of the work that server and client do on it, during which none
/// does.
const LATENCY: u64 = 50_000;
const WORK: u64 = 2_500;

const PAGE: u64 = 1000;

#[derive(Debug)]
struct Outcome {
    requests: usize,
    seconds: f64,
    most_waiting: usize,
}

/// The answer of a server that has these keys.
fn page(keys: &BTreeSet<String>, prefix: &str, size: u64, request: &PageRequest) -> ListedObjects {
    let after = request.continuation.as_deref().or(request.start_after.as_deref()).unwrap_or_default();
    let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let mut rest = keys.range::<str, _>((start, Bound::Unbounded)).take_while(|key| key.starts_with(prefix));
    let mut page = ListedObjects::default();
    for key in rest.by_ref().take(size as usize) {
        page.push(key, 1, "\"0123456789ABCDEF0123456789ABCDEF\"");
    }
    if rest.next().is_some() {
        page.continuation = page.last().map(|object| object.key.to_owned());
    }
    page
}

/// Lists all the keys and checks what comes.
fn simulate(keys: &BTreeSet<String>, prefix: &str, most: usize) -> Outcome {
    let mut listing = SegmentedListing::new(prefix, None, PAGE, 32 << 20);
    let mut running = BTreeMap::new();
    let (mut now, mut busy_until) = (0_u64, 0_u64);
    let mut outcome = Outcome { requests: 0, seconds: 0.0, most_waiting: 0 };
    let mut expected = keys.iter();
    while !listing.is_done() {
        while let Some(request) = listing.next(most) {
            outcome.requests += 1;
            busy_until = busy_until.max(now) + WORK;
            running.insert((busy_until + LATENCY, outcome.requests), request);
        }
        outcome.most_waiting = outcome.most_waiting.max(listing.memory);
        let ((time, _), request) = running.pop_first().expect("a listing that is not done asks");
        now = time;
        listing.answer(request.segment, Ok(page(keys, prefix, PAGE, &request))).unwrap();
        while let Some(page) = listing.pop() {
            for object in page.unwrap().iter() {
                assert_eq!(Some(object.key), expected.next().map(String::as_str));
            }
        }
    }
    assert_eq!(expected.next(), None);
    outcome.seconds = now as f64 / 1e6;
    outcome
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn keys(keys: impl Iterator<Item = String>) -> BTreeSet<String> {
    keys.collect()
}

fn shapes(count: u64) -> Vec<(&'static str, &'static str, BTreeSet<String>)> {
    let wide = |number: u64| char::from_u32(0x4E00 + (number % 20_000) as u32).unwrap();
    let word =
        |number: u64| -> String { (0..8).map(|place| char::from(b'a' + (mix(number + place) % 26) as u8)).collect() };
    vec![
        ("numbers", "data/", keys((0..count).map(|n| format!("data/{n:08}")))),
        ("plain numbers", "data/", keys((0..count).map(|n| format!("data/{n}.jpg")))),
        (
            "directories",
            "train/",
            keys((0..count).map(|n| {
                let wnid = 1_440_764 + n / 1000 * 13_643 + mix(n / 1000) % 9000;
                format!("train/n{wnid:08}/n{wnid:08}_{}.JPEG", mix(n) % 20_000_000)
            })),
        ),
        ("hashes", "", keys((0..count).map(|n| format!("{:016x}{:016x}", mix(n + 1), mix(n + 7777))))),
        (
            "uuids",
            "p/",
            keys((0..count).map(|n| format!("p/part-{n:05}-{:08x}-{:04x}.parquet", mix(n) as u32, n as u16))),
        ),
        (
            "unicode",
            "图/",
            keys((0..count).map(|n| format!("图/{}{}{}-{n}", wide(mix(n)), wide(mix(n + 5)), wide(mix(n + 9))))),
        ),
        (
            "skewed",
            "",
            keys((0..count).map(|n| match n % 100 {
                0 => format!("{:016x}", mix(n)),
                _ => format!("logs/2024/05/17/region=eu-west/service=web/worker-{n:010}.json"),
            })),
        ),
        ("words", "w/", keys((0..count).map(|n| format!("w/{}", word(mix(n)))))),
        (
            "mixed case",
            "",
            keys((0..count).map(|n| {
                use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
                URL_SAFE_NO_PAD.encode(mix(n + 3).to_be_bytes())
            })),
        ),
        (
            "dates",
            "d/",
            keys((0..count).map(|n| {
                format!(
                    "d/{:04}-{:02}-{:02}/{:02}/{:08x}.bin",
                    2015 + n * 9 / count,
                    1 + n * 108 / count % 12,
                    1 + n * 3240 / count % 30,
                    mix(n) % 24,
                    mix(n) as u32
                )
            })),
        ),
        ("one directory each", "x/", keys((0..count).map(|n| format!("x/{:06}/image.png", n * 7)))),
        (
            "large directories",
            "b/",
            keys((0..count).map(|n| format!("b/{}/{:07}.jpg", word(n / 50_000 * 31), n % 50_000))),
        ),
        (
            "directories of all sizes",
            "z/",
            keys((0..count).map(|n| {
                let rank = (count as f64 / (n + 1) as f64).ln() * 40.0;
                format!("z/{}/{:08x}", word(rank as u64 * 31), mix(n) as u32)
            })),
        ),
        (
            "two levels",
            "t/",
            keys(
                (0..count)
                    .map(|n| format!("t/{}/{}/{:06}.flac", word(n / 40_000 * 17), mix(n / 300) % 100_000, n % 300)),
            ),
        ),
        (
            "timestamps",
            "c/",
            keys(
                (0..count)
                    .map(|n| format!("c/camera-{:02}/{}.jpg", n % 8, 1_700_000_000_000_u64 + n * 40 + mix(n) % 7)),
            ),
        ),
        ("pairs", "s/", keys((0..count / 2).flat_map(|n| [format!("s/{n:09}.jpg"), format!("s/{n:09}.txt")]))),
    ]
}

#[test]
fn every_shape_is_listed_at_full_rate_within_the_requests_allowed() {
    for count in [2_500, 400_000] {
        for (name, prefix, keys) in shapes(count) {
            let outcome = simulate(&keys, prefix, 16);
            let pages = keys.len().div_ceil(PAGE as usize);
            let rate = keys.len() as f64 / outcome.seconds;
            if pages < 4 {
                assert!(outcome.requests <= pages + 3, "{name}: {outcome:?}");
            } else {
                assert!(outcome.requests <= pages + pages / 10 + 64, "{name}: {outcome:?}");
                // One page after the other brings 19,000.
                assert!(rate > 130_000.0, "{name}: {rate}, {outcome:?}");
                assert!(outcome.most_waiting < 32 << 20, "{name}: {outcome:?}");
            }
        }
    }
}

#[test]
fn short_listings_waste_next_to_nothing() {
    for (count, most) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 3), (2000, 3)] {
        let keys = keys((0..count).map(|number| format!("data/{number:08}")));
        let outcome = simulate(&keys, "data/", 16);
        assert!(outcome.requests <= most, "{count}: {outcome:?}");
    }
}

/// Keys of many forms, close enough together that pages, groups and prefixes meet in every way.
fn any_keys() -> impl Strategy<Value = BTreeSet<String>> {
    let key = prop_oneof![
        "[ab/]{1,7}",
        "[a-c]{1,2}/[0-9]{1,4}",
        "n[0-9]{2}/n[0-9]{2}_[0-9]{1,3}[.]jpg",
        "[0-9a-f]{4}",
        "d/[\u{0}-\u{1f}\u{7f} %+&<]{1,3}",
        "[图一\u{D7FF}\u{E000}\u{10FFFF}é]{1,4}",
        any::<String>().prop_filter("a key has a character", |key| !key.is_empty() && key.len() < 1000),
        (0..3000_u32).prop_map(|number| format!("p/{number:06}")),
    ];
    let row = (0..400_u32, 0..400_u32)
        .prop_map(|(start, len)| (start..start + len).map(|number| format!("p/{number:06}")).collect());
    let some = prop::collection::btree_set(key, 0..300);
    (some, prop_oneof![Just(BTreeSet::new()), row]).prop_map(|(some, row)| &some | &row)
}

#[derive(Clone, Debug)]
struct Scenario {
    keys: BTreeSet<String>,
    prefix: &'static str,
    start_after: Option<String>,
    page: u64,
    most: usize,
    memory: usize,
    /// Decides which answer comes next and when the reader reads.
    seed: u64,
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    let prefix = prop_oneof![Just(""), Just("p/"), Just("a"), Just("d/"), Just("n1"), Just("图")];
    let start_after = prop_oneof![2 => Just(None), 1 => "[ap/0-9]{1,4}".prop_map(Some)];
    let memory = prop_oneof![Just(1), Just(2000), Just(1 << 20)];
    (any_keys(), prefix, start_after, 1..9_u64, 1..14_usize, memory, any::<u64>()).prop_map(
        |(keys, prefix, start_after, page, most, memory, seed)| Scenario {
            keys,
            prefix,
            start_after,
            page,
            most,
            memory,
            seed,
        },
    )
}

/// Runs the scenario, in which the bucket changes before each answer and any answer may be an error. Returns the keys
/// delivered, the error, and the number of requests.
fn play(
    scenario: &Scenario,
    mut change: impl FnMut(u64, &mut BTreeSet<String>),
    mut fails: impl FnMut(&PageRequest) -> bool,
) -> (Vec<String>, Option<Error>, usize) {
    let mut bucket = scenario.keys.clone();
    let mut listing =
        SegmentedListing::new(scenario.prefix, scenario.start_after.clone(), scenario.page, scenario.memory);
    let mut running: Vec<PageRequest> = Vec::new();
    let (mut delivered, mut requests, mut random) = (Vec::new(), 0, scenario.seed);
    while !listing.is_done() {
        while let Some(request) = listing.next(scenario.most) {
            requests += 1;
            running.push(request);
            assert!(running.len() <= scenario.most);
        }
        random = mix(random + 1);
        if listing.is_ready() && (running.is_empty() || random.is_multiple_of(3)) {
            match listing.pop().expect("a page is ready") {
                Ok(page) => delivered.extend(page.iter().map(|object| object.key.to_owned())),
                Err(error) => return (delivered, Some(error), requests),
            }
            continue;
        }
        change(random, &mut bucket);
        let request = running.swap_remove((random >> 8) as usize % running.len());
        let answer = if fails(&request) {
            Err(Error::new(crate::error::ErrorKind::Cancelled(format!("{request:?}"))))
        } else {
            Ok(page(&bucket, scenario.prefix, scenario.page, &request))
        };
        listing.answer(request.segment, answer).unwrap();
    }
    (delivered, None, requests)
}

fn expected(scenario: &Scenario) -> Vec<String> {
    let after = scenario.start_after.as_deref().unwrap_or_default();
    scenario.keys.iter().filter(|key| key.starts_with(scenario.prefix) && key.as_str() > after).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_key_comes_once_and_in_order(scenario in any_scenario()) {
        let (delivered, error, requests) = play(&scenario, |_, _| {}, |_| false);
        let expected = expected(&scenario);
        prop_assert!(error.is_none());
        prop_assert_eq!(&delivered, &expected);
        let pages = expected.len().div_ceil(scenario.page as usize).max(1);
        prop_assert!(requests <= pages + pages / 10 + 64, "{} requests for {} pages", requests, pages);
    }

    #[test]
    fn what_changes_meanwhile_neither_doubles_nor_hides_anything(scenario in any_scenario()) {
        let fixed: BTreeSet<String> =
            scenario.keys.iter().filter(|key| !key.len().is_multiple_of(3)).cloned().collect();
        let change = |random: u64, bucket: &mut BTreeSet<String>| {
            let number = (random >> 16) % 700;
            if random.is_multiple_of(2) {
                bucket.insert(format!("p/{number:06}0"));
            } else if let Some(key) = bucket.iter().nth(number as usize).cloned() && !fixed.contains(&key) {
                bucket.remove(&key);
            }
        };
        let (delivered, error, _) = play(&scenario, change, |_| false);
        prop_assert!(error.is_none());
        prop_assert!(delivered.is_sorted_by(|left, right| left < right));
        let delivered: BTreeSet<String> = delivered.into_iter().collect();
        for key in expected(&scenario) {
            prop_assert!(delivered.contains(&key) || !fixed.contains(&key), "{} is missing", key);
        }
    }

    #[test]
    fn an_error_comes_after_everything_before_it(scenario in any_scenario(), odds in 1..40_u64) {
        let mut failed: Option<String> = None;
        let mut random = scenario.seed;
        let (delivered, error, _) = play(&scenario, |_, _| {}, |request| {
            random = mix(random + 2);
            let place = request.continuation.clone().or(request.start_after.clone()).unwrap_or_default();
            let fails = random.is_multiple_of(odds);
            if fails && failed.as_ref().is_none_or(|failed| place < *failed) {
                failed = Some(place);
            }
            fails
        });
        let expected = expected(&scenario);
        prop_assert_eq!(error.is_some(), failed.is_some());
        match failed {
            None => prop_assert_eq!(delivered, expected),
            Some(place) => {
                let before = expected.iter().take_while(|key| **key <= place).count();
                prop_assert_eq!(&delivered[..], &expected[..before]);
            }
        }
    }
}

#[test]
fn rows_that_wait_are_bounded() {
    let keys = keys((0..300_000).map(|number| format!("data/{number:08}")));
    let mut listing = SegmentedListing::new("data/", None, PAGE, 4 << 20);
    let mut running = std::collections::VecDeque::new();
    let mut requests = 0;
    loop {
        while let Some(request) = listing.next(16) {
            requests += 1;
            running.push_back(request);
        }
        // The reader takes nothing.
        let Some(request) = running.pop_front() else { break };
        listing.answer(request.segment, Ok(page(&keys, "data/", PAGE, &request))).unwrap();
        assert!(listing.memory <= 5 << 20, "{}", listing.memory);
    }
    assert!((20..80).contains(&requests), "{requests}");
    assert!(listing.is_ready());
}

#[test]
fn a_server_that_does_not_keep_the_order_is_found_out() {
    let answer = |keys: &[&str], continuation: Option<&str>| {
        let mut page = ListedObjects::default();
        for key in keys {
            page.push(key, 1, "");
        }
        page.continuation = continuation.map(str::to_owned);
        Ok(page)
    };
    for pages in [
        [answer(&["b", "a"], None), answer(&[], None)],
        [answer(&["a", "a"], None), answer(&[], None)],
        [answer(&["a", "b"], Some("t")), answer(&["b"], None)],
        [answer(&["a"], Some("t")), answer(&["b"], Some("t"))],
    ] {
        let mut listing = SegmentedListing::new("", None, PAGE, 1 << 20);
        let answers = pages.into_iter().map(|page| {
            let request = listing.next(1)?;
            Some(listing.answer(request.segment, page))
        });
        assert!(answers.flatten().any(|answer| answer == Err(Disorder)));
    }
}
