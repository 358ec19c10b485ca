//! A local server that speaks the Object Storage Service (OSS) protocol, for tests, demonstrations and benchmarks.
//!
//! It is strict: signatures are verified, checksums are checked, and a request that the service would refuse is refused
//! with the same code. Objects live in memory or under a directory that survives a restart.
//!
//! [`Emulator::bind`] opens the socket, [`Emulator::serve`] answers requests until told to stop, and
//! [`Emulator::request_log`] tells what was asked. [`Emulator::faults`] makes it fail on purpose.

mod admin;
mod auth;
mod body;
mod condition;
mod config;
mod cors;
mod error;
mod fault;
mod framing;
mod gzip;
mod import;
mod ingest;
mod limits;
mod listen;
mod metrics;
mod ops;
mod pattern;
mod record;
mod request;
mod request_ids;
mod response;
mod rights;
mod route;
mod server;
mod store;
mod subresource;
mod tls;
mod traffic;

pub use config::{AdminToken, Certificate, EmulatorConfig, EtagMode, KeyPair};
pub use error::StartError;
pub use fault::{Delay, FaultRule, FaultRuleError, FaultStatus, Faults, Position};
pub use record::{RequestLog, RequestRecord};
pub use rights::PolicyError;
pub use route::Operation;
pub use server::Emulator;
