//! What clients share: those of one process, and among them those that reach the same service in the same way.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64},
};

use crate::{
    buffer::BufferPool,
    concurrency::Concurrency,
    config::ClientConfig,
    credentials::{CredentialCache, CredentialProvider},
    descriptors::Descriptors,
    error::Result,
    memory::Memory,
    transport::Transport,
};

/// The limits of one process, which all its clients keep together.
#[derive(Clone, Debug, Default)]
pub struct ProcessLimits {
    /// Bytes that streams hold ahead of their readers.
    pub(crate) memory: Arc<Memory>,
    /// Connections.
    pub(crate) descriptors: Arc<Descriptors>,
}

impl ProcessLimits {
    /// Connections that are open, the idle ones included.
    pub fn connections(&self) -> usize {
        self.descriptors.open()
    }

    /// Bytes that streams and windows hold.
    pub fn held(&self) -> usize {
        self.memory.held()
    }
}

/// Connections, buffers and what was measured: shared by the clients of one I/O thread that have the same endpoint,
/// credentials, certificates and proxy. It ends with the last of them.
#[derive(Debug)]
pub struct Pool {
    pub(crate) credentials: CredentialCache,
    pub(crate) transport: Transport,
    /// Seconds by which the server's clock is ahead of ours.
    pub(crate) clock_offset: AtomicI64,
    pub(crate) buffers: BufferPool,
    pub(crate) concurrency: Arc<Concurrency>,
    /// Microseconds to the first byte of the quickest range so far.
    pub(crate) first_byte: AtomicU64,
    pub(crate) limits: ProcessLimits,
}

impl Pool {
    /// Makes a pool; nothing is sent yet.
    pub fn new(config: &ClientConfig, provider: Arc<dyn CredentialProvider>, limits: ProcessLimits) -> Result<Self> {
        Ok(Self {
            credentials: CredentialCache::new(provider, config.credential_refresh),
            transport: Transport::new(config, Arc::clone(&limits.descriptors))?,
            clock_offset: AtomicI64::new(0),
            buffers: BufferPool::new(config.prefetch_bytes),
            concurrency: Arc::new(Concurrency::new(config.prefetch_concurrency, config.max_concurrency)),
            first_byte: AtomicU64::new(u64::MAX),
            limits,
        })
    }

    /// How many requests its streams may have in flight now.
    pub fn concurrency_limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// Lets a client with other settings share it: the larger ones hold.
    pub(crate) fn join(&self, config: &ClientConfig) {
        self.concurrency.join(config.prefetch_concurrency, config.max_concurrency);
        self.buffers.keep(config.prefetch_bytes);
    }
}
