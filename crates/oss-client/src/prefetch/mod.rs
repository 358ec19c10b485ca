//! Objects ahead of their reader: many requests in flight, inside a budget of bytes, delivered in order or as they arrive.
//!
//! A [`Source`] names the objects, a driver task on the I/O thread keeps requests for the next ones in flight, and a
//! [`Queue`] hands what has arrived to the reading thread in batches. The client's `Concurrency` decides how many requests
//! that are, from the throughput they bring.

mod driver;
mod prefix;
mod queue;
mod source;
mod spans;

pub use driver::{Delivery, kept_for_large, start};
pub use prefix::{Prefix, RecordFailure};
pub use queue::{Queue, Taken};
pub use source::Source;

use crate::{buffer::PooledBuffer, catalogue::Entry, error::Result, ops::head::ObjectMeta};

/// One object of a stream, with its outcome.
#[derive(Debug)]
pub struct Item {
    /// Which object.
    pub entry: Entry,
    /// Its bytes, or why there are none.
    pub outcome: Result<Outcome>,
}

/// What became of an object that could be read.
#[derive(Debug)]
pub enum Outcome {
    /// Fetched, and its checksum compared.
    Fetched(ObjectMeta, PooledBuffer),
    /// Larger than a quarter of the budget: to be read by ranges. `None` where only its listed size is known.
    Large(Option<ObjectMeta>),
}

impl Item {
    /// Bytes of memory it holds.
    fn held(&self) -> usize {
        match &self.outcome {
            Ok(Outcome::Fetched(_, bytes)) => bytes.len(),
            _ => 0,
        }
    }
}
