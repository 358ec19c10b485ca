//! Reading one object: ahead of a sequential reader, in parallel ranges, and large ranges straight into the caller's
//! memory.
//!
//! An [`ObjectReader`] is one version of an object and what has been received of it. A [`Window`] keeps bytes of it in
//! memory around one position and divides each read into steps: [`Piece`]s of the window, or ranges that are worth
//! receiving into the caller's own memory, as [`Jobs`].

mod coverage;
mod gather;
mod job;
mod object;
mod piece;
mod window;

pub use gather::{Gathered, Target, Wanted, gather};
pub use job::{Job, Jobs};
pub use object::ObjectReader;
pub use piece::Piece;
pub use window::{Step, Window, longest_request};
