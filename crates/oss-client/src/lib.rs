//! How the bytes move between this process and Alibaba Cloud OSS.
//!
//! Everything goes through one seam: [`Client::send`] signs and sends a [`Request`], retries what may be retried, and
//! returns the response head with a [`Body`] whose bytes the caller receives into memory of its choice. The operations
//! in [`ops`] are thin functions over that seam; [`prefetch`] keeps many of them in flight for datasets, and
//! [`upload`] publishes objects of any size in one step.
//!
//! A [`Client`] belongs to the tokio runtime that drives it: connections are tasks of that runtime.

mod advice;
pub mod attempt;
pub mod audit;
pub mod backoff;
pub mod buffer;
pub mod catalogue;
mod client;
pub mod coalesce;
mod concurrency;
pub mod config;
pub mod credentials;
mod descriptors;
pub mod error;
pub mod headers;
pub mod listing;
pub mod local;
pub mod memory;
pub mod metrics;
pub mod ops;
pub mod order;
pub mod paginate;
mod pool;
pub mod prefetch;
pub mod proxy;
pub mod reader;
mod request;
mod retry;
mod sizes;
pub mod sync;
mod tls;
mod transport;
pub mod upload;

pub use client::Client;
pub use config::{ClientConfig, version};
pub use error::{Error, ErrorKind, Result};
pub use pool::{Pool, ProcessLimits};
pub use request::Request;
pub use transport::{Body, Response};
