//! Inputs that are almost right: samples, mutated at random.

use std::env;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// How long each target runs, in seconds, and the seed that makes it repeat what it did.
const SECONDS: &str = "OSS_FUZZ_SECONDS";
const SEED: &str = "OSS_FUZZ_SEED";

/// Most mutations of one input. A few leave enough of the sample for the deeper code to be reached.
const MOST_MUTATIONS: usize = 6;

/// Inputs longer than this are cut: doubling must end somewhere.
const LONGEST: usize = 16 * 1024;

/// Pieces that parsers treat as special.
const TOKENS: &[&str] = &[
    "",
    " ",
    "\t",
    "\r\n",
    "\0",
    "%",
    "%00",
    "%FF",
    "%2F",
    "+",
    "/",
    "//",
    "..",
    "=",
    "==",
    "&",
    ";",
    ",",
    "-",
    "--",
    ":",
    "\"",
    "<",
    ">",
    "</",
    "/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?xml",
    "&amp;",
    "&#0;",
    "&#x110000;",
    "&lol;",
    "<!DOCTYPE a [",
    "0",
    "-1",
    "1",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "é",
    "\u{10FFFF}",
    "\u{FEFF}",
    "bytes=",
    "OSS4-HMAC-SHA256 ",
    "OSS ",
    "Credential=",
    "Signature=",
    "AdditionalHeaders=",
    "x-oss-",
    "aliyun_v4_request",
];

/// A source of inputs.
#[derive(Debug)]
pub(crate) struct Mutator {
    pub(crate) random: StdRng,
    samples: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.samples.choose(&mut self.random).cloned().unwrap_or_default();
        for _ in 0..self.random.random_range(0..=MOST_MUTATIONS) {
            self.mutate(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 64));
        match random.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => drop(input.drain(at..end)),
            3 => {
                let copy = input[at..end].to_vec();
                let to = random.random_range(0..=input.len());
                drop(input.splice(to..to, copy));
            }
            4 => input.truncate(at),
            5 => {
                // The end of another sample behind the beginning of this one.
                if let Some(other) = self.samples.choose(random) {
                    let from = random.random_range(0..=other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
            }
            6 if at < end => {
                let copy = input[at..end].repeat(random.random_range(2..200));
                drop(input.splice(at..end, copy));
            }
            _ => {
                if let Some(token) = TOKENS.choose(random) {
                    drop(input.splice(at..at, token.bytes()));
                }
            }
        }
    }
}

/// Gives mutated samples to `target` until the time is over. What panics is printed with the seed.
pub(crate) fn fuzz(name: &str, samples: &[impl AsRef<[u8]>], mut target: impl FnMut(&mut Mutator, &[u8])) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = Duration::from_secs(number(SECONDS).unwrap_or(1));
    let seed = number(SEED).unwrap_or_else(rand::random);
    let samples = samples.iter().map(|sample| sample.as_ref().to_vec()).collect();
    let mut mutator = Mutator { random: StdRng::seed_from_u64(seed), samples };
    let start = Instant::now();
    let mut runs = 0_u64;
    while start.elapsed() < seconds {
        let input = mutator.next();
        let report = Report { name, seed, input: &input };
        target(&mut mutator, &input);
        std::mem::forget(report);
        runs += 1;
    }
    assert!(runs > 100, "{name} ran {runs} times only, which proves nothing");
    println!("{name}: {runs} inputs, seed {seed}");
}

/// Prints the input when a target panics.
struct Report<'a> {
    name: &'a str,
    seed: u64,
    input: &'a [u8],
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        println!("{}: {SEED}={} input {}", self.name, self.seed, self.input.escape_ascii());
    }
}
