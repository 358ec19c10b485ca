//! Which objects there are, in their order: rows in memory or in a file that several processes read.
//!
//! Rows are packed into pages, and both [`Rows`] and the listing file hold such pages. A [`Listing`] is the
//! file's place: whoever needs its rows first becomes the [`Producer`] and appends them, everyone reads them.

mod entry;
mod file;
mod listing;
mod names;
mod page;
mod producer;
mod row;
mod rows;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Page, Span};
pub use file::{ListingFile, Progress, State, StraightReader};
pub use listing::{Listing, Turn};
pub use producer::Producer;
pub use row::Row;
pub use rows::{Rows, RowsBuilder};
