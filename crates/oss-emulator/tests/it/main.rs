//! The emulator over a real socket, driven by a small HTTP client that signs with oss-protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod buckets;
mod client;
mod conditions;
mod copies;
mod directory;
mod keys;
mod listing;
mod multipart;
mod objects;
mod races;
mod ranges;
mod server;
