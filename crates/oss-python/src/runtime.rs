//! The threads that move the bytes: none before the first use, one set per process.

use std::{
    collections::HashMap,
    future, io,
    sync::{Arc, Mutex, Weak, mpsc},
};

use oss_client::{
    Client, ClientConfig, Pool, ProcessLimits, credentials::CredentialProvider, metrics::Counts, sync::lock,
};
use pyo3::{PyResult, Python, exceptions::PyRuntimeError};
use tokio::runtime::{Builder, Handle};

use crate::error;

/// One thread with its own event loop.
#[derive(Clone, Debug)]
pub(crate) struct Reactor {
    pub(crate) handle: Handle,
}

/// What the clients of the process with this id share.
struct Runtime {
    process: u32,
    reactors: Vec<Reactor>,
    limits: ProcessLimits,
    /// By what its clients have in common and the number of the reactor.
    pools: HashMap<(Vec<u8>, usize), Weak<Pool>>,
    /// Streams and readers so far: they are spread over the reactors.
    turn: usize,
}

impl Runtime {
    fn new(process: u32) -> Self {
        Self { process, reactors: Vec::new(), limits: ProcessLimits::default(), pools: HashMap::new(), turn: 0 }
    }

    /// Starts reactors until there are as many.
    fn start(&mut self, count: usize) -> PyResult<()> {
        while self.reactors.len() < count {
            let reactor = start(self.reactors.len())
                .map_err(|error| PyRuntimeError::new_err(format!("the I/O thread cannot be started: {error}")))?;
            self.reactors.push(reactor);
        }
        Ok(())
    }

    fn pool(
        &mut self,
        shared: &[u8],
        index: usize,
        config: &ClientConfig,
        provider: &Arc<dyn CredentialProvider>,
    ) -> oss_client::Result<Arc<Pool>> {
        let key = (shared.to_vec(), index);
        if let Some(pool) = self.pools.get(&key).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        let pool = Arc::new(Pool::new(config, Arc::clone(provider), self.limits.clone())?);
        self.pools.retain(|_, pool| pool.strong_count() > 0);
        self.pools.insert(key, Arc::downgrade(&pool));
        Ok(pool)
    }
}

/// Locked only while attached to the interpreter and never across a call that detaches, so a fork, which needs the
/// interpreter too, cannot find it locked.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// The runtime of this process. After a fork, that of the parent is forgotten: its threads do not exist here, and
/// shutting them down would wait for them for ever.
fn here(runtime: &mut Option<Runtime>) -> &mut Runtime {
    let process = std::process::id();
    if runtime.as_ref().is_some_and(|runtime| runtime.process != process) {
        std::mem::forget(runtime.take());
        Counts::begin();
    }
    runtime.get_or_insert_with(|| Runtime::new(process))
}

/// Makes one client for each of `count` reactors, starting those that do not run yet.
///
/// `shared` names what decides which pool a client belongs to: the same bytes, the same pool.
pub(crate) fn clients(
    py: Python<'_>,
    count: usize,
    shared: &[u8],
    config: &ClientConfig,
    provider: &Arc<dyn CredentialProvider>,
) -> PyResult<Vec<(Client, Reactor)>> {
    let mut runtime = lock(&RUNTIME);
    let runtime = here(&mut runtime);
    let count = count.max(1);
    runtime.start(count)?;
    (0..count)
        .map(|index| {
            let pool = runtime.pool(shared, index, config, provider).map_err(|cause| error::to_python(py, &cause))?;
            Ok((Client::of_pool(config.clone(), pool), runtime.reactors[index].clone()))
        })
        .collect()
}

/// What the clients of this process have now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Levels {
    /// Open connections, the idle ones included.
    pub(crate) connections: usize,
    /// Requests that streams may have in flight, all pools together.
    pub(crate) concurrency: usize,
    /// Bytes that streams and windows hold.
    pub(crate) held: usize,
}

/// The levels of this process; in a process without any client they are 0.
pub(crate) fn levels() -> Levels {
    let mut runtime = lock(&RUNTIME);
    let runtime = here(&mut runtime);
    let pools = runtime.pools.values().filter_map(Weak::upgrade);
    Levels {
        connections: runtime.limits.connections(),
        concurrency: pools.map(|pool| pool.concurrency_limit()).sum(),
        held: runtime.limits.held(),
    }
}

/// A number that is different for each stream and reader.
pub(crate) fn turn() -> usize {
    let mut runtime = lock(&RUNTIME);
    let runtime = here(&mut runtime);
    runtime.turn = runtime.turn.wrapping_add(1);
    runtime.turn
}

fn start(index: usize) -> io::Result<Reactor> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().name(format!("oss-io-{index}")).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Blocking work is name resolution and credential providers: rare, and never many at once.
            .max_blocking_threads(8)
            .thread_name("oss-blocking")
            .build();
        match runtime {
            Ok(runtime) => {
                if sender.send(Ok(runtime.handle().clone())).is_ok() {
                    runtime.block_on(future::pending::<()>());
                }
            }
            Err(error) => drop(sender.send(Err(error))),
        }
    })?;
    let handle = receiver.recv().map_err(|_| io::Error::other("the thread ended at once"))??;
    Ok(Reactor { handle })
}
