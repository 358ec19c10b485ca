//! The client against the emulator, and against servers that misbehave on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

mod archives;
mod emulated;
mod framing;
mod listing;
mod local;
mod prefetching;
mod reading;
mod scripted;
mod support;
mod tls;
mod uploading;
