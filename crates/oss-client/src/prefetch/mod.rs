//! Objects ahead of their reader: many requests in flight, inside a budget of bytes, delivered in order or as they
//! arrive.
//!
//! ```text
//!  I/O thread: the driver, one task                                  reading thread
//!
//!  Sequence ──entry──▶ Slots ──▶ requests in flight ──▶ Slots ──items──▶ Queue ──batch──▶ reader
//!     ▲                  │ members of archives wait here,                 │
//!     └─ lists if nobody │ and are fetched in runs (`spans`)              └── load: what is not taken yet
//!        else does       └─ Budget, Ahead: may one more be requested?
//! ```
//!
//! The life of one object:
//!
//! 1. The [`Sequence`] names it: a row of a table or of a listing file, at the next position of an order, or a row of
//!    the batch that the caller picked. The row may not be known yet; then the sequence waits, and lists if no other
//!    process does.
//! 2. The driver asks whether one more request may be sent. The client's `Concurrency` bounds their number, and grows
//!    while that brings throughput. The budget bounds bytes: each object reserves its size, or a guess if the size is
//!    unknown. And of what has arrived, only 16 MiB may wait for the reader (`FIRST_AHEAD`: fresh memory costs more
//!    than receiving into it). That limit doubles whenever the reader had to wait because of it. The object that the
//!    reader waits for is always let in, so an object larger than the budget does not stop the stream.
//! 3. It gets a slot. A slot keeps its place in the order while later objects arrive earlier.
//! 4. Its request is sent (`Client::get_where`). The answer tells its size: if that is more than was reserved and the
//!    rest does not fit, the body is not received. The object is *deferred*: it is requested again with its true size.
//! 5. An object above a quarter of the budget (`LARGE_SHARE`) would push all others out. It is delivered without its
//!    bytes, and the reader receives it by ranges; the quarter is kept for that.
//! 6. A member of an archive goes another way: the driver takes many at once, as much as half of the budget holds, and
//!    joins those that lie close together into one request (docs/decisions/archives.md).
//! 7. What has arrived is handed over: in order, everything before the first unfinished slot; otherwise at once. The
//!    [`Queue`] wakes the reader once for many objects.
//! 8. The reader takes a batch: at most 64 objects and an eighth of the budget. That makes room for the driver.
//!
//! If the reader is dropped, it abandons the queue. The driver sees that at its next step and ends; the requests in
//! flight are dropped with it.

mod driver;
mod prefix_to_list;
mod queue;
mod sequence;
mod spans;

pub use driver::{DeliveryOrder, kept_for_large, process_budget, start};
pub use prefix_to_list::{PrefixToList, RecordFailure};
pub use queue::{Queue, Taken};
pub use sequence::Sequence;

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
    /// Larger than a quarter of the budget: to be read by ranges. `None` if only its listed size is known.
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
