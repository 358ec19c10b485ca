//! The threads that move the bytes: none before the first use, one set per process.

use std::{
    future, io,
    sync::{Mutex, mpsc},
};

use oss_client::sync::lock;
use pyo3::{PyResult, exceptions::PyRuntimeError};
use tokio::runtime::{Builder, Handle};

/// One thread with its own event loop.
#[derive(Clone, Debug)]
pub(crate) struct Reactor {
    pub(crate) handle: Handle,
}

/// The reactors of the process with this id.
struct Runtime {
    process: u32,
    reactors: Vec<Reactor>,
}

/// Locked only while attached to the interpreter and never across a call that detaches, so a fork, which needs the
/// interpreter too, cannot find it locked.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// Returns `count` reactors of this process, starting those that do not run yet.
pub(crate) fn reactors(count: usize) -> PyResult<Vec<Reactor>> {
    let process = std::process::id();
    let mut runtime = lock(&RUNTIME);
    if runtime.as_ref().is_some_and(|runtime| runtime.process != process) {
        // After a fork. The threads do not exist here; shutting them down would wait for them for ever.
        std::mem::forget(runtime.take());
    }
    let runtime = runtime.get_or_insert(Runtime { process, reactors: Vec::new() });
    while runtime.reactors.len() < count.max(1) {
        let reactor = start(runtime.reactors.len())
            .map_err(|error| PyRuntimeError::new_err(format!("the I/O thread cannot be started: {error}")))?;
        runtime.reactors.push(reactor);
    }
    Ok(runtime.reactors[..count.max(1)].to_vec())
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
