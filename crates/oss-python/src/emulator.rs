//! The emulator, run by this process until it is told to stop.

use std::{io::Read, path::PathBuf, sync::Arc, time::Duration};

use oss_emulator::{Emulator, EmulatorConfig, EtagMode, KeyPair};
use pyo3::{
    exceptions::{PyOSError, PyRuntimeError},
    prelude::*,
};
use tokio::{runtime::Builder, sync::Notify};

/// How often signals are looked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Serves until a signal raises, or until standard input closes where `until_stdin_closes` is set.
#[pyfunction]
#[pyo3(signature = (*, host, port, region, domain, key_pairs, buckets, root, fsync, fast_etag, verify_signatures, ready, until_stdin_closes))]
#[expect(
    clippy::too_many_arguments,
    clippy::fn_params_excessive_bools,
    reason = "one keyword for each option of the command"
)]
pub(crate) fn run_emulator(
    py: Python<'_>,
    host: String,
    port: u16,
    region: String,
    domain: Option<String>,
    key_pairs: Vec<(String, String, Option<String>)>,
    buckets: Vec<String>,
    root: Option<PathBuf>,
    fsync: bool,
    fast_etag: bool,
    verify_signatures: bool,
    ready: Py<PyAny>,
    until_stdin_closes: bool,
) -> PyResult<()> {
    let config = EmulatorConfig {
        host,
        port,
        region,
        domain,
        key_pairs: key_pairs.into_iter().map(key_pair).collect(),
        buckets,
        root,
        fsync,
        etag: if fast_etag { EtagMode::Fast } else { EtagMode::Md5 },
        verify_signatures,
    };
    let stop = Arc::new(Notify::new());
    if until_stdin_closes {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
            stop.notify_one();
        });
    }
    py.detach(|| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| PyRuntimeError::new_err(format!("the server cannot start: {error}")))?;
        runtime.block_on(serve(config, ready, stop))
    })
}

fn key_pair((id, secret, token): (String, String, Option<String>)) -> KeyPair {
    let pair = KeyPair::new(id, secret);
    match token {
        Some(token) => pair.with_security_token(token, None),
        None => pair,
    }
}

fn check_signals() -> PyResult<()> {
    Python::attach(|py| {
        py.check_signals()?;
        Ok(())
    })
}

async fn serve(config: EmulatorConfig, ready: Py<PyAny>, stop: Arc<Notify>) -> PyResult<()> {
    let emulator = Emulator::bind(config).await.map_err(|error| PyOSError::new_err(error.to_string()))?;
    let url = emulator.url();
    Python::attach(|py| ready.call1(py, (url,)))?;
    let mut raised = None;
    let signalled = async {
        loop {
            tokio::time::sleep(SIGNAL_INTERVAL).await;
            if let Err(signal) = check_signals() {
                raised = Some(signal);
                return;
            }
        }
    };
    let shutdown = async {
        tokio::select! {
            () = signalled => {}
            () = stop.notified() => {}
        }
    };
    emulator.serve(shutdown).await.map_err(|error| PyOSError::new_err(error.to_string()))?;
    raised.map_or(Ok(()), Err)
}
