//! The identifiers of requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes request identifiers: 24 hexadecimal digits, different in every run.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { prefix: rand::random(), next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> String {
        format!("{:08X}{:016X}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
