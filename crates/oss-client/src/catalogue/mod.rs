//! Which objects a dataset has: rows in memory, or in a file that several processes share.
//!
//! A [`Row`] is one object. Rows are packed into pages; [`Rows`] holds pages in memory, and a [`PageFile`] holds the
//! same pages on disk. A [`ListingFile`] is the place of that file: a private directory, which all processes of a
//! dataset know.
//!
//! ```text
//!  header     64 bytes   "OSSLIST1", state, committed bytes, rows, markers, digest, failure, CRC-64 of these
//!  page       32 bytes   rows, bytes of rows, names, bytes of names, first row, digest up to here
//!             4 n bytes  the end of each row
//!             the rows   flags, key, then what the flags announce: bucket, size, ETag, label, span
//!             the names  buckets and archives that these rows are the first to use
//!  page       …          closed at 1,000 rows, as many as a page of the service's listing has, or at 1 MiB
//!  failure               behind the committed bytes, if the listing failed: why, as the producer recorded it
//! ```
//!
//! All numbers have a fixed width and are little-endian, but those inside rows and names, which are LEB128 (`row.rs`).
//!
//! The life of one row:
//!
//! 1. A process needs rows that are not known. It asks for the turn ([`ListingFile::produce`]). The exclusive lock on
//!    the file makes it the [`Producer`]; all others read what it commits. The lock ends with the process, so a killed
//!    producer is followed by the next process that needs rows, which goes on behind the last committed row.
//! 2. The producer packs the rows of a page and appends them behind the committed bytes. Only then it writes the header
//!    that counts them. What was appended and never counted is overwritten by the next producer.
//! 3. A reader looks at the header ([`PageFile::refresh`]), and learns the heads of new pages: 16 bytes of memory for
//!    each. If the CRC-64 of the header is wrong, it is being written at this moment; the reader looks again, for up to
//!    a second.
//! 4. Row `i` is read with two small reads, without the rows before it ([`PageFile::entry`]); an order that goes
//!    straight on keeps the page of the row before ([`StraightReader`]).
//! 5. The digest over all rows up to the end of a page stands in the page's head. So a saved position can prove,
//!    without reading everything, that the first rows are still those that it counted.
//! 6. When the listing is complete, no row changes any more. A complete file above the limit loses its name, and its
//!    bytes are free when the last process closes it.

mod entry;
mod listing_file;
mod names;
mod page;
mod page_file;
mod producer;
mod row;
mod rows;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Page, Span};
pub use listing_file::{ListingFile, Turn};
pub use page_file::{ListingProgress, PageFile, State, StraightReader};
pub use producer::Producer;
pub use row::Row;
pub use rows::{Rows, RowsBuilder};
