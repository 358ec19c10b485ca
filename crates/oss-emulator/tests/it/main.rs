//! The emulator over a real socket, driven by a small HTTP client that signs with oss-protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod archives;
mod auth;
mod buckets;
mod client;
mod conditions;
mod configurations;
mod copies;
mod crash;
mod crash_configurations;
mod directory;
mod faults;
mod keys;
mod limits;
mod listing;
mod multipart;
mod objects;
mod races;
mod ranges;
mod rights;
mod server;
mod symlinks;
mod tags;
mod tls;
